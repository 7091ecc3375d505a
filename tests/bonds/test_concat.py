"""`Concat`: widths, and bounds that are reached."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import (
    L2,
    RMS,
    ChannelRMS,
    CompositionError,
    Concat,
    Conv2D,
    HeadRMS,
    Identity,
    Linear,
    Linf,
    ReLU,
)
from modula.testing import check_bond, check_network
from tests.helpers import close, rand
from tests.strategies import seeds

widths = st.lists(st.integers(1, 5), min_size=1, max_size=4)
SHAPES = {RMS: (2, 5), HeadRMS: (1, 2, 3), ChannelRMS: (2,)}


def parts(norm, widths, seed):
    """One random tensor of each width."""
    shape = SHAPES[norm]
    if norm is ChannelRMS:
        return tuple(rand(seed + i, 2, d, 3, 3) for i, d in enumerate(widths))
    return tuple(rand(seed + i, *shape, d) for i, d in enumerate(widths))


@pytest.mark.parametrize("norm", SHAPES)
@settings(max_examples=3)
@given(widths=widths, seed=seeds)
def test_its_bounds_are_proved_with_and_without_widths(norm, widths, seed):
    for bond in (Concat(norm=norm), Concat(*widths, norm=norm)):
        ratios = check_bond(bond, parts(norm, widths, seed), steps=3)
        assert max(ratios.input, ratios.radius) <= 1 + 1e-9


@pytest.mark.parametrize("widths", [(3,), (1, 3), (2, 2, 4)])
def test_the_bounds_are_reached(widths):
    ones = tuple(torch.ones(1, d).double() for d in widths)
    ratios = check_bond(Concat(*widths), ones)
    close(ratios.input, 1.0)
    close(ratios.radius, 1.0)


@given(widths=widths, seed=seeds)
def test_the_mean_square_is_the_weighted_mean_of_the_parts(widths, seed):
    x = parts(RMS, widths, seed)
    d = sum(widths)
    expected = sum(w / d * RMS.norm(part) ** 2 for w, part in zip(widths, x, strict=True))
    close(RMS.norm(Concat()(x)) ** 2, expected)


def test_the_sensitivity_follows_from_the_widths():
    assert Concat(1, 3).sensitivity == math.sqrt(3 / 4)
    assert Concat().sensitivity == 1.0


def test_channels_are_joined_on_their_own_axis():
    x = rand(0, 2, 3, 4, 4), rand(1, 2, 5, 4, 4)
    assert torch.equal(Concat(norm=ChannelRMS)(x), torch.cat(x, dim=1))


def test_widths_are_inferred_forwards_and_backwards():
    network = Concat() @ (Linear(3, 4), Linear(5, 4))
    assert str(network.codomain) == "RMS(8)"
    network = Linear(2, 7) @ Concat() @ (Identity(), Linear(3, 4) @ ReLU())
    assert str(network.domain) == "RMS(4)"


@pytest.mark.parametrize(
    "build",
    [
        lambda: Linear(2, 9) @ Concat() @ (Linear(3, 4), Linear(5, 4)),
        lambda: Concat(3, 6) @ (Linear(3, 4), Linear(5, 4)),
        lambda: Linear(2, 3) @ Concat() @ (Linear(3, 4), Identity()),
        lambda: Concat() @ Linear(3, 4),
        lambda: Concat() @ (Conv2D(3, 4), Identity()),
    ],
)
def test_widths_and_norms_that_do_not_fit_are_refused(build):
    with pytest.raises(CompositionError):
        build()


@pytest.mark.parametrize(
    ("bond", "x"),
    [
        (Concat(), (torch.ones(2, 3), torch.ones(1, 3))),
        (Concat(3, 4), (torch.ones(2, 3), torch.ones(2, 3))),
        (Concat(norm=ChannelRMS), (torch.ones(2, 3, 4, 4), torch.ones(2, 3, 5, 4))),
    ],
)
def test_tensors_that_differ_in_more_than_their_widths_are_refused(bond, x):
    with pytest.raises(ValueError, match="differ in their width alone"):
        bond(x)


@pytest.mark.parametrize("norm", [Linf, L2])
def test_a_norm_that_is_no_mean_is_refused(norm):
    with pytest.raises(TypeError, match="weighted by their widths"):
        Concat(norm=norm)


def test_a_width_below_one_is_refused():
    with pytest.raises(ValueError, match="widths of at least 1"):
        Concat(3, 0)


def test_a_network_with_a_skip_obeys_its_laws():
    inner = ReLU() @ Linear(4, 6)
    check_network(
        Linear(2, 10) @ Concat(6, 4) @ (Identity(), inner) @ Linear(6, 3),
        torch.randn(5, 3),
        steps=5,
    )
