"""The sketch: exact on the directions that it keeps, zero on the others."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula.polar import Sketch, orthogonalize
from tests.helpers import close, rand
from tests.polar.matrices import falling, with_singular_values
from tests.strategies import seeds

SHAPES = [(30, 30), (30, 80), (80, 30)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def leading(G: torch.Tensor, rank: int) -> torch.Tensor:
    """Σ uᵢvᵢᵀ over the `rank` leading singular vectors."""
    U, _, Vh = np.linalg.svd(G.numpy(), full_matrices=False)
    return torch.from_numpy(U[..., :rank] @ Vh[..., :rank, :])


def steps_down(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@every_shape
@given(seed=seeds, rank=st.integers(1, 12))
def test_matrices_of_low_rank_are_orthogonalised_exactly(shape, seed, rank):
    G = with_singular_values(seed, falling(rank, 0.01), *shape, count=2)
    close(orthogonalize(G, Sketch(rank=12)), leading(G, rank), atol=1e-10)


@every_shape
@pytest.mark.parametrize("rank", [1, 3, 8])
def test_exactly_the_leading_directions_are_kept_where_there_is_a_gap(shape, rank):
    G = with_singular_values(
        0, torch.cat([falling(rank, 0.5), 1e-3 * falling(30 - rank, 0.1)]), *shape, count=2
    )
    close(orthogonalize(G, Sketch(rank=rank)), leading(G, rank), atol=1e-8)


@every_shape
def test_power_iterations_find_the_leading_directions_where_there_is_hardly_a_gap(shape):
    G = with_singular_values(0, torch.cat([falling(4, 0.9), 0.6 * falling(26, 0.5)]), *shape)
    gaps = [
        (orthogonalize(G, Sketch(rank=4, power_iterations=q, oversampling=2)) - leading(G, 4))
        .norm()
        .item()
        for q in (0, 2, 8, 30)
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-4


@every_shape
@pytest.mark.parametrize(("tolerance", "kept"), [(0.9, 1), (0.35, 2), (0.05, 3), (1e-3, 20)])
def test_a_tolerance_keeps_what_is_above_it_and_nothing_else(shape, tolerance, kept):
    """17 equal values straddle the first 16 directions that are tried."""
    G = with_singular_values(
        0,
        torch.cat([steps_down([1.0, 0.5, 0.1]), steps_down([0.01] * 17), steps_down([1e-4] * 10)]),
        *shape,
    )
    close(orthogonalize(G, Sketch(tolerance=tolerance)), leading(G, kept), atol=1e-6)


INDEX = torch.arange(1, 129, dtype=torch.float64)
SPECTRA = {
    "flat": torch.ones(128).double(),
    "i^-1/2": INDEX**-0.5,
    "i^-1": INDEX**-1,
    "exponential": 0.9**INDEX,
    "clustered": torch.cat([steps_down([1.0] * 20), steps_down([0.12] * 30 + [0.09] * 78)]),
}


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("power_iterations", [0, 2])
def test_as_many_directions_come_out_as_lie_above_the_tolerance(
    spectrum, dtype, seed, power_iterations
):
    G = with_singular_values(seed, spectrum, 128, 140).to(dtype)
    for tolerance in (0.0985, 0.31):
        method = Sketch(tolerance=tolerance, seed=seed, power_iterations=power_iterations)
        kept = torch.linalg.svdvals(orthogonalize(G, method).double()).sum().round()
        assert kept == (spectrum > tolerance * spectrum[0]).sum()


def test_a_matrix_that_needs_a_higher_rank_changes_no_other_of_its_batch():
    low = with_singular_values(0, falling(5, 0.5), 60, 70)
    high = with_singular_values(2, falling(60, 0.2), 60, 70)
    both = orthogonalize(torch.cat([low, high]), Sketch(tolerance=0.1))
    close(both[:1], orthogonalize(low, Sketch(tolerance=0.1)), atol=1e-12)


def test_a_tolerance_may_keep_all():
    G = with_singular_values(0, falling(40, 0.5), 40, 60)
    close(orthogonalize(G, Sketch(tolerance=0.1)), leading(G, 40), atol=1e-8)


def test_matrices_of_a_batch_keep_as_many_directions_as_each_has():
    G = torch.cat(
        [with_singular_values(rank, torch.ones(rank).double(), 30, 50) for rank in (1, 5, 20, 30)]
    )
    orthogonal = orthogonalize(G, Sketch(tolerance=0.5))
    for each, matrix, rank in zip(orthogonal, G, (1, 5, 20, 30), strict=True):
        close(each, leading(matrix, rank), atol=1e-8)


@every_shape
@pytest.mark.parametrize(
    "method", [Sketch(rank=7), Sketch(tolerance=0.3), Sketch(rank=5, power_iterations=0)], ids=str
)
def test_singular_values_of_the_result_are_one_or_zero(method, shape):
    values = torch.linalg.svdvals(orthogonalize(rand(0, 2, *shape), method))
    close(values, values.round(), atol=1e-10)


@pytest.mark.parametrize("rank", [1, 7, 29])
def test_the_rank_of_the_result_is_the_rank_asked_for(rank):
    close(torch.linalg.svdvals(orthogonalize(rand(0, 30, 40), Sketch(rank=rank))).sum(), rank)


@pytest.mark.parametrize("method", [Sketch(rank=3), Sketch(tolerance=0.3)], ids=str)
def test_the_same_twice_has_equal_bits_whatever_is_drawn_between(method):
    G = rand(0, 30, 40)
    before = orthogonalize(G, method)
    torch.randn(5)
    assert torch.equal(orthogonalize(G, method), before)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    orthogonalize(rand(0, 30, 40), Sketch(rank=3))
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_is_another_sketch():
    G = rand(0, 30, 40)
    one, other = (
        orthogonalize(G, Sketch(rank=3, power_iterations=0, seed=seed)) for seed in (0, 1)
    )
    assert not torch.equal(one, other)


@pytest.mark.parametrize("method", [Sketch(rank=3), Sketch(tolerance=0.3)], ids=str)
def test_a_broken_matrix_is_nan_alone(method):
    G = rand(0, 3, 30, 40)
    whole = orthogonalize(G, method)
    G[1, 2, 3] = torch.inf
    broken = orthogonalize(G, method)
    assert broken[1].isnan().all()
    assert torch.equal(broken[[0, 2]], whole[[0, 2]])


@pytest.mark.parametrize("method", [Sketch(rank=3), Sketch(tolerance=0.3)], ids=str)
def test_zero_stays_zero(method):
    assert not orthogonalize(torch.zeros(2, 30, 40), method).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 3, "tolerance": 0.1}, r"a rank or a tolerance, got rank=3 and tolerance=0\.1"),
        ({"rank": 0}, "at least 1 direction, got rank=0"),
        ({"tolerance": 0.0}, r"between 0 and 1, got 0\.0"),
        ({"tolerance": 1.0}, r"between 0 and 1, got 1\.0"),
        ({"tolerance": float("nan")}, "between 0 and 1, got nan"),
        ({"power_iterations": -1}, "at least 0, got -1 and 8"),
        ({"oversampling": -2}, "at least 0, got 2 and -2"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Sketch(**settings)
