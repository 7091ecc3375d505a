"""Splitting a tensor into a scale and a direction without overflow or underflow.

The squares of float32 numbers beyond 1e±19 leave the range of float32. Everything in modula that
squares (norms, Gram matrices) therefore works on entries of magnitude at most 1 and multiplies by
the scale afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor


def split_scale(x: Tensor, dim: int | tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Split `x` into `direction * scale`, where the largest entry of the direction is 1.

    Args:
        x: floating-point tensor, [...].
        dim: the axes that share one scale.

    Returns:
        `direction`, shaped like `x`, and `scale`, with the axes `dim` kept at length 1. Where `x`
        is zero the scale is 1.
    """
    scale = largest_magnitude(x, dim)
    return x / scale, scale


def largest_magnitude(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Return the largest |entry| over the axes `dim`, kept at length 1; 1 where `x` is zero.

    It is 1 where there are no entries.
    """
    if not x.numel():
        return torch.ones_like(x.sum(dim=dim, keepdim=True))
    # on a CPU a third faster than x.abs().amax(), and far faster than linalg.vector_norm(ord=inf)
    return one_if_zero(torch.maximum(x.amax(dim=dim, keepdim=True), -x.amin(dim=dim, keepdim=True)))


def largest(sizes: Tensor, dim: int | tuple[int, ...] = ()) -> Tensor:
    """Return the largest of sizes over the axes `dim`, over all by default; 0 if there are none."""
    return sizes.amax(dim=dim) if sizes.numel() else sizes.sum(dim=dim)


def one_if_zero(x: Tensor) -> Tensor:
    """Return x where it is not zero, and 1 where it is."""
    return x + (x == 0)  # one call fewer than torch.where, which makes a tensor of the 1


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype, float32 at least, in which many entries of a `dtype` tensor are summed."""
    return torch.promote_types(dtype, torch.float32)
