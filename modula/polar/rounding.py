"""Matrices in 16 bits: the rounded matrix, and the remainder that rounding leaves."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_ENTRIES_PER_CHUNK = 2**19
"""The most entries that a CPU prepares at a time: their copies stay in its caches.

Fewer would fit the cache of one core, but for small matrices calls cost more than memory does."""


def split(X: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return X̂, X rounded to `dtype`, and the remainder Δ = X − X̂ in `dtype`; overwrite X."""
    rounded, remainder = torch.empty_like(X, dtype=dtype), torch.empty_like(X, dtype=dtype)
    split_into(rounded, remainder, X)
    return rounded, remainder


def split_into(rounded: Tensor, remainder: Tensor, X: Tensor) -> None:
    """Write X̂ and Δ of `split` into the given tensors, and overwrite X; all are contiguous."""
    at_once = X.device.type != "cpu" or X.numel() <= MAX_ENTRIES_PER_CHUNK
    chunks = (
        [(X, rounded, remainder)]
        if at_once
        else zip(
            *(torch.split(t.view(-1), MAX_ENTRIES_PER_CHUNK) for t in (X, rounded, remainder)),
            strict=True,
        )
    )
    for x, x_rounded, x_remainder in chunks:
        x_rounded.copy_(x)
        x_remainder.copy_(x.sub_(x_rounded))
