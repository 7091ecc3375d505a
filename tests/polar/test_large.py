"""Properties of every method on matrices large enough for products in 16 bits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modula.polar import SVD, InverseRoot, NewtonSchulz, PolarExpress, Sketch, orthogonalize
from tests.helpers import rand
from tests.polar.matrices import falling, largest, with_singular_values
from tests.strategies import seeds

METHODS = {
    PolarExpress(): 0.1,
    PolarExpress(steps=6): 0.13,
    PolarExpress(accuracy="high"): 0.02,
    NewtonSchulz(): 1e-3,
    NewtonSchulz(degree=3): 1e-3,
    InverseRoot(): 1e-3,
    InverseRoot(sides="both"): 1e-3,
    Sketch(): 1e-3,
    SVD(): 1e-3,
}
"""The largest singular value that the difference of two equal computations may have.

Rounding of 2⁻⁹ tilts the singular vectors of a value of 1/20, the smallest here, by
20·2⁻⁹ = 0.04, in either computation; with six steps, values swing lower on the way. High accuracy
rounds to 2⁻⁹ only where all values have been lifted to about 0.3. float32 rounds to 2⁻²⁴."""

every_method = pytest.mark.parametrize("method", METHODS, ids=str)
shapes = st.tuples(st.integers(32, 60), st.integers(32, 130))
few = settings(max_examples=4)


def conditioned(seed: int, m: int, n: int) -> Tensor:
    """[3, m, n] in float32, with singular values from 1 to 1/20."""
    return with_singular_values(seed, falling(min(m, n), 0.05), m, n, count=3).float()


@every_method
@few
@given(seed=seeds, shape=shapes)
def test_follows_rotations_on_either_side(method, seed, shape):
    m, n = shape
    G, Q, R = (
        conditioned(seed, m, n),
        torch.linalg.qr(rand(seed + 2, m, m)).Q,
        torch.linalg.qr(rand(seed + 3, n, n)).Q,
    )
    rotated = orthogonalize((Q @ G.double() @ R).float(), method)
    assert largest(rotated - Q @ orthogonalize(G, method).double() @ R) <= METHODS[method]


@every_method
@few
@given(seed=seeds, shape=shapes)
def test_commutes_with_transposition_to_the_last_bit(method, seed, shape):
    G = (
        conditioned(seed, *shape)
        if shape[0] != shape[1]
        else conditioned(seed, shape[0], shape[1] + 1)
    )
    assert torch.equal(orthogonalize(G.mT, method), orthogonalize(G, method).mT)


@every_method
@few
@given(seed=seeds, d=st.integers(32, 60))
def test_commutes_with_transposition_of_square_matrices(method, seed, d):
    G = conditioned(seed, d, d)
    assert (
        largest(orthogonalize(G.mT, method).double() - orthogonalize(G, method).mT.double())
        <= METHODS[method]
    )


@every_method
@few
@given(seed=seeds, shape=shapes, exponent=st.integers(-80, 80))
def test_powers_of_two_do_not_even_change_the_rounding(method, seed, shape, exponent):
    G = conditioned(seed, *shape)
    assert torch.equal(orthogonalize(2.0**exponent * G, method), orthogonalize(G, method))


@every_method
@pytest.mark.parametrize("scale", [1e-30, 3e-5, 7e5, 1e30])
def test_ignores_the_scale(method, scale, device):
    G = conditioned(0, 40, 100).to(device)
    assert largest(orthogonalize(scale * G, method) - orthogonalize(G, method)) <= METHODS[method]


@every_method
@pytest.mark.parametrize("shape", [(40, 50), (100, 40)], ids=str)
def test_the_same_twice_has_equal_bits(method, shape, device):
    G = conditioned(0, *shape).to(device)
    assert torch.equal(orthogonalize(G, method), orthogonalize(G.clone(), method))


@every_method
@few
@given(
    seed=seeds, shape=shapes, entry=st.sampled_from([0.0, 1e30, torch.nan, torch.inf, -torch.inf])
)
def test_no_matrix_of_a_batch_notices_another(method, seed, shape, entry):
    G = conditioned(seed, *shape)
    before = orthogonalize(G, method)
    G[1] *= 1e-20
    G[1, 3, 4] = entry
    assert torch.equal(orthogonalize(G, method)[[0, 2]], before[[0, 2]])


@every_method
@pytest.mark.parametrize("entry", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_matrix_becomes_nan(method, entry, device):
    G = conditioned(0, 40, 50).to(device)
    G[1, 3, 4] = entry
    assert orthogonalize(G, method)[1].isnan().all()


@every_method
@few
@given(seed=seeds, shape=shapes, rank=st.integers(1, 8))
def test_null_spaces_stay_without_noise(method, seed, shape, rank):
    """The bound follows from the noise of the first rounding whose error is not kept.

    A matrix with r singular values of about 1 has the Frobenius norm √r. Its rounding is noise of
    2⁻⁹·√(r/3mn) an entry and (√m + √n) times that as a singular value, 0.0011 at m = n = 32 and
    r = 8. The slopes after it, 15 at most, make that 0.017; the rounding of the polynomials adds as
    much again.
    """
    m, n = shape
    A, B = rand(seed, 2, m, rank), rand(seed + 1, 2, rank, n)
    left, right = torch.linalg.svd(A)[0][..., rank:], torch.linalg.svd(B)[2][:, rank:]
    orthogonal = orthogonalize((A @ B).float(), method).double()
    assert largest(left.mT @ orthogonal @ right.mT) <= 0.05


@pytest.mark.parametrize(
    "method", [method for method in METHODS if not isinstance(method, (SVD, Sketch))], ids=str
)
@few
@given(seed=seeds, shape=shapes)
def test_zero_rows_and_columns_stay_exactly_zero(method, seed, shape):
    G = conditioned(seed, *shape)
    G[:, 3::5] = 0
    G[:, :, 2::7] = 0
    orthogonal = orthogonalize(G, method)
    assert not orthogonal[:, 3::5].any()
    assert not orthogonal[:, :, 2::7].any()
