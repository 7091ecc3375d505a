"""Polar Express: the composition of odd polynomials that is closest to the sign function in the
worst case; the default method.

Source: Amsel, Persson, Musco & Gower 2025 (arXiv:2505.16932).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from modula.polar.formats import low_precision
from modula.polar.iteration import iterate
from modula.polar.method import Accuracy, Method, is_small
from modula.polar.minimax import OddQuintic, minimax_coefficients, smallest_lower_bound
from modula.polar.preparation import Matrices
from modula.polar.rounded_iteration import (
    continue_rounded,
    factors_from_halves,
    iterate_rounded,
    largest_entry,
    late,
)

STEPS: dict[Accuracy, int] = {"default": 4, "high": 7}
TOLERANCE: dict[Accuracy, float] = {"default": 0.012, "high": 8e-4}
MARGIN = 1.02
FLOOR = 0.02


@dataclass(frozen=True)
class PolarExpress(Method):
    """Minimax polynomials, composed. The method to pick unless an exact answer is needed.

    Costs 3 matrix products a step for each matrix [m, n], two of them m×m×n and one m×m×m; for n ≥
    2m the steps cost 4 products m×m×m instead, and two or three m×m×n in all.

    With accuracy "default" it takes 4 steps, in bfloat16 (on a GPU in float16) where the hardware
    multiplies these faster than float32. Singular values above about 1/60 of the largest end within
    0.02 of 1, smaller ones end between 0 and 1, and a direction that the matrix does not touch
    stays dark, to a few hundredths. Matrices in float64, and those of fewer than 32 rows or
    columns, where steps cost nothing, are computed with accuracy "high" in any case.

    With accuracy "high" it takes 7 steps in full precision, but for two before the last, which
    correct the matrix by products in 16 bits where the hardware is faster at them. Every singular
    value above 1/1000 of the largest ends within 1/1000 of 1.

    Args:
        steps: how many polynomials are composed; None takes as many as the accuracy asks for.
        lower_bound: the smallest singular value to be lifted to 1, relative to (Σσ⁸)^⅛. None takes
            the smallest that can be lifted in that many steps to within the tolerance, 0.012 or
            0.0008.
        accuracy: "default" or "high".

    Raises:
        ValueError: `steps` < 1, `lower_bound` not between 0 and 1, or no such accuracy.
    """

    takes_padding: ClassVar[bool] = True

    steps: int | None = None
    lower_bound: float | None = None
    accuracy: Accuracy = "default"
    _polynomials: dict[Accuracy, tuple[OddQuintic, ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"PolarExpress takes at least 1 step, got steps={self.steps}")
        if self.lower_bound is not None and not 0 < self.lower_bound < 1:
            raise ValueError(
                f"PolarExpress takes a lower_bound between 0 and 1, got {self.lower_bound}"
            )
        if self.accuracy not in STEPS:
            raise ValueError(
                f'PolarExpress has accuracy "default" or "high", got {self.accuracy!r}'
            )
        # here and not where they are needed, since torch.compile would trace the search for them
        object.__setattr__(
            self, "_polynomials", {accuracy: self._composition(accuracy) for accuracy in STEPS}
        )

    def __call__(self, X: Tensor) -> Tensor:
        dtype = self._low_precision(X.shape[-2], X.dtype, X.device)
        if dtype is None:
            is_exact = X.dtype == torch.float64 or is_small(X.shape[-2])
            return iterate(X, self._polynomials["high" if is_exact else self.accuracy])
        if self.accuracy == "high":
            return iterate(X, self._polynomials["high"], corrected=2, dtype=dtype)
        return _rounded_when_late(X, self._polynomials["default"], dtype)

    def on_batch(self, matrices: Matrices) -> Sequence[Tensor]:
        dtype = self._low_precision(matrices.rows, matrices.dtype, matrices.device)
        if dtype is None or self.accuracy == "high" or late(self._polynomials["default"]):
            return super().on_batch(matrices)
        halves = matrices.rounded(dtype, largest_entry(matrices.columns))
        return matrices.product(*factors_from_halves(*halves, self._polynomials["default"]))

    def _low_precision(
        self, rows: int, dtype: torch.dtype, device: torch.device
    ) -> torch.dtype | None:
        """The format of 16 bits in which matrices are multiplied, or None where that is no gain."""
        return None if dtype == torch.float64 or is_small(rows) else low_precision(device)

    def with_steps(self, steps: int) -> PolarExpress:
        return replace(self, steps=steps)

    def with_accuracy(self, accuracy: Accuracy) -> PolarExpress:
        return replace(self, accuracy=accuracy)

    def _composition(self, accuracy: Accuracy) -> tuple[OddQuintic, ...]:
        steps = STEPS[accuracy] if self.steps is None else self.steps
        lower_bound = self.lower_bound
        if lower_bound is None:
            lower_bound = smallest_lower_bound(steps, TOLERANCE[accuracy], MARGIN, FLOOR)
        return minimax_coefficients(steps, lower_bound, MARGIN, FLOOR)


def _rounded_when_late(X: Tensor, polynomials: Sequence[OddQuintic], dtype: torch.dtype) -> Tensor:
    """Full precision for as long as rounding would be multiplied too much, `dtype` from there."""
    start = late(polynomials)
    if start == 0:
        return iterate_rounded(X, polynomials, dtype)
    return continue_rounded(iterate(X, polynomials[:start]), polynomials[start:], dtype)
