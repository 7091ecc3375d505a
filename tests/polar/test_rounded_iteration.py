"""The iteration in 16 bits: its polynomials, noise in null spaces, and the range of float16."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modula.polar import PolarExpress
from modula.polar.minimax import minimax_coefficients
from modula.polar.rounded_iteration import (
    MAX_NOISE_GROWTH,
    iterate_rounded,
    steps_with_remainder,
)
from tests.helpers import close, rand
from tests.polar.matrices import falling, largest, orthonormal, with_singular_values

POLYNOMIALS = PolarExpress().compositions["default"]
SHAPES = [(32, 32), (40, 61), (64, 256), (100, 150), (128, 128)]
ROUNDING = {torch.bfloat16: 0.04, torch.float16: 0.015}
"""The most by which rounding may move a singular value of about 1 in six steps.

It rounds a few times, by 2⁻⁹ or 2⁻¹² each, at each step."""
ROUNDING_OF_FEW = {torch.bfloat16: 0.04, torch.float16: 0.01}
"""The same for up to four steps."""
NOISE = {torch.bfloat16: 0.05, torch.float16: 0.01}

every_format = pytest.mark.parametrize("dtype", ROUNDING, ids=str)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def prepared(G: Tensor) -> Tensor:
    """As `orthogonalize` hands matrices to a method."""
    return (G / G.abs().amax(dim=(1, 2), keepdim=True)).float()


def lifted(G: Tensor, orthogonal: Tensor) -> tuple[Tensor, Tensor]:
    """uᵢᵀ O vᵢ and the σᵢ, relative to (Σσ⁸)^⅛."""
    U, S, Vh = torch.linalg.svd(G.double(), full_matrices=False)
    return ((U.mT @ orthogonal.double()) * Vh).sum(dim=-1), S / (S**8).sum(
        dim=-1, keepdim=True
    ) ** 0.125


def applied(polynomials: list, x: Tensor) -> Tensor:
    for a, b, c in polynomials:
        x = a * x + b * x**3 + c * x**5
    return x


@every_format
@every_shape
@pytest.mark.parametrize("smallest", [1.0, 0.1, 1e-2, 1e-4])
def test_singular_values_are_moved_by_the_polynomials(dtype, shape, smallest):
    G = prepared(with_singular_values(0, falling(shape[0], smallest), *shape, count=3))
    values, sizes = lifted(G, iterate_rounded(G.clone(), POLYNOMIALS, dtype))
    close(values, applied(POLYNOMIALS, sizes), atol=ROUNDING[dtype])


@every_format
@every_shape
@pytest.mark.parametrize("steps", [1, 2])
def test_so_they_are_by_few_polynomials(dtype, shape, steps):
    polynomials = minimax_coefficients(steps, 0.1, 1.02)
    G = prepared(rand(0, 2, *shape))
    values, sizes = lifted(G, iterate_rounded(G.clone(), polynomials, dtype))
    close(values, applied(polynomials, sizes), atol=ROUNDING_OF_FEW[dtype])


@every_format
@every_shape
@pytest.mark.parametrize("steps", [4, 5, 6])
def test_so_they_are_by_more_polynomials(dtype, shape, steps):
    polynomials = PolarExpress(steps=steps).compositions["default"]
    G = prepared(with_singular_values(0, falling(shape[0], 1e-3), *shape, count=3))
    values, sizes = lifted(G, iterate_rounded(G.clone(), polynomials, dtype))
    allowed = ROUNDING_OF_FEW if steps <= 4 else ROUNDING
    close(values, applied(polynomials, sizes), atol=allowed[dtype])


@given(slopes=st.lists(st.floats(1.0, 9.0), min_size=1, max_size=12))
def test_a_remainder_is_kept_as_long_as_later_slopes_would_multiply_it_too_far(slopes):
    count = steps_with_remainder([(a, 0.0, 0.0) for a in slopes])
    assert np.prod(slopes[count + 1 :]) <= MAX_NOISE_GROWTH * (1 + 1e-12)
    assert count == 0 or np.prod(slopes[count:]) > MAX_NOISE_GROWTH * (1 - 1e-12)


@every_format
@every_shape
@pytest.mark.parametrize(
    "method",
    [
        PolarExpress(),
        PolarExpress(steps=4, lower_bound=0.0025),
        *map(PolarExpress().with_steps, (5, 6, 7)),
    ],
)
@pytest.mark.parametrize("rank", [1, 3, 8])
def test_null_spaces_stay_without_noise(dtype, shape, method, rank):
    """The first steps have to cancel the rounding error of X, which would grow a thousandfold.

    2⁻⁹·√m/√(mn), times slopes of 540 to 8,600, is more than 0.1 for every shape.
    """
    m, n = shape
    polynomials = method.compositions["default"]
    G = prepared(rand(0, 3, m, rank) @ rand(1, 3, rank, n))
    left, right = (
        torch.linalg.svd(G.double())[0][..., rank:],
        torch.linalg.svd(G.double())[2][:, rank:],
    )
    orthogonal = iterate_rounded(G.clone(), polynomials, dtype).double()
    assert largest(left.mT @ orthogonal @ right.mT) <= NOISE[dtype]


@every_format
@every_shape
def test_one_direction_alone_grows_no_longer_than_one(dtype, shape):
    """The singular value of a matrix of rank one lies exactly at the upper end of the interval.

    Beyond it the polynomials grow steeply.
    """
    m, n = shape
    G = prepared(orthonormal(0, 50, m, 1) @ orthonormal(1, 50, n, 1).mT)
    assert largest(iterate_rounded(G.clone(), POLYNOMIALS, dtype)) <= 1.05


@every_format
@every_shape
@pytest.mark.parametrize("rest", [0.0, 1e-6, 1e-3])
def test_a_matrix_with_one_huge_entry(dtype, shape, rest):
    G = rest * rand(0, 3, *shape)
    G[:, 3, 5] = 1
    values, sizes = lifted(prepared(G), iterate_rounded(prepared(G), POLYNOMIALS, dtype))
    close(values, applied(POLYNOMIALS, sizes), atol=ROUNDING[dtype])


@every_format
@pytest.mark.parametrize(
    "fill",
    [lambda n: torch.ones(1, 32, n), lambda n: rand(0, 1, 32, n).sign()],
    ids=["ones", "signs"],
)
@pytest.mark.parametrize("n", [32, 300, 2000])
def test_no_sum_overflows(dtype, fill, n):
    assert largest(iterate_rounded(fill(n).float(), POLYNOMIALS, dtype)) <= 1.05


@every_format
@pytest.mark.parametrize("n", [32, 300, 2000])
def test_no_square_underflows(dtype, n):
    """One entry is 1, and the others are a thousandth.

    The second of the two singular values is 1e-3·√(32n) ≤ 0.25 of the first.

    The Gram matrix has entries 1e-6 of its largest, which are spaced by a few percent in float16,
    where rows have length 1, and all of them are rounded the same way.
    """
    G = torch.full((1, 32, n), 1e-3)
    G[0, 0, 0] = 1
    values, sizes = lifted(G, iterate_rounded(G.clone(), POLYNOMIALS, dtype))
    close(values[:, :2], applied(POLYNOMIALS, sizes[:, :2]), atol=max(0.02, ROUNDING[dtype]))


@every_format
@every_shape
def test_zero_rows_and_columns_stay_exactly_zero(dtype, shape):
    G = prepared(rand(0, 2, *shape))
    G[:, 4] = 0
    G[:, :, 7] = 0
    orthogonal = iterate_rounded(G.clone(), POLYNOMIALS, dtype)
    assert not orthogonal[:, 4].any()
    assert not orthogonal[:, :, 7].any()


@every_format
def test_zero_stays_zero(dtype):
    assert not iterate_rounded(torch.zeros(2, 32, 40), POLYNOMIALS, dtype).any()


@every_format
def test_a_broken_matrix_is_nan_alone(dtype):
    G = prepared(rand(0, 3, 32, 40))
    whole = iterate_rounded(G.clone(), POLYNOMIALS, dtype)
    G[1, 2, 3] = torch.nan
    broken = iterate_rounded(G.clone(), POLYNOMIALS, dtype)
    assert broken[1].isnan().all()
    assert torch.equal(broken[[0, 2]], whole[[0, 2]])
