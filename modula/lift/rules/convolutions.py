"""Convolutions in any number of dimensions, with groups, strides and dilation, and transposed.

Their norms are those of the atoms: `modula.geometry.convolution_geometry`.
"""

from __future__ import annotations

import math

from modula.geometry import (
    Geometry,
    Vectors,
    convolution_geometry,
    transposed_convolution_geometry,
)
from modula.lift.rules.base import Kernels, Role, Use, rule_for
from modula.lift.rules.matrices import bias
from modula.norms import RMS


@rule_for("conv1d", "conv2d", "conv3d")
def convolution(use: Use) -> Role | None:
    """A convolution, for a kernel stored as [out, in/groups, *pixels]."""
    if use.slot != "weight":
        return bias(use) if use.slot == "bias" else _image(use)
    kernel, stride, dilation, groups = _sizes(use)
    if groups == math.prod(kernel) == 1 and not use.view.is_whole:
        return use.matrix(out=[0], into=[1], feature_axis=None)
    cuts = use.cuts(len(use.call.shapes[0]) - len(kernel) - 1) if groups == 1 else ()
    return _each(use, convolution_geometry(kernel, stride, dilation, groups), cuts)


@rule_for("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(use: Use) -> Role | None:
    """A transposed convolution, for a kernel stored as [in, out/groups, *pixels]."""
    if use.slot != "weight":
        return bias(use) if use.slot == "bias" else _image(use)
    return _each(use, transposed_convolution_geometry(*_sizes(use)))


@rule_for("grid_sample", "interpolate")
def resampled(use: Use) -> Role | None:
    """A learned image that is resampled."""
    return _image(use)


def _sizes(use: Use) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """The sizes of a kernel, its strides, its dilation, and the number of groups."""
    kernel = use.view.shape[2:]
    stride, dilation = (
        tuple(use.call.numbers(name, len(kernel), 1)) for name in ("stride", "dilation")
    )
    return kernel, stride, dilation, use.call.number("groups", 1)


def _each(use: Use, kernel: Geometry, cuts: tuple[int, ...] = ()) -> Role | None:
    """Kernels that are read with their axes in order; others of the parameter count kernels."""
    refined = use.view.refined()
    if refined is None or any(len(axes) != 1 for axes in refined.axes):
        return None
    own = [axes[0] for axes in refined.axes]
    if own != sorted(own):
        return None
    others = tuple([k for k in range(len(refined.shape)) if k not in own])
    shape = None if refined.shape == use.shape else refined.shape
    return Role("matrix", Kernels(kernel, use.view.shape[0], others, cuts, shape))


def _image(use: Use) -> Role | None:
    """A learned image [batch, channel, *pixels], whose pixels are vectors of channels."""
    axis = use.view.axis_of(1) if len(use.view.shape) > 2 else None
    if axis is None:
        return None
    return Role("table", Vectors(RMS, axes=len(use.shape), axis=axis))
