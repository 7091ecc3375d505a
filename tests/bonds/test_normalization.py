"""Centring, normalising, averaging: proved where they are linear, and as conditional as they say
where they are not.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import RMS, LayerNorm, Mean, MeanSubtract, RMSNorm
from modula.spaces import Space
from tests.helpers import close, largest_gain, rand, step_gain
from tests.strategies import seeds

few = settings(max_examples=15)
widths = st.integers(2, 6)


def sized(seed: int, d: int, size: float) -> torch.Tensor:
    """Vectors whose RMS is `size`."""
    x = rand(seed, 3, d)
    return size * x / RMS.norm(x).unsqueeze(-1)


def test_mean_subtract_attains_its_sensitivity():
    close(step_gain(MeanSubtract(), rand(0, 1, 2), torch.tensor([[1.0, -1.0]]).double()), 1.0)


@given(seed=seeds, d=widths)
def test_mean_subtract_is_a_projection(seed, d):
    once = MeanSubtract()(rand(seed, 3, d))
    close(once.mean(dim=-1), torch.zeros(3))
    close(MeanSubtract()(once), once)


def test_mean_attains_its_sensitivity():
    close(step_gain(Mean(), rand(0, 2, 3, 4), torch.ones(2, 3, 4).double()), 1.0)


def test_mean_averages_positions():
    x = rand(0, 2, 3, 4)
    close(Mean()(x), (x[:, 0] + x[:, 1] + x[:, 2]) / 3)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_mean_refuses_the_axis_of_the_features(axis):
    with pytest.raises(ValueError, match=f"got axis={axis}"):
        Mean(axis)


@few
@given(seed=seeds, d=widths, size=st.floats(1.0, 10.0))
def test_rms_norm_grows_no_change_of_an_input_of_rms_at_least_one(seed, d, size):
    assert largest_gain(RMSNorm(), sized(seed, d, size)) <= 1 + 1e-9


@few
@given(seed=seeds, d=widths, size=st.floats(0.05, 1.0))
def test_rms_norm_of_a_smaller_input_has_the_sensitivity_that_it_says(seed, d, size):
    close(largest_gain(RMSNorm(), sized(seed, d, size)), 1 / size, rtol=1e-4)


@given(seed=seeds, d=widths, scale=st.floats(1e-3, 1e3))
def test_rms_norm_gives_rms_one(seed, d, scale):
    close(RMS.norm(RMSNorm()(scale * rand(seed, 3, d))), torch.ones(3), rtol=1e-6)


def test_rms_norm_keeps_zero():
    assert not RMSNorm()(torch.zeros(2, 3)).any()


def test_rms_norm_adds_eps_to_the_mean_square():
    x = rand(0, 2, 3)
    close(RMSNorm(eps=0.5)(x), x / (x.square().mean(-1, keepdim=True) + 0.5).sqrt())


@few
@given(seed=seeds, d=st.integers(3, 6), size=st.floats(1.0, 10.0), shift=st.floats(-5, 5))
def test_layer_norm_grows_no_change_of_an_input_that_spreads_by_at_least_one(seed, d, size, shift):
    centred = MeanSubtract()(rand(seed, 3, d))
    x = shift + size * centred / RMS.norm(centred).unsqueeze(-1)
    assert largest_gain(LayerNorm(), x) <= 1 + 1e-9


@given(seed=seeds, d=st.integers(3, 6))
def test_layer_norm_is_rms_norm_after_mean_subtract(seed, d):
    x = rand(seed, 3, d)
    close(LayerNorm(eps=1e-12)(x), (RMSNorm(eps=1e-12) @ MeanSubtract())(x))


@pytest.mark.parametrize("bond", [MeanSubtract(), RMSNorm(), LayerNorm(), Mean()], ids=repr)
def test_output_is_as_wide_as_the_input(bond):
    from modula import Linear

    assert (bond @ Linear(3, 4)).codomain == Space(RMS, 3)
