"""What a module may declare about itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Literal, TypeAlias, TypeGuard

Claim: TypeAlias = Literal["proved", "conditional", "estimate"]
"""How sure a sensitivity is: for all inputs (and weights of norm at most 1), for those inputs that
the docstring names, or neither."""


Acts: TypeAlias = Literal["matrix", "table", "entrywise", "split_heads", "merge_heads", "otherwise"]
"""How an operation acts on features, by which plans for tensor parallelism divide it."""


def is_number(value: object) -> TypeGuard[float]:
    """A real number, of Python's or of NumPy's; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_mass(module: object, mass: object) -> None:
    """Refuse a mass that is not a finite number ≥ 0, naming the `module`."""
    if not is_number(mass) or not math.isfinite(mass) or mass < 0:
        raise ValueError(
            f"the mass of {_written(module)} must be a finite number ≥ 0, got {mass!r}"
        )


def check_sensitivity(module: object, sensitivity: object) -> None:
    """Refuse a sensitivity that is not a finite number > 0, naming the `module`."""
    if not is_number(sensitivity) or not math.isfinite(sensitivity) or sensitivity <= 0:
        raise ValueError(
            f"the sensitivity of {_written(module)} must be a finite number > 0, got "
            f"{sensitivity!r}"
        )


def _written(module: object) -> str:
    return module if isinstance(module, str) else repr(module)


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return the first `most` names as an error lists them, and how many more there are."""
    shown = ", ".join(map(repr, names[:most])) or "nothing"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
