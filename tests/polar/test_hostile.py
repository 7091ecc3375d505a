"""Hypothesis looks for matrices of awkward shapes and entries that break a method."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula.polar import SVD, InverseRoot, NewtonSchulz, PolarExpress, Sketch, orthogonalize
from tests.helpers import rand
from tests.polar.matrices import largest
from tests.strategies import seeds

METHODS = [
    PolarExpress(),
    PolarExpress(steps=6),
    PolarExpress(accuracy="high"),
    NewtonSchulz(),
    InverseRoot(),
    Sketch(rank=64),
    Sketch(tolerance=1e-3),
    SVD(),
]
sizes = st.sampled_from([0, 1, 2, 3, 31, 32, 33])
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])

every_method = pytest.mark.parametrize("method", METHODS, ids=str)
few = settings(max_examples=12)


@st.composite
def hostile(draw: st.DrawFn) -> torch.Tensor:
    """Matrices [m, n] of any rank, some of whose rows and columns are zero, tiny or huge."""
    m, n, seed = draw(sizes), draw(sizes), draw(seeds)
    dtype = draw(dtypes)
    rank = draw(st.sampled_from([1, 2, 33]))
    G = rand(seed, m, rank) @ rand(seed + 1, rank, n)
    factors = draw(st.lists(st.sampled_from([0.0, 1.0, 1e-3, 1e-30, 1e30]), min_size=1, max_size=3))
    for i, factor in enumerate(factors):
        G[i::5] *= factor
    size = G.abs().max().item() if G.numel() else 0.0
    scale = draw(st.sampled_from([1.0, torch.finfo(dtype).max, torch.finfo(dtype).tiny / 8]))
    return (G / (size or 1.0) * scale).to(dtype)


@every_method
@few
@given(G=hostile())
def test_the_result_is_finite_and_at_most_one(method, G):
    orthogonal = orthogonalize(G, method)
    assert orthogonal.shape == G.shape
    assert orthogonal.dtype == G.dtype
    assert orthogonal.isfinite().all()
    assert largest(orthogonal) <= 1.1


@every_method
@few
@given(G=hostile(), place=st.tuples(seeds, seeds), entry=st.sampled_from([torch.nan, torch.inf]))
def test_an_entry_that_is_not_finite_makes_all_nan_wherever_it_is(method, G, place, entry):
    if G.numel():
        G[place[0] % G.shape[0], place[1] % G.shape[1]] = entry
    assert orthogonalize(G, method).isnan().all()


@every_method
@few
@given(seed=seeds, m=sizes, n=sizes, dtype=dtypes, exponent=st.integers(-3, 12))
def test_rank_one_becomes_its_unit_vectors_at_any_scale(method, seed, m, n, dtype, exponent):
    """The left vector is of signs, so that the product is exact in every dtype."""
    if m and n:
        u, v = rand(seed, m, 1).sign(), rand(seed + 1, n, 1).to(dtype).double()
        expected = (u / u.norm()) @ (v / v.norm()).mT
        G = (2.0**exponent * u @ v.mT).to(dtype)
        assert largest(orthogonalize(G, method).double() - expected) <= 0.06


def conditioned(seed: int, m: int, n: int) -> torch.Tensor:
    """A matrix in float32 whose singular values are between 1/4 and 1."""
    U, S, Vh = torch.linalg.svd(rand(seed, m, n), full_matrices=False)
    return ((U * S.clamp(S[:1] / 4)) @ Vh).float()


@every_method
@few
@given(seed=seeds, m=sizes.filter(bool), n=sizes.filter(bool))
def test_follows_permutations_transposition_and_sign(method, seed, m, n):
    G = conditioned(seed, m, n)
    rows, columns = (torch.randperm(d, generator=torch.Generator().manual_seed(d)) for d in (m, n))
    orthogonal = orthogonalize(G, method)
    moved = orthogonalize(G[rows][:, columns], method)
    assert largest(moved.double() - orthogonal[rows][:, columns].double()) <= 0.06
    assert largest(orthogonalize(-G.mT, method).double() + orthogonal.mT.double()) <= 0.06
