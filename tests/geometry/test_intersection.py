"""One weight under two norms: the dual lies in both unit balls and is near the best point of them.

The best point is bounded from above by splitting the gradient: for G = A + B,
max <G, T> over both balls ≤ ‖A‖† of the one + ‖B‖† of the other, and the best split attains it.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modula import L2, RMS, Linf, NormPairError
from modula.geometry import (
    BallVectors,
    Intersection,
    Spectral,
    Stacked,
    Taps,
    Vectors,
    intersection,
)
from tests.helpers import close, rand
from tests.strategies import matrices, seeds

TIED = Intersection(Spectral(RMS, RMS), Vectors(RMS))
GEOMETRIES = {
    "embedding and head": TIED,
    "lengths and RMS": Intersection(Spectral(L2, L2), Vectors(RMS)),
    "RMS and lengths": Intersection(Spectral(RMS, RMS), Vectors(L2)),
}
# Of a tall matrix [m, n] with m > n² the spectral ball does not lie in that of the rows.
SHAPES = [(5, 5), (3, 8), (12, 3), (40, 3), (60, 2), (100, 4)]

geometries = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
shapes = pytest.mark.parametrize("shape", SHAPES)
few = settings(max_examples=5, deadline=None)
some = settings(max_examples=25, deadline=None)


def pairing(g: Tensor, t: Tensor) -> Tensor:
    return (g * t).sum(dim=(-2, -1))


def upper_bound(geometry: Intersection, G: Tensor, rounds: int = 400) -> float:
    """‖A‖† + ‖G − A‖† for the best split found by ADMM; no point of both balls pairs better."""
    spectral = geometry.spectral.radius(tuple(G.shape))
    row = float(geometry.rows.vector_norm.dual_norm(torch.eye(G.shape[1], dtype=G.dtype))[0])
    step = G.norm() / (spectral * min(G.shape) ** 0.5)
    A, U = torch.zeros_like(G), torch.zeros_like(G)
    for _ in range(rounds):
        B = _shrink_rows(G - A - U, step * row)
        A = _shrink_singular_values(G - B - U, step * spectral)
        U = U + A + B - G
    split = geometry.spectral.dual_norm(A[None]) + geometry.rows.dual_norm((G - A)[None])
    alone = geometry.spectral.dual_norm(G[None]), geometry.rows.dual_norm(G[None])
    return float(min(split, *alone))


def _shrink_singular_values(X: Tensor, by: Tensor) -> Tensor:
    U, S, Vt = torch.linalg.svd(X, full_matrices=False)
    return (U * (S - by).clamp(min=0)) @ Vt


def _shrink_rows(X: Tensor, by: Tensor) -> Tensor:
    length = X.norm(dim=-1, keepdim=True)
    return X * (1 - by / length.clamp(min=1e-300)).clamp(min=0)


# Feasible, and near the best


@geometries
@shapes
@given(seed=seeds)
@few
def test_the_dual_lies_in_both_balls(geometry, shape, seed):
    t = geometry.dualize(rand(seed, 2, *shape), "svd")
    assert float(geometry.spectral.norm(t).max()) <= 1 + 1e-10
    assert float(geometry.rows.norm(t).max()) <= 1 + 1e-10


@geometries
@given(g=matrices())
@some
def test_the_dual_of_any_matrix_lies_in_both_balls(geometry, g):
    t = geometry.dualize(g, "svd")
    assert float(geometry.norm(t).max()) <= 1 + 1e-10


@geometries
@shapes
@given(seed=seeds)
@few
def test_on_normal_gradients_it_attains_0_8_of_the_best(geometry, shape, seed):
    G = rand(seed, *shape)
    # 0.88 was the least in 60 gradients of each shape, at widths 2 and 3
    assert float(geometry.dual_norm(G[None])) >= 0.8 * upper_bound(geometry, G)


@st.composite
def skewed(draw: st.DrawFn) -> Tensor:
    """Matrices with few large rows, few large directions, or both."""
    m, n = draw(st.sampled_from(SHAPES))
    G = rand(draw(seeds), m, n)
    rows = torch.linspace(0, draw(st.sampled_from([0.0, -3.0, -20.0])), m, dtype=G.dtype)
    columns = torch.linspace(0, draw(st.sampled_from([0.0, -3.0, -20.0])), n, dtype=G.dtype)
    common = draw(st.sampled_from([0.0, 10.0])) * rand(1, 1, n)
    return rows.exp()[:, None] * (G + common) * columns.exp()


@geometries
@given(G=skewed())
@some
def test_on_any_gradient_it_attains_0_45_of_the_best(geometry, G):
    # 0.49 was the least in 19,000 gradients whose rows differ by many orders of magnitude
    assert float(geometry.dual_norm(G[None])) >= 0.45 * upper_bound(geometry, G)


def test_the_upper_bound_is_attained_where_one_ball_lies_in_the_other():
    geometry = Intersection(Spectral(L2, L2), Vectors(L2))
    G = rand(0, 6, 4)
    close([upper_bound(geometry, G)], geometry.spectral.dual_norm(G[None]), rtol=1e-3)
    close(geometry.dual_norm(G[None]), geometry.spectral.dual_norm(G[None]))


# The norms


@geometries
@given(seed=seeds)
def test_the_norm_is_the_larger_of_the_two(geometry, seed):
    w = rand(seed, 3, 7, 4)
    close(geometry.norm(w), torch.maximum(geometry.spectral.norm(w), geometry.rows.norm(w)))


@geometries
@given(g=matrices())
@some
def test_the_dual_norm_is_at_most_each_of_the_two(geometry, g):
    own = geometry.dual_norm(g)
    for other in (geometry.spectral, geometry.rows):
        assert bool((own <= other.dual_norm(g) * (1 + 1e-9)).all())


@geometries
@given(g=matrices())
@some
def test_the_dual_attains_the_dual_norm(geometry, g):
    close(pairing(g, geometry.dualize(g, "svd")), geometry.dual_norm(g), rtol=1e-9, atol=0)


@geometries
@given(seed=seeds)
def test_a_gradient_is_pushed_against_its_own_direction(geometry, seed):
    assert float(geometry.dual_norm(rand(seed, 1, 6, 4))) > 0


@geometries
@given(seed=seeds, c=st.sampled_from([1e-20, 1e-3, 7.0, 1e20]))
@some
def test_dualize_ignores_a_positive_scale(geometry, seed, c):
    g = rand(seed, 1, 30, 3)
    close(geometry.dualize(c * g, "svd"), geometry.dualize(g, "svd"), atol=1e-8)


@geometries
@given(seed=seeds)
@some
def test_dualize_is_odd(geometry, seed):
    g = rand(seed, 1, 30, 3)
    close(geometry.dualize(-g, "svd"), -geometry.dualize(g, "svd"), atol=1e-10)


@geometries
@pytest.mark.parametrize("method", ["svd", "polar_express", None])
def test_zero_stays_zero(geometry, method):
    zero = torch.zeros(2, 5, 3)
    assert not geometry.dualize(zero, method).any()
    assert not geometry.dual_norm(zero).any()
    assert not geometry.norm(zero).any()


@geometries
@given(seed=seeds)
@some
def test_a_row_without_gradient_does_not_move(geometry, seed):
    g = rand(seed, 1, 30, 3)
    g[0, :10] = 0
    close(geometry.dualize(g, "svd")[0, :10], torch.zeros(10, 3), atol=1e-10)


@geometries
@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
@pytest.mark.parametrize("method", ["svd", None])
def test_a_broken_gradient_is_not_a_sound_dual_and_breaks_no_other(geometry, broken, method):
    g = rand(0, 2, 7, 4, dtype=torch.float32)
    sound = geometry.dualize(g, method)
    g[0, 2, 1] = broken
    t = geometry.dualize(g, method)
    assert t[0].isnan().any()
    close(t[1], sound[1], rtol=1e-5, atol=1e-6)


@geometries
@pytest.mark.parametrize("measure", ["norm", "dual_norm"])
def test_the_norms_of_a_broken_matrix_are_nan(geometry, measure):
    w = rand(0, 2, 7, 4)
    w[0, 2, 1] = torch.nan
    found = getattr(geometry, measure)(w)
    assert found.isnan().tolist() == [True, False]


@geometries
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@shapes
def test_in_lower_precision_it_stays_near_both_balls(geometry, dtype, shape):
    t = geometry.dualize(rand(0, 2, *shape, dtype=dtype))
    assert t.dtype == dtype
    assert float(geometry.norm(t.double()).max()) <= 1.03


@geometries
@given(seed=seeds)
@few
def test_a_batch_is_dualized_matrix_by_matrix(geometry, seed):
    g = rand(seed, 3, 40, 3)
    alone = torch.cat([geometry.dualize(one[None], "svd") for one in g])
    close(geometry.dualize(g, "svd"), alone, atol=1e-10)


@geometries
@shapes
def test_a_sample_has_norm_one(geometry, shape):
    drawn = geometry.sample(shape, torch.Generator().manual_seed(0), torch.device("cpu"))
    close(geometry.norm(drawn[None]), [1.0], rtol=1e-5)


@geometries
@shapes
def test_project_lands_in_both_balls(geometry, shape):
    assert float(geometry.norm(geometry.project(rand(0, 2, *shape))).max()) <= 1 + 1e-3


# Which norms intersect


def test_one_norm_intersects_with_itself():
    assert intersection([Vectors(RMS), Vectors(RMS)]) == Vectors(RMS)
    assert intersection([Taps()]) == Taps()


@pytest.mark.parametrize("rows", [Vectors(RMS), Vectors(L2), Vectors(RMS, axis=1)])
def test_a_spectral_norm_and_one_of_rows_intersect_in_either_order(rows):
    spectral = Spectral(RMS, RMS)
    expected = Intersection(spectral, rows)
    assert intersection([spectral, rows]) == intersection([rows, spectral]) == expected


@pytest.mark.parametrize(
    "uses",
    [
        (Vectors(RMS), Vectors(L2)),
        (Spectral(RMS, RMS), Spectral(L2, L2)),
        (Spectral(RMS, RMS), Vectors(RMS, axis=-2)),
        (Spectral(RMS, RMS), Vectors(Linf)),
        (Spectral(RMS, RMS), Vectors(RMS, axes=1)),
        (Spectral(RMS, RMS), BallVectors(RMS)),
        (Spectral(RMS, RMS), Taps()),
        (Spectral(RMS, RMS), Stacked(Spectral(RMS, RMS), 2)),
        (Spectral(RMS, RMS), Vectors(RMS), Vectors(L2)),
        (TIED, Vectors(L2)),
    ],
)
def test_other_norms_are_refused_by_name(uses):
    with pytest.raises(NormPairError, match=r"no duality map is known.*and") as error:
        intersection(uses)
    assert all(type(use).__name__ in str(error.value) for use in uses)


def test_equal_geometries_are_one_key():
    assert len({TIED, Intersection(Spectral(RMS, RMS), Vectors(RMS)), Vectors(RMS)}) == 2
