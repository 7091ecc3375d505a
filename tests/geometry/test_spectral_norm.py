"""σ_max and Σσ where LAPACK does not converge, and on matrices of any rank and scale."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import L2
from modula.geometry import Spectral, spectral
from tests.helpers import close, rand

GEOMETRY = Spectral(L2, L2)


def test_a_matrix_of_rank_one_on_which_lapack_fails():
    torch.manual_seed(245)
    G = torch.outer(torch.randn(128).relu(), torch.randn(128).relu())
    expected = torch.linalg.matrix_norm(G.double(), 2)
    close(GEOMETRY.norm(G[None])[0], expected, rtol=1e-5)
    close(GEOMETRY.dual_norm(G[None])[0], expected, rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(1, 24),
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from([1e-44, 1e-38, 1e-20, 1.0, 1e20, 1e36]),
)
def test_what_stands_in_for_lapack_agrees_with_it(seed, m, n, rank, scale):
    G = rand(seed, m, min(rank, m, n)) @ rand(seed + 1, min(rank, m, n), n)
    G = (G / G.abs().max() * scale).float()
    exact = torch.linalg.svdvals(G.double() / scale)

    def fail(*_):
        raise spectral.LinAlgError("no convergence")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.linalg, "eigvalsh", fail)
        patch.setattr(torch.linalg, "svdvals", fail)
        largest, total = GEOMETRY.norm(G[None])[0], GEOMETRY.dual_norm(G[None])[0]
    close(largest.double() / scale, exact[0], rtol=1e-4, atol=1e-45 / scale)
    close(total.double() / scale, exact.sum(), rtol=1e-4, atol=1e-45 / scale)
