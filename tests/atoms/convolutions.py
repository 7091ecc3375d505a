"""Convolutions of every kind: hypothesis strategies of small ones, and a plain implementation."""

import itertools
import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from modula.atoms import (
    Conv1D,
    Conv2D,
    Conv3D,
    ConvTranspose1D,
    ConvTranspose2D,
    ConvTranspose3D,
)
from modula.atoms.conv import Convolution
from modula.atoms.conv_kernel import Kernel
from modula.atoms.conv_transpose import TransposedConvolution
from tests.helpers import rand

DIRECT = {1: Conv1D, 2: Conv2D, 3: Conv3D}
TRANSPOSED = {1: ConvTranspose1D, 2: ConvTranspose2D, 3: ConvTranspose3D}


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Convolution, Tensor]:
    """A convolution and an image on which it has an output."""
    axes = draw(st.sampled_from([1, 1, 2, 2, 3]))
    sizes = st.tuples(*[st.integers(1, 3 if axes < 3 else 2)] * axes)
    kernel, stride, dilation = draw(sizes), draw(sizes), draw(sizes)
    groups = draw(st.integers(1, 2))
    out_channels, in_channels = (groups * draw(st.integers(1, 2)) for _ in range(2))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    if draw(st.booleans()):
        stride, padding = (1,) * axes, "same"
    else:
        padding = draw(st.none() | st.tuples(*[st.integers(0, 2)] * axes))
    made = DIRECT[axes](
        out_channels,
        in_channels,
        kernel,
        stride,
        padding,
        dilation=dilation,
        groups=groups,
        padding_mode=mode,
    )
    least = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [
        max(n, max(p) + 1) for n, *p in zip(least, made.padding, made.padding_after, strict=True)
    ]
    return made.double(), rand(draw(st.integers(0, 99)), 1, in_channels, *size)


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> tuple[TransposedConvolution, Tensor]:
    """A transposed convolution and an image on which it has an output."""
    axes = draw(st.sampled_from([1, 1, 2, 2, 3]))
    most = 4 if axes == 1 else 3 if axes == 2 else 2
    sizes = st.tuples(*[st.integers(1, most)] * axes)
    kernel, stride, dilation = draw(sizes), draw(sizes), draw(sizes)
    groups = draw(st.integers(1, 2))
    out_channels, in_channels = (groups * draw(st.integers(1, 2)) for _ in range(2))
    extra = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)]
    made = TRANSPOSED[axes](
        out_channels,
        in_channels,
        kernel,
        stride,
        draw(st.integers(0, 1)),
        output_padding=tuple(extra),
        dilation=dilation,
        groups=groups,
    )
    return made.double(), rand(draw(st.integers(0, 99)), 1, in_channels, *[3] * axes)


def with_weight_of_norm_one(made: Kernel, seed: int) -> None:
    """Give a convolution a random weight, each of whose matrices has the largest norm it may."""
    weight = made.geometry.project(rand(seed, 1, *made.weight.shape))
    with torch.no_grad():
        made.weight.copy_(weight[0] / made.geometry.norm(weight)[0])


def scattered(made: TransposedConvolution, x: Tensor) -> Tensor:
    """A transposed convolution, tap by tap and pixel by pixel."""
    count = made.groups
    _, inner, *kernel = made.weight.shape
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, s, p, d, k, o in zip(
            x.shape[2:], made.stride, made.padding, made.dilation, kernel, made.output_padding,
            strict=True,
        )
    ]  # fmt: skip
    y = torch.zeros(x.shape[0], count * inner, *[max(size, 0) for size in sizes]).double()
    weights, groups = made.weight.detach().chunk(count), x.chunk(count, dim=1)
    for pixel in itertools.product(*map(range, x.shape[2:])):
        for tap in itertools.product(*map(range, kernel)):
            place = [
                n * s + k * d - p
                for n, s, k, d, p in zip(
                    pixel, made.stride, tap, made.dilation, made.padding, strict=True
                )
            ]
            if all(0 <= at < size for at, size in zip(place, sizes, strict=True)):
                parts = [
                    group[(slice(None), slice(None), *pixel)] @ w[(slice(None), slice(None), *tap)]
                    for w, group in zip(weights, groups, strict=True)
                ]
                y[(slice(None), slice(None), *place)] += torch.cat(parts, dim=1)
    return y


def has_pixels(made: TransposedConvolution, x: Tensor) -> bool:
    """Whether the output has pixels after its padding is left out."""
    return math.prod(scattered(made, x).shape) > 0
