"""Polar Express, the default method: minimax polynomials, composed.

Of all compositions of odd polynomials, this one is closest to the sign function in the worst case.

Source: Amsel, Persson, Musco & Gower 2025 (arXiv:2505.16932).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from modula.checks import check_whole
from modula.polar.constant import constant
from modula.polar.formats import low_precision
from modula.polar.iteration import iterate
from modula.polar.method import Accuracy, Method, is_small
from modula.polar.minimax import (
    Degrees,
    OddQuintic,
    as_text,
    from_text,
    minimax_composition,
    smallest_lower_bound,
)
from modula.polar.preparation import Matrices
from modula.polar.rounded_iteration import (
    MAX_SLOPE,
    factors_from_split,
    iterate_rounded,
    largest_entry,
    slope_at_zero,
)

DEGREES: dict[Accuracy, Degrees] = {"default": (5, 5, 3, 3, 5, 5), "high": (5,) * 7}
"""The degrees of the polynomials where the number of steps is not given."""

TOLERANCE: dict[Accuracy, float] = {"default": 0.012, "high": 8e-4}
MARGIN = 1.02
FLOOR: dict[Accuracy, float] = {"default": 0.045, "high": 0.02}
"""See `minimax_composition`. In 16 bits, rounding errors matter to larger values than in 32."""


@dataclass(frozen=True)
class PolarExpress(Method):
    """Minimax polynomials, composed: the method to pick unless an exact answer is needed.

    A step costs 3 matrix products for each matrix [m, n], two of them m×m×n and one m×m×m, or the
    former two where its polynomial has degree 3; for n ≥ 2m steps are joined, so that together they
    cost products m×m×m and two m×m×n.

    With accuracy "default" it takes 6 steps, of degrees 5, 5, 3, 3, 5 and 5, in bfloat16 (on a GPU
    in float16) where the hardware multiplies these faster than float32. Singular values above 1/534
    of (Σσ⁸)^⅛, which is 1/350 of the largest for a large matrix with normal entries and 1/230 where
    most values are equal, end within 0.02 of 1. Smaller ones end between 0 and 1, at about
    825·σ/(Σσ⁸)^⅛ where they are small: half way at 1/1560. On the gradients of a GPT the mean error
    of those above 1/1000 of the largest is 0.023 at most. Directions that the matrix does not touch
    stay below 0.15, the most that was seen in thousands of random matrices (`make hostile`), and
    mostly below 0.1. Matrices in float64, and those of fewer than 32 rows or columns, where steps
    cost nothing, are computed with accuracy "high" in any case.

    With accuracy "high" it takes 7 steps in full precision, except for two before the last, which
    correct the matrix by products in 16 bits where the hardware is faster at them. Every singular
    value above 1/3000 of (Σσ⁸)^⅛, and so above 1/1000 of the largest, ends within 1/1000 of 1.
    Directions that the matrix does not touch stay below 0.02.

    Args:
        steps: the number of polynomials that are composed, each of degree 5; None takes the 6
            above, or 7 of degree 5 with accuracy "high".
        lower_bound: the smallest singular value to be brought to 1, relative to (Σσ⁸)^⅛. None takes
            the smallest that these steps bring to within the tolerance, 0.012 or 0.0008. Where
            steps and bound make the polynomials multiply small values by more than 20,000, which 8
            steps do, they are computed in float32 throughout.
        accuracy: "default" or "high".

    Raises:
        ValueError: `steps` < 1, `lower_bound` is not between 0 and 1, or there is no such accuracy.
    """

    takes_padding: ClassVar[bool] = True

    steps: int | None = None
    lower_bound: float | None = None
    accuracy: Accuracy = "default"
    texts: dict[Accuracy, str] = field(init=False, repr=False, compare=False)
    """The polynomials of each accuracy as text, which `torch.compile` keeps constant."""

    def __post_init__(self) -> None:
        check_whole("PolarExpress", steps=self.steps)
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"PolarExpress takes at least 1 step, got steps={self.steps}")
        if self.lower_bound is not None and not 0 < self.lower_bound < 1:
            raise ValueError(
                f"PolarExpress takes a lower_bound between 0 and 1, got {self.lower_bound}"
            )
        if self.accuracy not in DEGREES:
            raise ValueError(
                f'PolarExpress has accuracy "default" or "high", got {self.accuracy!r}'
            )
        # computed here because torch.compile would trace the search for them in __call__
        texts = {each: _composition(self.steps, self.lower_bound, each) for each in DEGREES}
        object.__setattr__(self, "texts", texts)

    @property
    def compositions(self) -> dict[Accuracy, tuple[OddQuintic, ...]]:
        """The polynomials of each accuracy, in the order in which they are applied."""
        return {accuracy: self._polynomials(accuracy) for accuracy in DEGREES}

    def __call__(self, X: Tensor) -> Tensor:
        dtype = self._low_precision(X.shape[-2], X.dtype, X.device)
        if dtype is None:
            is_exact = X.dtype == torch.float64 or is_small(X.shape[-2])
            return iterate(X, self._polynomials("high" if is_exact else self.accuracy))
        if self.accuracy == "high":
            return iterate(X, self._polynomials("high"), corrected=2, dtype=dtype)
        return iterate_rounded(X, self._polynomials("default"), dtype)

    def on_batch(self, matrices: Matrices) -> Sequence[Tensor]:
        dtype = self._low_precision(matrices.rows, matrices.dtype, matrices.device)
        if dtype is None or self.accuracy == "high":
            return super().on_batch(matrices)
        rounded, remainder = matrices.rounded(dtype, largest_entry(matrices.columns))
        polynomials = self._polynomials("default")
        return matrices.product(*factors_from_split(rounded, remainder, polynomials))

    def _polynomials(self, accuracy: Accuracy) -> tuple[OddQuintic, ...]:
        return from_text(self.texts[accuracy])

    def _low_precision(
        self, rows: int, dtype: torch.dtype, device: torch.device
    ) -> torch.dtype | None:
        """Return the 16-bit format in which to multiply matrices, or None to keep their dtype.

        16 bits are taken where they are faster and hold what these polynomials need.
        """
        if dtype == torch.float64 or is_small(rows):
            return None
        is_too_steep = slope_at_zero(self._polynomials("default")) > MAX_SLOPE
        is_rounded = self.accuracy == "default"
        return None if is_rounded and is_too_steep else low_precision(device)

    def with_steps(self, steps: int) -> PolarExpress:
        return replace(self, steps=steps)

    def with_accuracy(self, accuracy: Accuracy) -> PolarExpress:
        return replace(self, accuracy=accuracy)


@constant
def _composition(steps: int | None, lower_bound: float | None, accuracy: Accuracy) -> str:
    """Return the polynomials for these settings, as text."""
    degrees = DEGREES[accuracy] if steps is None else (5,) * steps
    floor = FLOOR[accuracy]
    if lower_bound is None:
        lower_bound = smallest_lower_bound(degrees, TOLERANCE[accuracy], MARGIN, floor)
    return as_text(minimax_composition(degrees, lower_bound, MARGIN, floor))
