"""Polar Express: the composition of odd polynomials that is closest to the sign function in the worst case.

Source: Amsel, Persson, Musco & Gower 2025 (arXiv:2505.16932), Algorithm 1 and Theorem 3.1. Each step takes the polynomial of
degree 5 that minimises max |1 − p(x)| over the interval [l, u] where the singular values now lie; it maps the interval to
[p(l), 2 − p(l)], on which the next step is chosen. This greedy choice is optimal among all compositions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

from torch import Tensor

from modula.polar.iteration import OddQuintic, iterate
from modula.polar.method import Method


@dataclass(frozen=True)
class PolarExpress(Method):
    """Minimax polynomials computed for the given number of steps and lower bound.

    Costs 3 matrix products a step for each matrix [m, n], two of them m×m×n and one m×m×m; for n ≥ 2m in the first steps 4 of m×m×m
    instead. With the defaults every singular value above 1/1000 of (Σσ⁴)^¼ ends within 0.002 of 1, or 0.01 where the last steps
    run in bfloat16. The method to pick unless an exact answer is needed.

    Args:
        steps: how many polynomials are composed.
        lower_bound: the smallest singular value to be lifted to 1, relative to (Σσ⁴)^¼. Values below it end between 0 and 1.
        late_growth: float32 matrices take their last steps in bfloat16, where the hardware multiplies it faster, once the slopes still to
            come multiply to at most this. Rounding of 1/256 then leaves about 1/100 in the directions that a matrix does not touch. 0 keeps
            every step in float32.

    Raises:
        ValueError: `steps` < 1, or `lower_bound` not between 0 and 1.
    """

    steps: int = 6
    lower_bound: float = 1e-3
    late_growth: float = 20.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"PolarExpress takes at least 1 step, got steps={self.steps}")
        if not 0 < self.lower_bound < 1:
            raise ValueError(f"PolarExpress takes a lower_bound between 0 and 1, got {self.lower_bound}")

    def __call__(self, X: Tensor) -> Tensor:
        return iterate(X, minimax_coefficients(self.steps, self.lower_bound), self.late_growth)

    def with_steps(self, steps: int) -> PolarExpress:
        return replace(self, steps=steps)


@cache
def minimax_coefficients(steps: int, lower_bound: float) -> tuple[OddQuintic, ...]:
    """The coefficients of the optimal composition on [lower_bound, 1], one triple (a, b, c) a step.

    Example:
        >>> from modula.polar import minimax_coefficients
        >>> a, b, c = minimax_coefficients(1, 0.5)[0]
        >>> round(a * 0.5 + b * 0.5**3 + c * 0.5**5, 3), round(a + b + c, 3)
        (0.976, 1.024)
    """
    coefficients = []
    lower, upper = lower_bound, 1.0
    for _ in range(steps):
        a, b, c = minimax_quintic(lower, upper)
        coefficients.append((a, b, c))
        lower = a * lower + b * lower**3 + c * lower**5
        upper = 2 - lower
    return tuple(coefficients)


def minimax_quintic(lower: float, upper: float, tolerance: float = 1e-14) -> OddQuintic:
    """The odd polynomial of degree 5 that minimises max |1 − p(x)| over [lower, upper], by Remez's exchange.

    The minimiser is the one whose error takes its largest magnitude with alternating signs at four points: the two ends and the
    two interior extrema of p. Each round solves for the polynomial that alternates at the current points, then moves the interior
    points to its extrema.
    """
    if 1 - lower / upper < 1e-5:
        # The interval is a point up to rounding: the limit is the polynomial with p = 1, p' = p'' = 0 there.
        return 15 / 8 / upper, -10 / 8 / upper**3, 3 / 8 / upper**5
    q, r = (3 * lower + upper) / 4, (lower + 3 * upper) / 4
    a, b, c, error = _alternating_quintic(lower, q, r, upper)
    for _ in range(100):
        previous = error
        q, r = _extrema(a, b, c)
        a, b, c, error = _alternating_quintic(lower, q, r, upper)
        if abs(error - previous) <= tolerance:
            break
    return a, b, c


def _alternating_quintic(*points: float) -> tuple[float, float, float, float]:
    """The (a, b, c, E) with p(xᵢ) + (−1)ⁱ·E = 1 at the four points, by elimination of a 4×4 system."""
    rows = [[x, x**3, x**5, (-1.0) ** i, 1.0] for i, x in enumerate(points)]
    for column in range(4):
        pivot = max(range(column, 4), key=lambda i: abs(rows[i][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for i in range(4):
            if i != column:
                factor = rows[i][column] / rows[column][column]
                rows[i] = [v - factor * w for v, w in zip(rows[i], rows[column], strict=True)]
    a, b, c, error = (rows[i][4] / rows[i][i] for i in range(4))
    return a, b, c, error


def _extrema(a: float, b: float, c: float) -> tuple[float, float]:
    """The two positive zeros of p'(x) = a + 3b·x² + 5c·x⁴."""
    root = math.sqrt(9 * b * b - 20 * a * c)
    return math.sqrt((-3 * b - root) / (10 * c)), math.sqrt((-3 * b + root) / (10 * c))
