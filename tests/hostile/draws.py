"""Random hostile inputs, drawn from a generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def failures(holds: Callable[[torch.Generator], bool], count: int, seed: int) -> int:
    """Return how often a predicate of random inputs is false."""
    rng = generator(seed)
    return sum(not holds(rng) for _ in range(count))


def choice(rng: torch.Generator, options: Sequence[T]) -> T:
    return options[int(torch.randint(len(options), (), generator=rng))]


def normal(rng: torch.Generator, *shape: int) -> Tensor:
    """Normal entries in float64."""
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def awkward(rng: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """Float64 tensors of norms far apart: low rank, sparse, constant, zeros, graded or normal.

    The largest entry is at most 1.
    """
    m, n = shape[-2:]
    kind = choice(rng, ["normal", "rank", "sparse", "ones", "zero", "rows", "columns", "duplicate"])
    X = normal(rng, *shape)
    if kind == "rank":
        r = choice(rng, [1, 1, 2, 3])
        X = normal(rng, *shape[:-1], r) @ normal(rng, *shape[:-2], r, n)
    elif kind == "sparse":
        X = X * (torch.rand(shape, generator=rng) < 0.1)
    elif kind == "ones":
        X = torch.ones_like(X)
    elif kind == "zero":
        X = torch.zeros_like(X)
    elif kind == "rows":
        X = X * 10.0 ** (40 * torch.rand(m, 1, generator=rng, dtype=torch.float64) - 40)
    elif kind == "columns":
        X = X * 10.0 ** (40 * torch.rand(n, generator=rng, dtype=torch.float64) - 40)
    elif kind == "duplicate":
        X = X[..., :1, :].expand(shape).contiguous()
    return X / max(float(X.abs().max()) if X.numel() else 0.0, 1e-300)


def at_scale(rng: torch.Generator, X: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in a dtype, its largest entry anywhere between its smallest and largest number."""
    info = torch.finfo(dtype)
    smallest = info.tiny * info.eps
    scale = choice(
        rng,
        [
            1.0,
            info.max,
            info.max / 3,
            info.tiny,
            smallest,
            8 * smallest,
            math.exp(
                float(
                    torch.empty((), dtype=torch.float64).uniform_(
                        math.log(smallest), math.log(info.max), generator=rng
                    )
                )
            ),
        ],
    )
    return (X * scale).to(dtype)


def laid_out(rng: torch.Generator, X: Tensor) -> Tensor:
    """The same values in another memory layout, with or without a gradient to come."""
    layout = choice(rng, ["as it is", "transposed", "strided", "requires_grad", "inference"])
    if layout == "transposed":
        return X.mT.contiguous().mT
    if layout == "strided":
        wide = X.new_zeros(*X.shape[:-1], 2 * X.shape[-1])
        wide[..., ::2] = X
        return wide[..., ::2]
    if layout == "requires_grad":
        return X.clone().requires_grad_()
    if layout == "inference":
        with torch.inference_mode():
            return X.clone()
    return X
