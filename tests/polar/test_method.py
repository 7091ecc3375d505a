"""The contract of a method: what it may overwrite, and which matrices may be padded with zeros."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from modula.polar import (
    SVD,
    InverseRoot,
    Matrices,
    Method,
    NewtonSchulz,
    PolarExpress,
    Sketch,
    orthogonalize,
)
from modula.polar.batching import orthogonalize_all
from modula.polar.method import SMALL_ROWS
from tests.helpers import close, rand
from tests.polar.matrices import falling, largest, with_singular_values

METHODS = [
    PolarExpress(),
    PolarExpress(steps=6),
    PolarExpress(accuracy="high"),
    NewtonSchulz(),
    NewtonSchulz(degree=3),
    InverseRoot(),
    InverseRoot(sides="both"),
    Sketch(),
    Sketch(tolerance=1e-3),
    SVD(),
]
SIZES = [((3, 4), (6, 9)), ((20, 30), (31, 40)), ((32, 40), (50, 60)), ((33, 90), (33, 120))]
"""A size, and a larger one to which it is padded."""

every_method = pytest.mark.parametrize("method", METHODS, ids=str)


@dataclass(frozen=True)
class ByCholesky(Method):
    """L⁻¹X with XXᵀ = LLᵀ: orthonormal rows, which a matrix with a row of zeros does not have."""

    def __call__(self, X: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(torch.linalg.cholesky(X @ X.mT), X, upper=False)


@dataclass(frozen=True)
class Overwriting(Method):
    """A method that leaves nothing of the matrices that it gets."""

    def __call__(self, X: Tensor) -> Tensor:
        found = SVD()(X)
        X.fill_(torch.nan)
        return found


def conditioned(seed: int, count: int, m: int, n: int) -> Tensor:
    return with_singular_values(seed, falling(m, 0.1), m, n, count)


@every_method
def test_every_method_of_modula_takes_padding(method):
    assert method.takes_padding


@every_method
@pytest.mark.parametrize(("size", "larger"), SIZES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_padding_changes_no_more_than_rounding(method, size, larger, dtype, device):
    (m, n), G = size, conditioned(0, 3, *size).to(device, dtype)
    alone, padded = (
        torch.cat(list(method.on_batch(Matrices([G], *batch)))).double() for batch in (size, larger)
    )
    assert largest(padded[:, :m, :n] - alone) <= (1e-8 if dtype == torch.float64 else 0.08)


@every_method
@pytest.mark.parametrize(("size", "larger"), SIZES, ids=str)
def test_padding_stays_zero(method, size, larger, device):
    (m, n), G = size, conditioned(0, 3, *size).to(device, torch.float32)
    padded = torch.cat(list(method.on_batch(Matrices([G], *larger)))).double()
    assert largest(padded[:, m:]) <= 1e-5
    assert largest(padded[:, :, n:]) <= 1e-5


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [(4, 6), (40, 60)], ids=str)
def test_no_method_overwrites_the_matrices_of_a_batch(method, dtype, size, device):
    parts = [rand(0, 2, *size).to(device, dtype), rand(1, 1, *size[::-1]).to(device, dtype).mT]
    before = [part.clone() for part in parts]
    method.on_batch(Matrices(parts, *size))
    assert all(map(torch.equal, parts, before))


def test_a_method_may_overwrite_the_prepared_matrices():
    G = rand(0, 3, 4, 6)
    before = G.clone()
    assert torch.equal(orthogonalize(G, Overwriting()), orthogonalize(G, "svd"))
    assert torch.equal(G, before)


def test_a_method_that_says_nothing_is_given_no_padded_matrices():
    batches = [conditioned(0, 1, 3, 6), conditioned(1, 16, 4, 7)]
    for found, batch in zip(orthogonalize_all(batches, ByCholesky()), batches, strict=True):
        close(found @ found.mT, torch.eye(batch.shape[1]).expand(len(batch), -1, -1))


def test_padded_matrices_would_break_it():
    with pytest.raises(torch.linalg.LinAlgError):
        ByCholesky().on_batch(Matrices([conditioned(0, 1, 3, 6)], 4, 7))


@pytest.mark.parametrize("method", [None, *METHODS], ids=str)
def test_small_matrices_join_no_batch_of_larger_ones(method):
    """Though one of them, padded, would fit."""
    few, many = conditioned(0, 1, SMALL_ROWS - 1, 40), conditioned(1, 16, SMALL_ROWS, 40)
    found = orthogonalize_all([few.float(), many.float()], method)
    assert torch.equal(found[0], orthogonalize(few.float(), method))
