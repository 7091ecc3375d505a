"""Odd polynomials of degree 3 and 5 that bring an interval closest to 1, optimally composed.

Source: Amsel, Persson, Musco & Gower 2025 (arXiv:2505.16932), Algorithm 1 and Theorem 3.1. Each
step takes the polynomial of its degree that minimises max |1 − p(x)| over the interval [l, u] that
now contains the singular values; it maps the interval to [p(l), 2 − p(l)], for which the next step
is chosen. This greedy choice is optimal among all compositions of these degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

from modula.polar.constant import constant

OddQuintic: TypeAlias = tuple[float, float, float]
"""The coefficients (a, b, c) of the odd polynomial a·x + b·x³ + c·x⁵."""

Degrees: TypeAlias = tuple[int, ...]
"""The degree of each polynomial of a composition, 3 or 5."""


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
    return minimax_composition((5,) * steps, lower_bound, margin, floor)


@cache
def minimax_composition(
    degrees: Degrees, lower_bound: float, margin: float = 1.0, floor: float = 0.0
) -> tuple[OddQuintic, ...]:
    """Return the optimal composition of polynomials of these degrees on [lower_bound, 1].

    Args:
        degrees: 3 or 5 for each polynomial, in the order in which they are applied. One of degree
            3 costs two matrix products in place of three, and its c is 0.
        lower_bound, margin, floor: as for `minimax_coefficients`.

    Raises:
        ValueError: a degree is neither 3 nor 5.

    Example:
        >>> from modula.polar.minimax import minimax_composition
        >>> [round(a, 2) for a, b, c in minimax_composition((5, 3), 0.01)]
        [8.09, 2.39]
    """
    minimax = {3: minimax_cubic, 5: minimax_quintic}
    if not minimax.keys() >= set(degrees):
        raise ValueError(f"minimax_composition takes polynomials of degree 3 or 5, got {degrees}")
    coefficients = []
    lower, upper = lower_bound, 1.0
    for degree in degrees:
        start = max(lower, floor * upper)
        polynomial = minimax[degree](start, upper * margin)
        coefficients.append(polynomial)
        lower, upper = value(polynomial, lower), 2 - value(polynomial, start)
    return tuple(coefficients)


@cache
def smallest_lower_bound(
    degrees: Degrees, tolerance: float, margin: float = 1.0, floor: float = 0.0
) -> float:
    """Return the smallest singular value that a composition brings to within a tolerance of 1.

    It is found by bisection.

    Args:
        degrees: as for `minimax_composition`.
        tolerance: the largest distance from 1 that is allowed.
        margin, floor: as for `minimax_coefficients`.
    """
    low, high = 1e-12, 1.0
    while high / low > 1 + 1e-4:
        middle = math.sqrt(low * high)
        x = middle
        for polynomial in minimax_composition(degrees, middle, margin, floor):
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


def minimax_cubic(lower: float, upper: float) -> OddQuintic:
    """Return the odd polynomial of degree 3 that minimises max |1 − p(x)| over [lower, upper].

    The error of the minimiser alternates at the two ends and at the extremum q of p between them,
    where p = 3b·q²·x − b·x³. The values at the ends are equal for q² = (l² + l·u + u²)/3, and that
    at l and that at q are as far from 1 for the b below.
    """
    q2 = (lower**2 + lower * upper + upper**2) / 3
    b = 2 / (2 * q2**1.5 + lower * (3 * q2 - lower**2))
    return 3 * q2 * b, -b, 0.0


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
