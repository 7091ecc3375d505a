"""The workspace limit bounds what `model.dualize` computes at once."""

import pytest
import torch

from modula import Linear
from modula.workspace import (
    COPIES,
    DEFAULT_LIMIT,
    entries_at_once,
    matrices_at_once,
    set_workspace_limit,
)
from tests.helpers import close, random_gradient, record_batches


@pytest.fixture(autouse=True)
def _limit():
    """Undo the limit that a test sets."""
    yield
    set_workspace_limit(DEFAULT_LIMIT)


@pytest.fixture
def calls(monkeypatch) -> list[torch.Size]:
    """The shapes of the batches that are orthogonalised."""
    return record_batches(monkeypatch)


@pytest.mark.parametrize("num_bytes", [0, -1])
def test_a_limit_that_is_not_positive_is_refused(num_bytes):
    with pytest.raises(ValueError, match=f"at least one byte, got {num_bytes}"):
        set_workspace_limit(num_bytes)


def test_a_refused_limit_leaves_the_old_one():
    before = entries_at_once()
    with pytest.raises(ValueError, match="at least one byte"):
        set_workspace_limit(0)
    assert entries_at_once() == before


def test_a_limit_is_counted_in_float32_copies():
    set_workspace_limit(4 * COPIES * 1000)
    assert entries_at_once() == 1000


CPU = torch.device("cpu")


@pytest.mark.parametrize("device", [CPU, torch.device("cuda")], ids=str)
@pytest.mark.parametrize(("limit", "matrices"), [(1, 1), (99, 1), (100, 1), (250, 2)])
def test_the_limit_bounds_how_many_matrices_are_computed_at_once(device, limit, matrices):
    set_workspace_limit(4 * COPIES * limit)
    assert matrices_at_once(100, device) == matrices


@pytest.fixture
def small_caches(monkeypatch):
    """Caches of 100 entries, and three threads."""
    monkeypatch.setattr("modula.workspace.CACHED_ENTRIES", 100)
    monkeypatch.setattr("modula.workspace.THREADS", 3)


@pytest.mark.parametrize(("entries", "matrices"), [(10, 9), (16, 6), (34, 3), (1000, 3)])
def test_a_cpu_computes_as_many_as_fit_its_caches_and_one_a_thread(small_caches, entries, matrices):
    assert matrices_at_once(entries, CPU) == matrices


def test_other_devices_are_not_bound_by_caches(small_caches):
    assert matrices_at_once(1000, torch.device("cuda")) == entries_at_once() // 1000


def chain() -> Linear:
    """Seven weights of 6×6 in a row."""
    return Linear(6, 6).double() ** 7


def test_layers_of_one_shape_are_one_call(calls):
    model = chain()
    model.dualize(random_gradient(model, 0))
    assert calls == [(7, 6, 6)]


def test_a_limit_splits_them(calls):
    set_workspace_limit(4 * COPIES * 3 * 36)
    model = chain()
    model.dualize(random_gradient(model, 0))
    assert calls == [(3, 6, 6), (3, 6, 6), (1, 6, 6)]


def test_a_limit_below_two_matrices_leaves_one_at_a_time(calls):
    set_workspace_limit(1)
    model = chain()
    model.dualize(random_gradient(model, 0))
    assert calls == [(1, 6, 6)] * 7


def test_a_limit_changes_no_update():
    model = chain()
    gradient = random_gradient(model, 0)
    whole = model.dualize(gradient)
    set_workspace_limit(4 * COPIES * 2 * 36)
    for part, before in zip(model.dualize(gradient).tensors, whole.tensors, strict=True):
        close(part, before, atol=1e-9)


@pytest.mark.parametrize("entries", [1, 100, 400, 2**20])
def test_norms_are_measured_under_any_limit(entries):
    model = chain()
    update = model.dualize(random_gradient(model, 0))
    whole = model.norm(update)
    set_workspace_limit(4 * COPIES * entries)
    close(model.norm(update), whole)


def test_caches_split_what_is_joined(small_caches, calls):
    model = chain()
    model.dualize(random_gradient(model, 0))
    assert calls == [(3, 6, 6), (3, 6, 6), (1, 6, 6)]


def test_caches_change_no_update(small_caches, monkeypatch):
    model = Linear(6, 9).double() @ Linear(9, 6).double() @ chain()
    gradient = random_gradient(model, 0)
    divided = model.dualize(gradient, method="svd")
    monkeypatch.setattr("modula.workspace.CACHED_ENTRIES", 10**6)
    for part, before in zip(
        divided.tensors, model.dualize(gradient, method="svd").tensors, strict=True
    ):
        close(part, before, atol=1e-9)
