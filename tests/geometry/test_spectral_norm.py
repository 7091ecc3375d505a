"""σ_max and Σσ where LAPACK does not converge, and on matrices of any rank and scale."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import L2, RMS
from modula.geometry import Spectral, Taps, spectral
from tests.helpers import close, rand

GEOMETRY = Spectral(L2, L2)


def test_a_matrix_of_rank_one_on_which_lapack_fails():
    torch.manual_seed(245)
    G = torch.outer(torch.randn(128).relu(), torch.randn(128).relu())
    expected = torch.linalg.matrix_norm(G.double(), 2)
    close(GEOMETRY.norm(G[None])[0], expected, rtol=1e-5)
    close(GEOMETRY.dual_norm(G[None])[0], expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("geometry", "shape"), [(Spectral(RMS, RMS), (4, 9)), (Taps(pixel_axes=1), (4, 9, 3))], ids=repr
)
def test_nothing_overflows_on_the_way_to_a_norm_within_the_range(geometry, shape, dtype):
    for measure in (geometry.norm, geometry.dual_norm):
        unit = torch.ones(1, *shape, dtype=torch.float64)
        scale = torch.finfo(dtype).max / max(1.0, measure(unit).item()) / 2
        close(measure((scale * unit).to(dtype)) / scale, measure(unit), rtol=0.01)


def test_entries_whose_squares_underflow_do_not_make_lapack_return_nan():
    columns = torch.logspace(0, -40, 33, dtype=torch.float64)
    for seed in range(40):
        G = (rand(seed, 33, 33) * columns[torch.randperm(33)]).float()
        close(GEOMETRY.norm(G[None]), torch.linalg.matrix_norm(G.double(), 2)[None], rtol=1e-5)


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
