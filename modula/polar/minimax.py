"""Odd polynomials of degree 5 that bring an interval closest to 1, and their optimal composition.

Source: Amsel, Persson, Musco & Gower 2025 (arXiv:2505.16932), Algorithm 1 and Theorem 3.1. Each
step takes the polynomial of degree 5 that minimises max |1 − p(x)| over the interval [l, u] that
now contains the singular values; it maps the interval to [p(l), 2 − p(l)], for which the next step
is chosen. This greedy choice is optimal among all compositions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

from modula.polar.constant import constant

OddQuintic: TypeAlias = tuple[float, float, float]
"""The coefficients (a, b, c) of the odd polynomial a·x + b·x³ + c·x⁵."""


@cache
def minimax_coefficients(
    steps: int, lower_bound: float, margin: float = 1.0, floor: float = 0.0
) -> tuple[OddQuintic, ...]:
    """Return the optimal composition on [lower_bound, 1], one triple (a, b, c) a step.

    Args:
        steps: the number of polynomials that are composed.
        lower_bound: the start of the interval that is brought closest to 1.
        margin: each polynomial is chosen for an interval that ends this factor higher, because the
            polynomial grows steeply beyond the end, and rounding moves singular values there.
        floor: no polynomial is chosen for an interval that starts below this share of its end. Then
            the polynomial brings larger singular values no lower than to about 8 times that share,
            where rounding does no harm.

    Example:
        >>> from modula.polar import minimax_coefficients
        >>> a, b, c = minimax_coefficients(1, 0.5)[0]
        >>> round(a * 0.5 + b * 0.5**3 + c * 0.5**5, 3), round(a + b + c, 3)
        (0.976, 1.024)
    """
    coefficients = []
    lower, upper = lower_bound, 1.0
    for _ in range(steps):
        start = max(lower, floor * upper)
        polynomial = minimax_quintic(start, upper * margin)
        coefficients.append(polynomial)
        lower, upper = value(polynomial, lower), 2 - value(polynomial, start)
    return tuple(coefficients)


@cache
def smallest_lower_bound(
    steps: int, tolerance: float, margin: float = 1.0, floor: float = 0.0
) -> float:
    """Return the smallest singular value that `steps` polynomials bring to within a tolerance of 1.

    It is found by bisection.

    Args:
        steps: the number of polynomials that are composed.
        tolerance: the largest distance from 1 that is allowed.
        margin, floor: as for `minimax_coefficients`.
    """
    low, high = 1e-12, 1.0
    while high / low > 1 + 1e-4:
        middle = math.sqrt(low * high)
        x = middle
        for polynomial in minimax_coefficients(steps, middle, margin, floor):
            x = value(polynomial, x)
        low, high = (low, middle) if 1 - x <= tolerance else (middle, high)
    return high


@constant
def as_text(polynomials: Sequence[OddQuintic]) -> str:
    """Return polynomials as text, which stays constant in `torch.compile(dynamic=True)`.

    Floats that an object stores become symbols there, and no program may branch on them.
    """
    return ";".join(" ".join(float(x).hex() for x in polynomial) for polynomial in polynomials)


@constant
def from_text(text: str) -> tuple[OddQuintic, ...]:
    """Return the polynomials that `as_text` wrote, to the last bit."""
    return _parsed(text)


@cache
def _parsed(text: str) -> tuple[OddQuintic, ...]:
    rows = [[float.fromhex(x) for x in row.split()] for row in text.split(";")]
    return tuple((a, b, c) for a, b, c in rows)


def value(polynomial: OddQuintic, x: float) -> float:
    """Return a·x + b·x³ + c·x⁵."""
    a, b, c = polynomial
    return a * x + b * x**3 + c * x**5


def minimax_quintic(lower: float, upper: float, tolerance: float = 1e-14) -> OddQuintic:
    """Return the odd polynomial of degree 5 that minimises max |1 − p(x)| over [lower, upper].

    It is found by Remez's exchange. The minimiser is the polynomial whose error takes its largest
    magnitude with alternating signs at four points: the two ends and the two interior extrema of p.
    Each round solves for the polynomial that alternates at the current points, then moves the
    interior points to its extrema.
    """
    if 1 - lower / upper < 1e-5:
        # The interval is a point up to rounding; in the limit p = 1 and p' = p'' = 0 there.
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
    """Return the (a, b, c, E) that solve p(xᵢ) + (−1)ⁱ·E = 1 at the four points, by elimination."""
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
    """Return the two positive zeros of p'(x) = a + 3b·x² + 5c·x⁴."""
    root = math.sqrt(9 * b * b - 20 * a * c)
    return math.sqrt((-3 * b - root) / (10 * c)), math.sqrt((-3 * b + root) / (10 * c))
