"""Pooling over windows: means keep every bound, maxima are as conditional as they say."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import (
    AdaptiveAvgPool1D,
    AdaptiveAvgPool2D,
    AdaptiveAvgPool3D,
    AdaptiveMaxPool1D,
    AdaptiveMaxPool2D,
    AdaptiveMaxPool3D,
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    ChannelRMS,
    Conv2D,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
)
from modula.spaces import Space
from modula.testing import check_bond
from tests.helpers import close, largest_gain, rand, step_gain
from tests.strategies import seeds

few = settings(max_examples=15)

MEANS = {
    "1D": (AvgPool1D(3, 2, 1), (2, 3, 7)),
    "2D": (AvgPool2D((2, 1), 1), (1, 2, 4, 3)),
    "3D": (AvgPool3D(2), (1, 2, 2, 4, 2)),
    "adaptive 1D": (AdaptiveAvgPool1D(3), (2, 3, 7)),
    "adaptive 2D": (AdaptiveAvgPool2D((2, 3)), (1, 2, 5, 4)),
    "adaptive 3D": (AdaptiveAvgPool3D(2), (1, 2, 3, 2, 3)),
}


@pytest.mark.parametrize(("bond", "size"), MEANS.values(), ids=MEANS)
def test_means_keep_the_laws_of_bonds(bond, size):
    ratios = check_bond(bond, rand(0, *size), steps=4)
    close([ratios.input, ratios.radius], [1, 1], rtol=1e-6)


def test_a_window_takes_the_mean():
    x = rand(0, 1, 2, 4, 6)
    close(AvgPool2D(2)(x), x.unflatten(-1, (3, 2)).unflatten(-3, (2, 2)).mean(dim=(-1, -3)))


def test_a_window_takes_the_maximum():
    x = rand(0, 1, 2, 4, 6)
    close(MaxPool2D(2)(x), x.unflatten(-1, (3, 2)).unflatten(-3, (2, 2)).amax(dim=(-1, -3)))


@given(size=st.integers(1, 9), to=st.integers(1, 9))
def test_an_adaptive_window_gives_the_size(size, to):
    for kind in (AdaptiveAvgPool1D, AdaptiveMaxPool1D):
        assert kind(to)(torch.ones(1, 2, size)).shape == (1, 2, to)


@pytest.mark.parametrize(
    ("adaptive", "plain"),
    [
        (AdaptiveMaxPool1D, MaxPool1D),
        (AdaptiveMaxPool2D, MaxPool2D),
        (AdaptiveMaxPool3D, MaxPool3D),
    ],
)
def test_adaptive_windows_that_divide_the_image_are_plain_windows(adaptive, plain):
    x = rand(0, 2, 3, *[6] * plain.pixel_axes)
    close(adaptive(3)(x), plain(2)(x))


def test_an_adaptive_maximum_of_size_one_is_the_largest_value_of_each_channel():
    x = rand(0, 2, 3, 5, 4)
    close(AdaptiveMaxPool2D(1)(x)[..., 0, 0], x.amax(dim=(-2, -1)))


@pytest.mark.parametrize("channels", [2, 5])
def test_adaptive_maxima_of_different_pixels_grow_by_the_root_of_their_number(channels):
    close(ChannelRMS.measure(AdaptiveMaxPool1D(1)(spikes(channels))), math.sqrt(channels))


def spikes(window: int) -> torch.Tensor:
    """As many channels as pixels, each with its maximum at a pixel of its own; pixels of norm 1."""
    return math.sqrt(window) * torch.eye(window).double()[None]


@pytest.mark.parametrize("window", [2, 3, 4])
def test_maxima_at_different_pixels_grow_by_the_root_of_the_window(window):
    x = spikes(window)
    close(ChannelRMS.measure(x), 1.0)
    close(ChannelRMS.measure(MaxPool1D(window)(x)), math.sqrt(window))
    close(step_gain(MaxPool1D(window), x, x), math.sqrt(window))


@few
@given(seed=seeds, channels=st.integers(1, 4), window=st.integers(1, 3))
def test_no_maximum_grows_beyond_the_root_of_window_or_channels(seed, channels, window):
    x = rand(seed, 1, channels, 2 * window)
    assert largest_gain(MaxPool1D(window), x) <= math.sqrt(min(window, channels)) + 1e-9


@few
@given(seed=seeds, channels=st.integers(1, 4), window=st.integers(1, 3))
def test_changes_of_equal_entries_do_not_grow(seed, channels, window):
    """The condition that the bond names."""
    x, change = rand(seed, 1, channels, 2 * window), rand(seed + 1, 1, channels, 2 * window).sign()
    assert step_gain(MaxPool1D(window), x, change) <= 1 + 1e-9


@pytest.mark.parametrize("kind", [MaxPool1D, MaxPool2D, MaxPool3D, AvgPool1D, AvgPool2D, AvgPool3D])
def test_a_pool_of_size_two_halves_every_axis(kind):
    axes = kind.pixel_axes
    assert kind()(torch.ones(2, 3, *[4] * axes)).shape == (2, 3, *[2] * axes)


@pytest.mark.parametrize("bond", [MaxPool2D(2), AvgPool2D(3, 1), AdaptiveAvgPool2D(1)], ids=repr)
def test_a_pool_is_as_wide_as_its_neighbour(bond):
    assert (bond @ Conv2D(5, 3)).codomain == Space(ChannelRMS, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaxPool2D(0), r"MaxPool2D takes .*got kernel_size=0"),
        (lambda: AvgPool1D(2, 0), r"AvgPool1D takes a stride of at least 1.*stride=0"),
        (lambda: AvgPool2D(2, padding=2), "at most half of a window; got padding=2"),
        (lambda: AdaptiveAvgPool2D((1, 2, 3)), "an output_size of at least 1.*a tuple of 2"),
    ],
)
def test_an_impossible_argument_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("bond", [MaxPool2D(), AvgPool2D(), AdaptiveAvgPool2D(1)], ids=repr)
def test_another_number_of_axes_is_refused(bond):
    with pytest.raises(ValueError, match=r"takes \[batch, channel, height, width\]; got a tensor"):
        bond(torch.ones(2, 4, 4))


@pytest.mark.parametrize(
    ("bond", "written"),
    [
        (MaxPool2D(3, stride=2, padding=1), "MaxPool2D(3, stride=2, padding=1)"),
        (AvgPool2D((2, 1)), "AvgPool2D((2, 1))"),
        (AdaptiveAvgPool1D(4), "AdaptiveAvgPool1D(4)"),
        (AdaptiveMaxPool2D((4, 2)), "AdaptiveMaxPool2D((4, 2))"),
    ],
)
def test_it_prints_what_differs_from_the_default(bond, written):
    assert repr(bond) == written
