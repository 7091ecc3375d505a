"""Splitting a tensor into a size and a direction without overflow or underflow.

The squares of float32 numbers beyond 1e±19 leave the range of float32. Everything in modula that
squares (norms, Gram matrices) therefore works on entries of magnitude at most 1 and puts the size
back afterwards.
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
    """The largest |entry| over the axes `dim`, which are kept at length 1; 1 where `x` is zero."""
    # on a CPU a third faster than x.abs().amax(), and far faster than linalg.vector_norm(ord=inf)
    return one_if_zero(torch.maximum(x.amax(dim=dim, keepdim=True), -x.amin(dim=dim, keepdim=True)))


def one_if_zero(x: Tensor) -> Tensor:
    """x where it is not zero, 1 where it is."""
    return x + (x == 0)  # a call less than torch.where, which makes a tensor of the 1


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sums over many entries of a `dtype` tensor are taken: at least float32."""
    return torch.promote_types(dtype, torch.float32)
