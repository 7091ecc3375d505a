"""How a law that fails is reported, and up to which rounding it must hold."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

ROUNDING = {torch.float64: 1e-8, torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}
"""The relative error that is put down to rounding."""

EXACT = ROUNDING[torch.float64]

LOOSE = 0.15
"""How far a dual by the default method may be from the exact one."""

STEPS = 12
"""Rounds of each ascent."""


def seeded(generator: torch.Generator | None) -> torch.Generator:
    """Return the generator, or a new one with a fixed seed."""
    return torch.Generator().manual_seed(0) if generator is None else generator


def on_cpu(check: Callable[P, R]) -> Callable[P, R]:
    """Return the check, which draws on the CPU whatever torch's default device is.

    Args:
        check: to be decorated.
    """

    @wraps(check)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.device("cpu"):
            return check(*args, **kwargs)

    return run


def require(holds: bool, part: object, law: str, numbers: str) -> None:
    """Raise if a law does not hold.

    Raises:
        AssertionError: the part, the law, the numbers.
    """
    if not holds:
        raise AssertionError(f"{part if isinstance(part, str) else repr(part)}: {law}: {numbers}")


def require_equal(part: object, law: str, got: Tensor, expected: Tensor, tolerance: float) -> None:
    """Require that two batches agree item by item, relative to the item's largest entry."""
    got, expected = got.detach().double(), expected.detach().double()
    require(
        got.shape == expected.shape,
        part,
        law,
        f"got a result of shape {list(got.shape)}, expected {list(expected.shape)}",
    )
    error = _per_item((got - expected).abs())
    size = _per_item(expected.abs())
    relative = error / torch.where(size == 0, 1, size)
    worst = int(relative.nan_to_num(torch.inf).argmax())
    require(
        bool((relative <= tolerance).all()),
        part,
        law,
        f"got {shown(got[worst])}, expected {shown(expected[worst])}: a relative error of "
        f"{float(relative[worst]):.3g}, tolerance {tolerance:g}",
    )


def require_at_most(part: object, law: str, got: Tensor, bound: Tensor, tolerance: float) -> None:
    """Require got ≤ bound item by item, up to a relative tolerance."""
    got, bound = got.detach().double().flatten(), bound.detach().double().flatten()
    excess = got - bound * (1 + tolerance)
    worst = int(excess.nan_to_num(torch.inf).argmax())
    require(
        bool((excess <= 0).all()),
        part,
        law,
        f"got {float(got[worst]):.6g}, at most {float(bound[worst]):.6g} is allowed, tolerance "
        f"{tolerance:g}",
    )


def _per_item(x: Tensor) -> Tensor:
    return x.flatten(1).amax(dim=1) if x.dim() > 1 else x


def shown(item: Tensor) -> str:
    """Return the first entries of a tensor as messages show them."""
    if item.dim() == 0:
        return f"{float(item):.6g}"
    first = ", ".join(f"{float(entry):.4g}" for entry in item.flatten()[:4])
    return f"[{first}{', …' if item.numel() > 4 else ''}]"
