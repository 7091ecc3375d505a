"""Convolutions in any number of dimensions, with groups, strides and dilation, and transposed.

The norm is the number of taps that one output pixel adds, times the largest norm of a tap: then
‖W∗x‖ ≤ ‖W‖·‖x‖ in the largest RMS over pixels, by the triangle inequality. Each group maps its own
channels. Where patches do not overlap the kernel is one matrix, whose operator norm is the bound.
"""

from __future__ import annotations

import math

from modula.geometry import Flattened, Geometry, Spectral, Stacked, Taps, Transposed
from modula.lift.rules.base import Role, Use, rule_for
from modula.lift.rules.matrices import bias
from modula.norms import RMS


@rule_for("conv1d", "conv2d", "conv3d")
def convolution(use: Use) -> Role | None:
    """A convolution, for a kernel stored as [out, in/groups, *pixels]."""
    if use.slot != "weight":
        return bias(use) if use.slot == "bias" else None
    if not use.view.is_whole:
        return None
    kernel, groups = use.shape[2:], use.call.number("groups", 1)
    strides = use.call.numbers("stride", len(kernel), 1)
    block: Geometry = Taps(pixel_axes=len(kernel))
    if math.prod(kernel) > 1 and all(s >= k for s, k in zip(strides, kernel, strict=True)):
        block = Flattened(Spectral(RMS, RMS), 1, 1 + len(kernel))
    return Role("matrix", block if groups == 1 else Stacked(block, groups))


@rule_for("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(use: Use) -> Role | None:
    """A transposed convolution, for a kernel stored as [in, out/groups, *pixels]."""
    if use.slot != "weight":
        return bias(use) if use.slot == "bias" else None
    if not use.view.is_whole:
        return None
    kernel, groups = use.shape[2:], use.call.number("groups", 1)
    strides = use.call.numbers("stride", len(kernel), 1)
    added = math.prod([math.ceil(k / s) for k, s in zip(kernel, strides, strict=True)])
    block = Transposed(Taps(pixel_axes=len(kernel), added=added))
    return Role("matrix", block if groups == 1 else Stacked(block, groups))
