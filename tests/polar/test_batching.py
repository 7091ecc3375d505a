"""Matrices of many shapes in as few calls as possible, within the workspace limit."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modula.polar import orthogonalize
from modula.polar.batching import orthogonalize_all
from modula.workspace import COPIES, DEFAULT_LIMIT, entries_at_once, set_workspace_limit
from tests.helpers import close, rand, record_batches
from tests.polar.matrices import falling, largest, with_singular_values
from tests.strategies import seeds

shapes = st.tuples(st.integers(1, 3), st.sampled_from([2, 3, 5]), st.sampled_from([2, 3, 5]))


@pytest.fixture(autouse=True)
def _limit():
    """Undo the limit that a test sets."""
    yield
    set_workspace_limit(DEFAULT_LIMIT)


@contextmanager
def recorded() -> Iterator[list[torch.Size]]:
    """The shapes of the batches that are orthogonalised."""
    with pytest.MonkeyPatch.context() as patch:
        yield record_batches(patch)


@pytest.fixture
def calls() -> Iterator[list[torch.Size]]:
    with recorded() as shapes:
        yield shapes


def limit_entries(entries: int) -> None:
    set_workspace_limit(4 * COPIES * entries)


def conditioned(seed: int, count: int, m: int, n: int) -> Tensor:
    return with_singular_values(seed, falling(min(m, n), 0.1), m, n, count)


@given(
    seed=seeds,
    sizes=st.lists(shapes, max_size=8),
    method=st.sampled_from([None, "svd", "newton_schulz", "inverse_root"]),
)
def test_each_batch_is_what_it_would_be_alone(seed, sizes, method):
    batches = [conditioned(seed + i, *size) for i, size in enumerate(sizes)]
    for found, batch in zip(orthogonalize_all(batches, method), batches, strict=True):
        close(found, orthogonalize(batch, method), atol=1e-9)


def test_in_16_bits_each_batch_is_what_it_would_be_alone_but_for_rounding(device):
    sizes = [(8, 40, 60), (1, 38, 60), (2, 60, 40), (3, 33, 33), (20, 34, 34), (1, 100, 40)]
    batches = [conditioned(i, *size).to(device, torch.float32) for i, size in enumerate(sizes)]
    for found, batch in zip(orthogonalize_all(batches), batches, strict=True):
        assert largest(found - orthogonalize(batch)) <= 0.03


@given(seed=seeds, sizes=st.lists(shapes, min_size=1, max_size=6))
def test_results_are_shaped_and_laid_out_as_the_batches(seed, sizes):
    batches = [rand(seed + i, *size) for i, size in enumerate(sizes)]
    results = orthogonalize_all(batches)
    assert [found.shape for found in results] == [batch.shape for batch in batches]
    assert all(found.is_contiguous() for found in results)


def test_nothing_is_nothing():
    assert orthogonalize_all([]) == []


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 4, 0)], ids=str)
def test_a_batch_without_entries_stays_as_it_is(shape):
    found, other = orthogonalize_all([torch.zeros(shape), rand(0, 2, 3, 4)])
    assert found.shape == shape
    assert not other.isnan().any()


def test_batches_of_one_shape_and_of_its_transpose_are_one_call(calls):
    orthogonalize_all([rand(0, 2, 4, 7), rand(1, 3, 7, 4), rand(2, 1, 4, 7)])
    assert calls == [(6, 4, 7)]


def test_dtypes_stay_apart(calls):
    results = orthogonalize_all([rand(0, 2, 4, 7), rand(1, 2, 4, 7).float(), rand(2, 1, 4, 7)])
    assert Counter(calls) == {(3, 4, 7): 1, (2, 4, 7): 1}
    assert [found.dtype for found in results] == [torch.float64, torch.float32, torch.float64]


def test_a_few_small_matrices_join_a_long_batch_of_larger_ones(calls):
    orthogonalize_all([rand(0, 2, 3, 6), rand(1, 16, 4, 7)])
    assert calls == [(18, 4, 7)]


@pytest.mark.parametrize(
    ("few", "many"),
    [
        ((3, 3, 6), (16, 4, 7)),
        ((1, 5, 6), (16, 4, 7)),
        ((1, 3, 6), (16, 300, 300)),
        ((1, 31, 40), (16, 32, 40)),
    ],
    ids=["too many", "one that does not fit", "into large ones", "of fewer rows than 16 bits take"],
)
def test_others_are_called_by_themselves(calls, few, many):
    orthogonalize_all([torch.zeros(few), torch.zeros(many)])
    assert sorted(calls) == sorted([few, many])


@given(seed=seeds, sizes=st.lists(shapes, min_size=1, max_size=8), entries=st.integers(1, 200))
def test_no_call_takes_more_than_the_limit_but_for_one_matrix(seed, sizes, entries):
    limit_entries(entries)
    with recorded() as seen:
        orthogonalize_all([rand(seed + i, *size) for i, size in enumerate(sizes)])
    assert all(shape.numel() <= entries_at_once() or shape[0] == 1 for shape in seen)


def test_padding_keeps_to_the_limit(calls):
    limit_entries(16 * 4 * 7)
    orthogonalize_all([rand(0, 1, 3, 6), rand(1, 16, 4, 7)])
    assert sorted(calls) == [(1, 3, 6), (16, 4, 7)]


def test_a_limit_changes_no_result():
    batches = [conditioned(i, 3, 4, 6) for i in range(6)]
    whole = orthogonalize_all(batches)
    limit_entries(100)
    for found, before in zip(orthogonalize_all(batches), whole, strict=True):
        close(found, before, atol=1e-9)


def test_a_limit_splits_what_would_be_joined(calls):
    limit_entries(2 * 3 * 4 * 6)
    orthogonalize_all([conditioned(i, 3, 4, 6) for i in range(5)])
    assert calls == [(6, 4, 6), (6, 4, 6), (3, 4, 6)]
