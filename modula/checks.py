"""Declarations of modules (mass, sensitivity, claim), and checks of their values."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Literal, TypeAlias, TypeGuard

import torch

LARGEST = torch.finfo(torch.float32).max
"""The largest number with which weights are multiplied."""

Claim: TypeAlias = Literal["proved", "conditional", "estimate"]
"""The validity of a sensitivity: for all inputs (and weights of norm at most 1), for the inputs
that the docstring names, or neither of both."""


Acts: TypeAlias = Literal[
    "matrix",
    "head_matrix",
    "table",
    "entrywise",
    "split_heads",
    "merge_heads",
    "mixes_heads",
    "otherwise",
]
"""How an operation acts on features, which determines how tensor parallelism can shard it."""


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a real number, of Python or NumPy; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_finite(value: object) -> TypeGuard[float]:
    """Return whether a value is a real number that a Python float can be near to."""
    largest = sys.float_info.max
    return is_number(value) and -largest <= value <= largest  # integers may be larger, NaN is not


def as_float(number: float) -> float:
    """Return a real number as a float, infinite if it is beyond all of them."""
    try:
        return float(number)
    except OverflowError:
        return math.copysign(math.inf, number > 0 or -1)


def check_whole(owner: str, **settings: object) -> None:
    """Raise if a setting is not a whole number.

    Args:
        owner: whose settings they are, named in the error.
        **settings: values by name; None is left out.

    Raises:
        TypeError: names the owner, the setting and the value.
    """
    for name, value in settings.items():
        if value is not None and (not isinstance(value, Integral) or isinstance(value, bool)):
            raise TypeError(f"{owner} takes a whole number, got {name}={value!r}")


def total_mass(masses: Sequence[float]) -> float:
    """Return the sum of masses, correctly rounded; infinity where it is beyond the largest float.

    Args:
        masses: finite numbers ≥ 0.
    """
    try:
        return math.fsum(masses)
    except OverflowError:
        return math.inf


def mass_shares(masses: Sequence[float]) -> list[float]:
    """Return m_i/Σm of each mass, also where the sum is beyond the largest float; 0/0 = 0.

    Args:
        masses: finite numbers ≥ 0.
    """
    total = total_mass(masses)
    if math.isinf(total):
        masses = [math.ldexp(mass, -64) for mass in masses]
        total = math.fsum(masses)
    return [mass / total if total else 0.0 for mass in masses]


def check_mass(module: object, mass: object) -> None:
    """Raise if a mass is not a finite number ≥ 0.

    Args:
        module: its owner, named in the error.
        mass: any value.

    Raises:
        ValueError: names the module and the value.
    """
    if not is_finite(mass) or mass < 0:
        raise ValueError(
            f"the mass of {_written(module)} must be a finite number ≥ 0, got {mass!r}"
        )


def check_sensitivity(module: object, sensitivity: object) -> None:
    """Raise if a sensitivity is not a finite number > 0.

    Args:
        module: its owner, named in the error.
        sensitivity: any value.

    Raises:
        ValueError: names the module and the value.
    """
    if not is_finite(sensitivity) or sensitivity <= 0:
        raise ValueError(
            f"the sensitivity of {_written(module)} must be a finite number > 0, got "
            f"{sensitivity!r}"
        )


def _written(module: object) -> str:
    return module if isinstance(module, str) else repr(module)


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return a list of names as text: the first `most` of them, and the number of the others."""
    shown = ", ".join(map(repr, names[:most])) or "nothing"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
