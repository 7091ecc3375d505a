"""Centring, normalising, averaging: proved where they are linear, and as conditional as they say
where they are not.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from modula import (
    RMS,
    ChannelGroupNorm,
    ChannelLayerNorm,
    ChannelRMS,
    ChannelRMSNorm,
    CompositionError,
    Conv2D,
    GroupNorm,
    LayerNorm,
    Linear,
    Mean,
    MeanSubtract,
    RMSNorm,
)
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
    assert (bond @ Linear(3, 4)).codomain == Space(RMS, 3)


CHANNELS = {ChannelRMSNorm: RMSNorm, ChannelLayerNorm: LayerNorm}


@pytest.mark.parametrize(("kind", "of_features"), CHANNELS.items())
@pytest.mark.parametrize("pixels", [(4,), (2, 3), (2, 1, 2)])
def test_a_norm_of_channels_normalises_each_pixel(kind, of_features, pixels):
    x = rand(0, 2, 5, *pixels)
    close(kind()(x).movedim(1, -1), of_features()(x.movedim(1, -1)))


@few
@given(seed=seeds, kind=st.sampled_from([ChannelRMSNorm, ChannelLayerNorm]))
def test_a_norm_of_channels_keeps_its_conditional_bound(seed, kind):
    pixels = MeanSubtract()(rand(seed, 4, 3))
    pixels = 1.5 * pixels / RMS.norm(pixels).unsqueeze(-1)
    assert largest_gain(kind(), pixels.T[None]) <= 1 + 1e-9


@few
@given(seed=seeds, groups=st.integers(1, 3), size=st.floats(1.0, 5.0))
def test_group_norm_grows_no_change_of_groups_that_spread_by_at_least_one(seed, groups, size):
    centred = MeanSubtract()(rand(seed, 2, groups, 4))
    x = 3 + size * centred / RMS.norm(centred).unsqueeze(-1)
    assert largest_gain(GroupNorm(groups), x.flatten(1)) <= 1 + 1e-9


@given(seed=seeds, groups=st.integers(1, 3))
def test_group_norms_are_those_of_torch(seed, groups):
    features, image = rand(seed, 4, 6 * groups), rand(seed, 2, 2 * groups, 3, 2)
    close(GroupNorm(groups)(features), F.group_norm(features, groups))
    close(ChannelGroupNorm(groups)(image), F.group_norm(image, groups))


@few
@given(seed=seeds)
def test_group_norm_of_images_is_bounded_in_the_rms_over_all_entries(seed):
    """What its estimate says."""
    x = rand(seed, 1, 4, 2, 2)
    groups = x.view(1, 2, -1)
    groups = (groups - groups.mean(-1, keepdim=True)) / groups.std(-1, correction=0, keepdim=True)
    x, bond = 1.5 * groups.view(x.shape), ChannelGroupNorm(2)
    J = torch.autograd.functional.jacobian(bond, x).reshape(16, 16)
    assert torch.linalg.matrix_norm(J, 2) <= 1 + 1e-9
    assert bond(x).square().mean() <= 1 + 1e-9


def test_group_norm_of_images_may_enlarge_a_pixel_by_the_root_of_their_number():
    x = torch.zeros(1, 2, 10).double()
    x[0, :, 0] = torch.tensor([1.0, -1.0])
    close(ChannelRMS.measure(ChannelGroupNorm(1, eps=0.0)(x)), 10**0.5)


@pytest.mark.parametrize("bond", [GroupNorm(2), GroupNorm(4)], ids=repr)
def test_group_norm_refuses_a_width_that_does_not_split(bond):
    with pytest.raises(CompositionError, match="6 does not split into 4"):
        GroupNorm(4) @ Linear(6, 2)
    assert (bond @ Linear(8, 2)).codomain == Space(RMS, 8)


@pytest.mark.parametrize("kind", [GroupNorm, ChannelGroupNorm])
def test_a_group_norm_without_groups_is_refused(kind):
    with pytest.raises(ValueError, match="at least 1 group, got 0"):
        kind(0)


@pytest.mark.parametrize(
    "bond", [ChannelRMSNorm(), ChannelLayerNorm(), ChannelGroupNorm(1)], ids=repr
)
def test_an_image_is_as_wide_as_before(bond):
    assert (bond @ Conv2D(3, 4)).codomain == Space(ChannelRMS, 3)
