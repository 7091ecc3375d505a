"""Convolutions in any number of dimensions, with groups, strides and dilation, and transposed."""

from __future__ import annotations

from modula.geometry import convolution_geometry, transposed_convolution_geometry
from modula.lift.rules.base import Role, Use, rule_for
from modula.lift.rules.matrices import bias


@rule_for("conv1d", "conv2d", "conv3d")
def convolution(use: Use) -> Role | None:
    """A convolution, for a kernel stored as [out, in/groups, *pixels]."""
    if use.slot != "weight":
        return bias(use) if use.slot == "bias" else None
    if not use.view.is_whole:
        return None
    return Role("matrix", convolution_geometry(*_sizes(use)))


@rule_for("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed_convolution(use: Use) -> Role | None:
    """A transposed convolution, for a kernel stored as [in, out/groups, *pixels]."""
    if use.slot != "weight":
        return bias(use) if use.slot == "bias" else None
    if not use.view.is_whole:
        return None
    return Role("matrix", transposed_convolution_geometry(*_sizes(use)))


def _sizes(use: Use) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """The size of the kernel, the stride, the dilation, and the number of groups."""
    kernel = use.shape[2:]
    stride, dilation = (
        tuple(use.call.numbers(name, len(kernel), 1)) for name in ("stride", "dilation")
    )
    return kernel, stride, dilation, use.call.number("groups", 1)
