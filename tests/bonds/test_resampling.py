"""Upsampling and shuffling of pixels: averages and rearrangements, and what they do to norms."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from modula import (
    RMS,
    ChannelRMS,
    CompositionError,
    Conv2D,
    Linear,
    Patchify,
    PixelShuffle,
    PixelUnshuffle,
    Upsample,
)
from modula.spaces import Space
from modula.testing import check_bond
from tests.helpers import close, rand, step_gain

PROVED = {
    "nearest": (Upsample(2), (1, 2, 3, 3)),
    "sequence": (Upsample(3, "linear"), (2, 2, 4)),
    "bilinear": (Upsample(1.5, "linear"), (1, 2, 4, 2)),
    "trilinear": (Upsample(2, "linear"), (1, 2, 2, 2, 2)),
    "unshuffled": (PixelUnshuffle(2), (1, 2, 4, 2)),
    "patches": (Patchify(2), (1, 3, 4, 6)),
    "rectangular patches": (Patchify((1, 3)), (1, 2, 2, 6)),
}


@pytest.mark.parametrize(("bond", "size"), PROVED.values(), ids=PROVED)
def test_proved_bounds_hold_and_are_attained(bond, size):
    ratios = check_bond(bond, rand(0, *size), steps=4)
    close([ratios.input, ratios.radius], [1, 1], rtol=1e-6)


def test_the_nearest_pixel_is_copied():
    x = rand(0, 1, 2, 3, 4)
    close(Upsample(2)(x), x.repeat_interleave(2, -1).repeat_interleave(2, -2))


@given(seed=st.integers(0, 99), scale=st.integers(1, 3))
def test_a_constant_image_stays_constant(seed, scale):
    pixel = rand(seed, 1, 3, 1, 1)
    up = Upsample(scale, "linear")(pixel.expand(1, 3, 2, 3))
    close(up, pixel.expand(1, 3, 2 * scale, 3 * scale))


@given(seed=st.integers(0, 99), r=st.integers(1, 3))
def test_shuffling_undoes_unshuffling(seed, r):
    x = rand(seed, 1, 2, 2 * r, 3 * r)
    assert torch.equal(PixelShuffle(r)(PixelUnshuffle(r)(x)), x)


@pytest.mark.parametrize("r", [2, 3])
def test_a_pixel_in_one_part_of_the_channels_grows_by_r(r):
    x = torch.zeros(1, 2 * r * r, 1, 1).double()
    x[0, [0, r * r]] = 1.0
    close(step_gain(PixelShuffle(r), torch.zeros_like(x), x), float(r))


@given(seed=st.integers(0, 99), r=st.integers(1, 3))
def test_a_pixel_that_is_spread_evenly_does_not_grow(seed, r):
    """The condition that the bond names."""
    x = rand(seed, 1, 2 * r * r, 2, 2).sign()
    close(ChannelRMS.measure(PixelShuffle(r)(x)), ChannelRMS.measure(x))


def test_patches_are_those_of_a_convolution():
    x, linear, conv = rand(0, 2, 3, 4, 6), Linear(5, 12).double(), Conv2D(5, 3, 2, 2, 0).double()
    with torch.no_grad():
        conv.weight.copy_(linear.weight.view(5, 3, 2, 2))
    close((linear @ Patchify(2))(x), conv(x).flatten(2).mT)


def test_patches_are_in_the_order_of_reading():
    x = rand(0, 1, 2, 4, 6)
    close(Patchify((2, 3))(x), F.unfold(x, (2, 3), stride=(2, 3)).mT)


@pytest.mark.parametrize(
    ("module", "domain", "codomain"),
    [
        (PixelShuffle(2) @ Conv2D(8, 3), Space(ChannelRMS, 3), Space(ChannelRMS, 2)),
        (Conv2D(1, 2) @ PixelShuffle(2), Space(ChannelRMS, 8), Space(ChannelRMS, 1)),
        (PixelUnshuffle(2) @ Conv2D(2, 3), Space(ChannelRMS, 3), Space(ChannelRMS, 8)),
        (Conv2D(1, 8) @ PixelUnshuffle(2), Space(ChannelRMS, 2), Space(ChannelRMS, 1)),
        (Linear(7, 12) @ Patchify(2), Space(ChannelRMS, 3), Space(RMS, 7)),
        (Patchify((1, 2)) @ Conv2D(2, 3), Space(ChannelRMS, 3), Space(RMS, 4)),
        (Upsample() @ Conv2D(2, 3), Space(ChannelRMS, 3), Space(ChannelRMS, 2)),
    ],
)
def test_widths_follow(module, domain, codomain):
    assert module.signature == (domain, codomain)


@pytest.mark.parametrize(
    ("compose", "message"),
    [
        (lambda: PixelShuffle(2) @ Conv2D(6, 3), "6 is not a multiple of 4"),
        (lambda: Linear(2, 10) @ Patchify(2), "10 is not a multiple of 4"),
        (lambda: Linear(2, 8) @ Patchify(2) @ Conv2D(3, 1), "ChannelRMS(2) is not ChannelRMS(3)"),
    ],
)
def test_widths_that_do_not_divide_are_refused(compose, message):
    with pytest.raises(CompositionError, match=re.escape(message)):
        compose()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Upsample(0), "a finite scale above 0, got 0"),
        (lambda: Upsample(2, "cubic"), "the mode 'nearest' or 'linear', got 'cubic'"),
        (lambda: PixelShuffle(0), "a factor of at least 1, got 0"),
        (lambda: PixelUnshuffle(0), "a factor of at least 1, got 0"),
        (lambda: Patchify(0), "got patch_size=0"),
        (lambda: Patchify(3)(torch.ones(1, 1, 4, 6)), r"patches of 3×3 pixels.*\[1, 1, 4, 6\]"),
        (lambda: Upsample(2, "linear")(torch.ones(2, 3)), "one to three axes of pixels"),
    ],
)
def test_impossible_arguments_and_images_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
