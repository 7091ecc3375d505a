"""Transposed convolutions are well-normed: an output pixel sums the taps that reach it."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modula import ChannelRMS, ConvTranspose1D, ConvTranspose2D, ConvTranspose3D
from modula.geometry import Stacked, Taps, Transposed
from modula.testing import check_atom, check_geometry
from tests.atoms.convolutions import (
    has_pixels,
    scattered,
    transposed_convolutions,
    with_weight_of_norm_one,
)
from tests.helpers import close, full, largest_gain, largest_weight_gain, rand
from tests.strategies import seeds

some = settings(max_examples=40)

KINDS = {
    "doubling": (ConvTranspose2D(2, 3), (1, 3, 2, 2)),
    "overlapping": (ConvTranspose2D(3, 2, 3, 2, 1, output_padding=1), (1, 2, 3, 3)),
    "groups": (ConvTranspose1D(4, 2, 3, 2, groups=2), (1, 2, 4)),
    "volume": (ConvTranspose3D(2, 2, (1, 2, 3)), (1, 2, 2, 2, 2)),
}


@pytest.mark.parametrize(("made", "size"), KINDS.values(), ids=KINDS)
def test_every_kind_keeps_the_laws_of_atoms(made, size):
    check_atom(made, rand(0, *size), steps=4)


@some
@given(drawn=transposed_convolutions())
def test_each_pixel_adds_its_taps_to_the_output(drawn):
    made, x = drawn
    assume(has_pixels(made, x))
    close(made(x), scattered(made, x))


@some
@given(drawn=transposed_convolutions(), seed=seeds)
def test_no_image_grows(drawn, seed):
    made, x = drawn
    assume(has_pixels(made, x))
    with_weight_of_norm_one(made, seed)
    assert largest_gain(made, x, starts=2, rounds=4) <= 1 + 1e-6


@some
@given(drawn=transposed_convolutions())
def test_no_change_of_the_weight_moves_the_output_beyond_its_norm(drawn):
    made, x = drawn
    assume(has_pixels(made, x))
    assert largest_weight_gain(made, full(made.domain, x), starts=1, rounds=4) <= 1 + 1e-6


@given(
    k=st.integers(1, 5),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    groups=st.integers(1, 2),
)
def test_taps_of_norm_one_attain_the_bound_in_every_pixel_that_they_reach(
    k, stride, dilation, groups
):
    made = ConvTranspose1D(groups, groups, k, stride, dilation=dilation, groups=groups).double()
    with torch.no_grad():
        made.weight.copy_(made.geometry.dualize(torch.ones(1, groups, 1, k).double(), "svd")[0])
        y = made(torch.ones(1, groups, 3 * k * dilation).double())
    inside = y[0, 0, y.shape[-1] // 2 :][: stride * dilation]  # away from the ends
    close(inside[inside > 0], torch.ones(int((inside > 0).sum())))
    assert inside.any()


def test_taps_in_shorter_sums_are_longer():
    geometry = ConvTranspose1D(1, 1, 3, 2).geometry
    assert geometry == Transposed(Taps(pixel_axes=1, added=((2, 1, 2),)))
    close(geometry.dualize(torch.ones(1, 1, 1, 3), "svd"), torch.tensor([[[[0.5, 1.0, 0.5]]]]))


def test_taps_in_sums_of_one_length_have_one_number():
    assert ConvTranspose2D(3, 2, 4, 2, 1).geometry == Transposed(Taps(added=4))
    assert ConvTranspose2D(4, 4, groups=4).geometry == Stacked(Transposed(Taps(added=1)), 4)


@pytest.mark.parametrize("added", [((2, 1, 2), (2, 1, 2)), ((3, 3, 3), (1, 1, 1))])
def test_taps_in_sums_of_several_lengths_have_a_norm_with_its_duality_map(added):
    check_geometry(Taps(added=added), (3, 2, 3, 3))


def test_taps_refuse_numbers_for_another_kernel():
    with pytest.raises(ValueError, match="take the numbers of added taps for each of them"):
        Taps(added=((1, 2),))
    with pytest.raises(ValueError, match=r"got a kernel of shape \[1, 1, 2, 2\]"):
        Taps(added=((1, 2), (1, 1, 1))).norm(torch.ones(1, 1, 1, 2, 2))


def test_by_default_it_doubles_the_size():
    assert ConvTranspose2D(3, 2)(torch.ones(1, 2, 4, 5)).shape == (1, 3, 8, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 0}, "a stride of at least 1"),
        ({"output_padding": 2}, "an output_padding below the stride or the dilation"),
        ({"groups": 2}, "got groups=2 for 2 and 3 channels"),
        ({"kernel_size": (2,)}, r"a tuple of 2; got kernel_size=\(2,\)"),
    ],
)
def test_an_impossible_argument_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^ConvTranspose2D .*{message}"):
        ConvTranspose2D(3, 2, **arguments)


def test_an_image_of_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"takes ChannelRMS\(2\).*\[1, 3, 5, 5\]"):
        ConvTranspose2D(3, 2)(torch.ones(1, 3, 5, 5))


@given(drawn=transposed_convolutions())
def test_the_arguments_are_printed_as_they_can_be_written(drawn):
    made, _ = drawn
    kinds = (ConvTranspose1D, ConvTranspose2D, ConvTranspose3D)
    again = eval(repr(made), {kind.__name__: kind for kind in kinds})
    assert repr(again) == repr(made)
    assert again.geometry == made.geometry


def test_one_step_moves_pixels_by_at_most_one():
    made = ConvTranspose2D(8, 8, 4, 2, 1).double()
    x = full(made.domain, rand(0, 1, 8, 1, 1)).expand(1, 8, 4, 4)
    update = made.dualize(made.gradient((made(x) * rand(1, 8, 1, 1)).sum()), method="svd")
    with torch.no_grad():
        made.weight.copy_(update["weight"])
    close(ChannelRMS.measure(made(x)), 1.0)
