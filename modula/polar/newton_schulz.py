"""Newton–Schulz: one fixed odd polynomial, applied until every singular value has arrived at 1.

Sources: Kovarik 1970 and Björck & Bowie 1971; Higham 2008, *Functions of Matrices*, section 8.3; the rectangular iteration of
Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from modula.polar.iteration import OddQuintic, iterate
from modula.polar.method import Method

CUBIC: OddQuintic = (3 / 2, -1 / 2, 0.0)
QUINTIC: OddQuintic = (15 / 8, -10 / 8, 3 / 8)


@dataclass(frozen=True)
class NewtonSchulz(Method):
    """The Newton–Schulz iteration of degree 3 or 5, which converges to UVᵀ from any singular values in (0, 1].

    Costs 2 matrix products m×m×n a step at degree 3, and one m×m×m more at degree 5. A small singular value grows by 3/2 or 15/8
    a step, so that one of 1/1000 takes 20 or 14 steps to come near 1. Pick it to check another method, or where one
    polynomial for all steps is wanted.

    Args:
        steps: how often the polynomial is applied; None takes enough to lift 1/1000 to within 1e-4 of 1.
        degree: 3 or 5.

    Raises:
        ValueError: another degree, or `steps` < 1.
    """

    steps: int | None = None
    degree: Literal[3, 5] = 5

    def __post_init__(self) -> None:
        if self.degree not in (3, 5):
            raise ValueError(f"NewtonSchulz has degree 3 or 5, got degree={self.degree}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"NewtonSchulz takes at least 1 step, got steps={self.steps}")

    def __call__(self, X: Tensor) -> Tensor:
        polynomial, enough = (CUBIC, 21) if self.degree == 3 else (QUINTIC, 14)
        return iterate(X, [polynomial] * (enough if self.steps is None else self.steps))

    def with_steps(self, steps: int) -> NewtonSchulz:
        return replace(self, steps=steps)
