"""Gram products, their polynomials, and iterations on the Gram matrix or the matrix itself."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula.polar import products
from modula.polar.iteration import composed, corrected_step, iterate
from modula.polar.minimax import minimax_coefficients
from modula.polar.products import MIN_ROWS_IN_HALVES, add_to_diagonal, gram, polynomial
from tests.helpers import close, rand
from tests.polar.matrices import falling, with_singular_values
from tests.strategies import seeds

SHAPES = [(MIN_ROWS_IN_HALVES - 1, 40), (MIN_ROWS_IN_HALVES, 40), (MIN_ROWS_IN_HALVES + 1, 40)]
dims = st.integers(1, 12)


@pytest.fixture
def halved(monkeypatch):
    """Every matrix is large enough for halves."""
    monkeypatch.setattr(products, "MIN_ROWS_IN_HALVES", 2)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gram_is_the_product_with_the_transpose(shape, dtype):
    X = rand(0, 2, *shape, dtype=dtype)
    close(gram(X), X.double() @ X.double().mT, atol=1e3 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(3, 8), (64, 256)], ids=str)
def test_gram_of_one_matrix_is_what_it_is_in_a_batch(shape, dtype):
    X = rand(0, 2, *shape, dtype=dtype)
    close(
        gram(X[:1]),
        gram(X)[:1],
        rtol=4 * torch.finfo(dtype).eps,
        atol=shape[1] * torch.finfo(dtype).eps,
    )


@pytest.mark.parametrize("shape", [(2, 3), (5, 5), (6, 4), (7, 20)], ids=str)
def test_gram_in_halves_is_the_whole(halved, shape):
    X = rand(0, 3, *shape)
    close(gram(X), X @ X.mT)


@pytest.mark.parametrize("shape", [(2, 3), (5, 5), (6, 4), (7, 20)], ids=str)
def test_gram_in_halves_is_symmetric_to_the_last_bit(halved, shape):
    R = gram(rand(0, 3, *shape, dtype=torch.float32))
    half = shape[0] // 2
    assert torch.equal(R[:, :half, half:], R.mT[:, :half, half:])


@pytest.mark.parametrize("m", [2, 5, 6])
@pytest.mark.parametrize("c", [0.0, 0.7])
def test_polynomial_in_halves_is_the_whole(halved, m, c):
    R = gram(rand(0, 3, m, m))
    close(
        polynomial(R.clone(), 1.9, -1.3, c),
        1.9 * torch.eye(m, dtype=torch.float64) - 1.3 * R + c * R @ R,
    )


@given(seed=seeds, m=dims, c=st.sampled_from([0.0, 0.4, 0.2, 1e-7, -0.3]))
def test_polynomial_of_a_symmetric_matrix(seed, m, c):
    """Positive or not, and however far away its vertex lies."""
    R = gram(rand(seed, 2, m, m))
    close(
        polynomial(R.clone(), 1.9, -1.3, c),
        1.9 * torch.eye(m, dtype=torch.float64) - 1.3 * R + c * R @ R,
    )


def test_a_number_for_each_matrix_is_added_to_its_diagonal():
    P = add_to_diagonal(torch.zeros(2, 3, 3), torch.tensor([[1.0], [2.0]]))
    close(P, torch.stack([torch.eye(3), 2 * torch.eye(3)]))


@given(seed=seeds, m=dims, more=st.integers(0, 12), steps=st.integers(1, 5))
def test_polynomials_composed_are_those_applied_one_after_another(seed, m, more, steps):
    polynomials = minimax_coefficients(steps, 0.05)
    X = with_singular_values(
        seed, torch.linspace(1, 0.05, m, dtype=torch.float64), m, m + more, count=2
    )
    direct = X
    for coefficients in polynomials:
        direct = polynomial(direct @ direct.mT, *coefficients) @ direct
    first, *others = polynomials
    close(composed(gram(X), polynomial(gram(X), *first), others) @ X, direct, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(20, 39), (20, 40), (20, 200)], ids=str)
def test_wide_matrices_keep_small_singular_values_through_their_gram_matrix(shape, dtype):
    """A Gram matrix in float32 has to be computed anew in time.

    A singular value of 1e-4 has the eigenvalue 1e-8 there, which is rounding error in float32.
    """
    polynomials = minimax_coefficients(12, 1e-5, 1.02, 0.02)
    G = with_singular_values(0, falling(20, 1e-4), *shape)
    exact = torch.linalg.svd(G, full_matrices=False)
    close(iterate(G.to(dtype) / G.abs().amax(), polynomials), exact.U @ exact.Vh, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_acorrected_step_step_is_the_step(dtype):
    a, b, c = 1.9, -1.3, 0.4
    U, _, Vh = torch.linalg.svd(rand(0, 2, 40, 50), full_matrices=False)
    sizes = torch.linspace(0.97, 1.03, 40, dtype=torch.float64)
    X = ((U * sizes) @ Vh).float()
    expected = (U * (a * sizes + b * sizes**3 + c * sizes**5)) @ Vh
    close(
        corrected_step(X, (a, b, c), dtype),
        expected,
        atol=0.06 * torch.finfo(dtype).eps + torch.finfo(torch.float32).eps,
    )


@given(seed=seeds, m=dims, more=st.integers(0, 3))
def test_acorrected_step_step_is_the_step_far_from_one_too_where_nothing_is_rounded(seed, m, more):
    X, (a, b, c) = rand(seed, 2, m, m + more), (1.9, -1.3, 0.4)
    close(
        corrected_step(X, (a, b, c), torch.float64),
        polynomial(X @ X.mT, a, b, c) @ X,
        rtol=1e-9,
        atol=1e-8,
    )
