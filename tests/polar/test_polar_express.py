"""Polar Express: minimax polynomials, whose composition brings the promised interval to 1."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from modula.polar import PolarExpress, minimax_coefficients, orthogonalize
from modula.polar.minimax import (
    minimax_composition,
    minimax_cubic,
    minimax_quintic,
    smallest_lower_bound,
)
from modula.polar.polar_express import FLOOR as FLOORS
from modula.polar.polar_express import MARGIN
from tests.helpers import close, rand

FLOOR = FLOORS["high"]

ends = st.tuples(st.floats(1e-4, 0.95), st.floats(1.0, 2.0))
step_counts = st.integers(1, 10)
degree_lists = st.lists(st.sampled_from([3, 5]), min_size=1, max_size=8).map(tuple)
lower_bounds = st.sampled_from([1e-5, 1e-3, 1e-2, 0.1, 0.5])


def error(polynomial: tuple[float, float, float], x: np.ndarray | float) -> np.ndarray:
    a, b, c = polynomial
    return 1 - (a * x + b * x**3 + c * x**5)


def extrema(polynomial: tuple[float, float, float]) -> list[float]:
    """The positive zeros of the derivative, by another root finder."""
    a, b, c = polynomial
    return sorted(np.sqrt(root.real) for root in np.roots([5 * c, 3 * b, a]))


def applied(polynomials: Sequence[tuple[float, float, float]], x: np.ndarray) -> np.ndarray:
    for a, b, c in polynomials:
        x = a * x + b * x**3 + c * x**5
    return x


def composed(steps: int, lower_bound: float, x: np.ndarray) -> np.ndarray:
    return applied(minimax_coefficients(steps, lower_bound), x)


@given(ends=ends)
def test_error_alternates_at_four_points(ends):
    polynomial = minimax_quintic(*ends)
    values = [error(polynomial, x) for x in (ends[0], *extrema(polynomial), ends[1])]
    close(values, values[0] * np.array([1, -1, 1, -1]), rtol=1e-6, atol=1e-13)


@given(ends=ends)
def test_extrema_lie_inside_the_interval(ends):
    assert (
        ends[0] < extrema(minimax_quintic(*ends))[0] < extrema(minimax_quintic(*ends))[1] < ends[1]
    )


@given(ends=ends)
def test_error_is_nowhere_larger_than_at_the_ends(ends):
    polynomial = minimax_quintic(*ends)
    assert (
        np.abs(error(polynomial, np.linspace(*ends, 5000))).max()
        <= abs(error(polynomial, ends[0])) * (1 + 1e-7) + 1e-14
    )


@pytest.mark.parametrize("lower", [0.01, 0.1, 0.3, 0.7])
def test_no_polynomial_does_better_on_a_grid(lower):
    x = np.linspace(lower, 1, 2000)
    basis, ones = np.stack([x, x**3, x**5], axis=1), np.ones((len(x), 1))
    best = linprog(
        [0, 0, 0, 1],
        np.block([[basis, -ones], [-basis, -ones]]),
        np.r_[ones, -ones].ravel(),
        bounds=[(None, None)] * 4,
    )
    close(best.fun, abs(error(minimax_quintic(lower, 1.0), lower)), rtol=1e-3)


@given(ends=ends)
def test_the_error_of_degree_3_alternates_at_three_points(ends):
    a, b, c = polynomial = minimax_cubic(*ends)
    assert c == 0
    extremum = np.sqrt(a / (-3 * b))
    assert ends[0] < extremum < ends[1]
    values = [error(polynomial, x) for x in (ends[0], extremum, ends[1])]
    close(values, values[0] * np.array([1, -1, 1]), rtol=1e-6, atol=1e-13)


@given(degrees=degree_lists, lower_bound=lower_bounds)
def test_a_composition_of_both_degrees_maps_the_interval_around_one(degrees, lower_bound):
    polynomials = minimax_composition(degrees, lower_bound)
    assert [3 if c == 0 else 5 for _, _, c in polynomials] == list(degrees)
    worst = 1 - applied(polynomials, np.array(lower_bound))
    assert np.abs(1 - applied(polynomials, np.geomspace(lower_bound, 1, 5000))).max() <= (
        worst * (1 + 1e-7) + 1e-9
    )


@given(steps=step_counts, lower_bound=lower_bounds)
def test_composition_maps_the_interval_around_one(steps, lower_bound):
    x = np.geomspace(lower_bound, 1, 5000)
    worst = 1 - composed(steps, lower_bound, np.array(lower_bound))
    assert np.abs(1 - composed(steps, lower_bound, x)).max() <= worst * (1 + 1e-7) + 1e-9


@given(steps=step_counts, lower_bound=lower_bounds)
def test_another_step_does_no_worse(steps, lower_bound):
    x = np.geomspace(lower_bound, 1, 1000)
    fewer, more = (np.abs(1 - composed(n, lower_bound, x)).max() for n in (steps, steps + 1))
    assert more <= fewer + 1e-9


@given(steps=step_counts, lower_bound=lower_bounds)
def test_values_below_the_bound_stay_between_zero_and_one(steps, lower_bound):
    y = composed(steps, lower_bound, np.linspace(0, lower_bound, 1000))
    assert y.min() >= 0
    assert y.max() <= 1 + 1e-9


def promised(method: PolarExpress) -> tuple[tuple[float, float, float], ...]:
    """The polynomials that the method should apply to float64 matrices."""
    lower_bound = (
        smallest_lower_bound((5,) * (method.steps or 7), 8e-4, MARGIN, FLOOR)
        if method.lower_bound is None
        else method.lower_bound
    )
    return minimax_coefficients(method.steps or 7, lower_bound, MARGIN, FLOOR)


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (5, 6), (4, 20), (20, 4), (1, 9)])
@pytest.mark.parametrize(
    "method",
    [
        PolarExpress(),
        PolarExpress(steps=1),
        PolarExpress(steps=12, lower_bound=1e-6),
        PolarExpress(4, 0.1),
    ],
    ids=str,
)
def test_singular_values_are_moved_by_the_polynomials_and_singular_vectors_are_not(method, shape):
    G = rand(0, *shape).numpy()
    U, S, Vt = np.linalg.svd(G, full_matrices=False)
    S = S * np.geomspace(1, 1e-4, len(S))
    moved = applied(promised(method), S / (S**8).sum() ** 0.125)
    close(orthogonalize(torch.from_numpy((U * S) @ Vt), method), (U * moved) @ Vt, atol=1e-8)


@pytest.mark.parametrize("shape", [(1, 5), (2, 3), (5, 6), (31, 40), (40, 31)])
def test_small_matrices_are_orthogonalised_with_high_accuracy(shape):
    G = rand(0, 20, *shape, dtype=torch.float32)
    assert torch.equal(orthogonalize(G), orthogonalize(G, accuracy="high"))


@given(degrees=degree_lists, tolerance=st.sampled_from([1e-3, 1e-2, 0.1]))
def test_the_smallest_lower_bound_is_lifted_to_the_tolerance_and_nothing_smaller_is(
    degrees, tolerance
):
    bound = smallest_lower_bound(degrees, tolerance, MARGIN, FLOOR)
    reached = [
        applied(minimax_composition(degrees, lower, MARGIN, FLOOR), np.array(lower))
        for lower in (bound, bound / 1.01)
    ]
    assert 1 - reached[0] <= tolerance < 1 - reached[1]


@given(steps=step_counts, lower_bound=lower_bounds)
def test_a_floor_keeps_larger_values_away_from_zero(steps, lower_bound):
    x = np.linspace(0.1, 1, 2000)
    for polynomial in minimax_coefficients(steps, lower_bound, MARGIN, FLOOR):
        x = applied([polynomial], x)
        assert x.min() > 0.1


@given(steps=step_counts, lower_bound=lower_bounds)
def test_a_margin_keeps_rounding_at_the_upper_end_harmless(steps, lower_bound):
    x = np.array(1.0)
    for polynomial in minimax_coefficients(steps, lower_bound, MARGIN, FLOOR):
        x = applied([polynomial], x * 1.015)
        assert 0 < x < 2


def test_converges_to_the_sign():
    close(composed(14, 1e-3, np.geomspace(1e-3, 1, 1000)), np.ones(1000), rtol=1e-9)


def test_the_limit_on_a_point_is_flat_there():
    a, b, c = minimax_quintic(1 - 1e-7, 1 + 1e-7)
    close([a + b + c, a + 3 * b + 5 * c, 6 * b + 20 * c], [1, 0, 0], atol=1e-5)


def test_one_triple_a_step():
    assert [len(minimax_coefficients(steps, 0.01)) for steps in (1, 4, 9)] == [1, 4, 9]


@pytest.mark.parametrize(
    "settings", [{"steps": 0}, {"lower_bound": 0.0}, {"lower_bound": 1.0}, {"lower_bound": -0.1}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"PolarExpress takes .*{next(iter(settings.values()))}"):
        PolarExpress(**settings)


@pytest.mark.parametrize("degrees", [(4,), (5, 7), (1, 3)])
def test_other_degrees_are_refused(degrees):
    with pytest.raises(ValueError, match="degree 3 or 5"):
        minimax_composition(degrees, 0.01)
