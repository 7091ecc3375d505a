"""Matrices in 16 bits, as what they round to and what is lost by that."""

from __future__ import annotations

import torch
from torch import Tensor

PIECE = 2**17
"""How many entries a CPU prepares at a time: their copies stay in the cache of one core."""


def split(X: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """X̂ and Δ = X − X̂, both in `dtype`. X is overwritten."""
    rounded, rest = torch.empty_like(X, dtype=dtype), torch.empty_like(X, dtype=dtype)
    split_into(rounded, rest, X)
    return rounded, rest


def split_into(rounded: Tensor, rest: Tensor, X: Tensor) -> None:
    """The same, into tensors that are there. All three are contiguous."""
    whole = X.device.type != "cpu" or X.numel() <= PIECE
    pieces = (
        [(X, rounded, rest)]
        if whole
        else zip(*(torch.split(t.view(-1), PIECE) for t in (X, rounded, rest)), strict=True)
    )
    for x, r, d in pieces:
        r.copy_(x)
        d.copy_(x.sub_(r))
