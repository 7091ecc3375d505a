"""Newton–Schulz: one odd polynomial, applied until every singular value is 1, or a schedule.

Sources: Kovarik 1970 and Björck & Bowie 1971; Higham 2008, *Functions of Matrices*, section 8.3;
the rectangular iteration of Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from torch import Tensor

from modula.checks import check_whole
from modula.polar.iteration import iterate
from modula.polar.method import Method
from modula.polar.minimax import OddQuintic, as_text, from_text

CUBIC: OddQuintic = (3 / 2, -1 / 2, 0.0)
QUINTIC: OddQuintic = (15 / 8, -10 / 8, 3 / 8)


@dataclass(frozen=True)
class NewtonSchulz(Method):
    """The Newton–Schulz iteration of degree 3 or 5.

    It converges to UVᵀ from any singular values in (0, 1]. It costs 2 matrix products m×m×n a step
    at degree 3, and one m×m×m more at degree 5, all in full precision. A small singular value grows
    by 3/2 or 15/8 a step, so that one of 1/1000, relative to (Σσ⁸)^⅛, takes 21 or 14 steps to come
    within 1e-4 of 1. Where many singular values are equal to the largest, that is 2 times as large,
    and σ₁/1000 ends within 4e-4, with degree 3 within 0.01. Pick
    it to check another method, or where one polynomial for all steps is wanted.

    Args:
        steps: the number of times that the polynomial is applied; None takes enough to bring 1/1000
            to within 1e-4 of 1. With a schedule: the number of its polynomials that are applied,
            the last repeatedly where it has fewer; None takes each once.
        degree: 3 or 5.
        schedule: polynomials of your own in place of the iteration's, (a, b, c) for a·x + b·x³ +
            c·x⁵. Each must map [0, 1], and the image of [0, 1] under the ones before it, into an
            interval near [0, 1].

    Raises:
        ValueError: `degree` is neither 3 nor 5, `steps` < 1, or the schedule is empty or not of
            finite triples.

    Example:
        >>> import torch
        >>> from modula.polar import NewtonSchulz, orthogonalize
        >>> muon = NewtonSchulz(schedule=((3.4445, -4.7750, 2.0315),) * 5)
        >>> orthogonalize(torch.diag(torch.tensor([3.0, 2.0])), muon).diagonal()
        tensor([0.7018, 1.1072])
    """

    takes_padding: ClassVar[bool] = True

    steps: int | None = None
    degree: Literal[3, 5] = 5
    schedule: tuple[OddQuintic, ...] | None = None
    text: str = field(init=False, repr=False, compare=False)
    """The polynomials as text, which `torch.compile` keeps constant."""

    def __post_init__(self) -> None:
        check_whole("NewtonSchulz", steps=self.steps)
        if self.degree not in (3, 5):
            raise ValueError(f"NewtonSchulz has degree 3 or 5, got degree={self.degree}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"NewtonSchulz takes at least 1 step, got steps={self.steps}")
        if self.schedule is not None and not self.schedule:
            raise ValueError(
                "NewtonSchulz takes a schedule of at least one polynomial (a, b, c), got an empty "
                "one"
            )
        for polynomial in self.schedule or ():
            if len(polynomial) != 3 or not all(map(math.isfinite, polynomial)):
                raise ValueError(
                    "NewtonSchulz takes a schedule of polynomials (a, b, c) of finite numbers, got "
                    f"{polynomial}"
                )
        object.__setattr__(self, "text", as_text(self.polynomials))

    def __call__(self, X: Tensor) -> Tensor:
        return iterate(X, from_text(self.text))

    def with_steps(self, steps: int) -> NewtonSchulz:
        return replace(self, steps=steps)

    @property
    def polynomials(self) -> Sequence[OddQuintic]:
        """The polynomials in the order in which they are applied, one for each step."""
        if self.schedule is None:
            polynomial, enough = (CUBIC, 21) if self.degree == 3 else (QUINTIC, 14)
            return [polynomial] * (enough if self.steps is None else self.steps)
        steps = len(self.schedule) if self.steps is None else self.steps
        return [*self.schedule[:steps], *[self.schedule[-1]] * (steps - len(self.schedule))]
