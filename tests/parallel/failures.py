"""Checks of steps that fail on one process: no process takes them, and all can be taken again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.communication import stacks
from modula import GPT, SteepestDescent, StepError, Weights
from modula.geometry import Spectral
from modula.optim import steepest_descent
from modula.optim.votes import Votes
from modula.sharding import to_local
from tests.parallel.setup import batch, gpt, loss_of, mesh_of, shard, ways

Check = Callable[[], None]
Failing = Callable[[], AbstractContextManager[object]]

CULPRIT = 1
"""The process on which a step fails."""


class InjectedError(Exception):
    """The failure that is injected."""


def broken(*_: object, **__: object) -> None:
    raise InjectedError("injected")


def is_culprit() -> bool:
    return dist.get_rank() == CULPRIT


# What a step may change


def everything(model: GPT, optimizer: SteepestDescent) -> dict[str, Tensor]:
    """This process's shards of all that a step changes, copied."""
    found = {name: to_local(w.detach()).clone() for name, w in model.weights.items()}
    for i, p in enumerate(optimizer.param_groups[0]["params"]):
        found |= {f"{i} {k}": to_local(v).clone() for k, v in optimizer.state.get(p, {}).items()}
    return found | {"skipped": optimizer.skipped.clone()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Prepared:
    """A model after two steps, with the gradient of a third."""

    def __init__(self, way: str, mesh: DeviceMesh | None = None, **settings: object) -> None:
        self.model = gpt()
        self.way = ways()[way]
        forward = shard(self.model, mesh) if mesh else self.way.wrap(self.model)
        self.optimizer = SteepestDescent(self.model, lr=0.1, **settings)
        for step in range(3):
            self.optimizer.zero_grad()
            inputs, targets = batch(step)
            loss_of(forward, self.way.share(inputs), self.way.share(targets)).backward()
            if step < 2:
                self.step()

    def step(self) -> None:
        with self.way.context():
            self.optimizer.step()

    def try_step(self, failing: Failing = nullcontext) -> bool:
        """Take a step that may fail on one process. Return whether it raised here."""
        expected = (InjectedError, KeyboardInterrupt) if is_culprit() else StepError
        try:
            with failing() if is_culprit() else nullcontext():
                self.step()
        except expected:
            return True
        return False

    def fail(self, failing: Failing) -> None:
        """Take a step that fails on one process, and check that no process has taken it."""
        before = everything(self.model, self.optimizer)
        with failing() if is_culprit() else nullcontext():
            error = pytest.raises((InjectedError, KeyboardInterrupt) if is_culprit() else StepError)
            with error as caught:
                self.step()
        assert equal(everything(self.model, self.optimizer), before)
        if not is_culprit():
            assert f"process {CULPRIT}: " in str(caught.value)
        dist.barrier()

    def succeeds_as(self, twin: Prepared) -> None:
        """Take the step, which must be that of a twin in which nothing has failed."""
        twin.step()
        self.step()
        assert equal(everything(self.model, self.optimizer), everything(twin.model, twin.optimizer))


def patched(owner: object, name: str) -> Failing:
    """Let a function raise in place of its work."""
    return lambda: patch.object(owner, name, broken)


PLACES: dict[str, Failing] = {
    "before all exchanges": patched(steepest_descent, "check_settings"),
    "between two exchanges": patched(Spectral, "dualize"),
    "as the weights are moved": patched(Weights, "__isub__"),
    "when they have moved": patched(steepest_descent, "publish"),
}


def a_step_that_fails_on_one(way: str) -> None:
    prepared, twin = Prepared(way), Prepared(way)
    for failing in PLACES.values():
        prepared.fail(failing)
    prepared.succeeds_as(twin)


def a_hook_that_fails_on_one() -> None:
    for register in ("register_step_pre_hook", "register_step_post_hook"):
        prepared, twin = Prepared("fsdp"), Prepared("fsdp")
        hook = broken if is_culprit() else lambda *_: None
        handle = getattr(prepared.optimizer, register)(hook)
        prepared.fail(nullcontext)
        handle.remove()
        prepared.succeeds_as(twin)


EVERY = 11
"""Of so many operations of a step one is tried."""


class FailAt(TorchDispatchMode):
    """Raise before the n-th operation of torch, but not in the midst of an exchange."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.left = n
        self.exchanging = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(issubclass(t, DTensor) for t in types):
            return NotImplemented  # torch calls it again on the shards
        self.left -= not self.exchanging
        if self.left == 0:
            self.left = -1
            raise InjectedError("injected")
        return function(*args, **(kwargs or {}))

    @contextmanager
    def active(self) -> Iterator[None]:
        of_votes = Votes.exchange

        @contextmanager
        def exchange(votes: Votes) -> Iterator[None]:
            with of_votes(votes):
                self.exchanging = True
                yield
                self.exchanging = False

        with patch.object(Votes, "exchange", exchange), self:
            yield


def a_failure_at_any_operation(way: str) -> None:
    prepared, twin = Prepared(way, weight_decay=0.1), Prepared(way, weight_decay=0.1)
    before = everything(prepared.model, prepared.optimizer)
    tried = 0
    while prepared.try_step(FailAt(1 + EVERY * tried).active):
        assert equal(everything(prepared.model, prepared.optimizer), before), tried
        tried += 1
    assert tried > 20
    twin.step()
    assert equal(
        everything(prepared.model, prepared.optimizer), everything(twin.model, twin.optimizer)
    )


def an_interrupt_on_one() -> None:
    """Timers of the operating system stand for Ctrl-C, which Python handles between bytecodes."""

    def interrupt(_, frame):
        while frame is not None:
            if frame.f_code is SteepestDescent.step.__code__:
                raise KeyboardInterrupt
            frame = frame.f_back

    prepared, twin = Prepared("fsdp"), Prepared("fsdp")
    kept = signal.signal(signal.SIGALRM, interrupt)
    failed = 0
    for tenth in range(40):
        before = everything(prepared.model, prepared.optimizer)
        if is_culprit():
            signal.setitimer(signal.ITIMER_REAL, 1e-3 * (1 + tenth))
        raised: list[bool] = [False] * dist.get_world_size()
        failed_here = prepared.try_step()
        signal.setitimer(signal.ITIMER_REAL, 0)
        dist.all_gather_object(raised, failed_here)
        if all(raised):
            assert equal(everything(prepared.model, prepared.optimizer), before)
            failed += 1
            prepared.step()
        # an interrupt in the very last vote raises on its process, when all have taken the step
        assert all(raised) or not any(raised[:CULPRIT] + raised[CULPRIT + 1 :])
        twin.step()
        assert equal(
            everything(prepared.model, prepared.optimizer), everything(twin.model, twin.optimizer)
        )
    signal.signal(signal.SIGALRM, kept)
    assert failed


def gradients_of_different_weights() -> None:
    """A process that lacks a gradient would exchange other batches than the others."""
    prepared = Prepared("fsdp")
    before = everything(prepared.model, prepared.optimizer)
    weight = prepared.model.weights.tensors[3]
    if is_culprit():
        weight.grad = None
    with pytest.raises(StepError, match="process 0 has no gradient of nothing, and process 1"):
        prepared.step()
    assert equal(everything(prepared.model, prepared.optimizer), before)


def replicas_fail_together() -> None:
    """Replicas have plain weights, and the process group says that they step together."""
    prepared = Prepared("ddp", process_group=dist.group.WORLD)
    twin = Prepared("ddp")
    prepared.fail(PLACES["before all exchanges"])
    prepared.fail(PLACES["when they have moved"])
    prepared.succeeds_as(twin)


def a_group_that_lacks_processes() -> None:
    alone = dist.new_group([dist.get_rank()], use_local_synchronization=True)
    with pytest.raises(ValueError, match="process_group lacks processes"):
        Prepared("fsdp", process_group=alone)


def models_of_parts_of_the_processes() -> None:
    """Two models, each on two of four processes: a failure concerns one of them alone."""
    grid = mesh_of(2, 2)
    prepared, twin = (Prepared("fsdp", grid["inner"]) for _ in range(2))
    before = everything(prepared.model, prepared.optimizer)
    raised = prepared.try_step(PLACES["between two exchanges"])
    assert raised == (dist.get_rank() in (0, CULPRIT))
    if raised:
        assert equal(everything(prepared.model, prepared.optimizer), before)
        prepared.step()
    twin.step()
    assert equal(
        everything(prepared.model, prepared.optimizer), everything(twin.model, twin.optimizer)
    )


def a_vote_for_each_exchange() -> None:
    """Two for each batch of matrices, one for what each batch touches, and three for the step."""
    prepared = Prepared("fsdp")
    with patch.object(Votes, "agree", autospec=True, side_effect=Votes.agree) as agree:
        prepared.step()
    batches = stacks(prepared.model)
    assert agree.call_count == sum(1 if stack.vectors else 3 for stack in batches) + 3


CHECKS: dict[str, Check] = {
    "hook that fails on one": a_hook_that_fails_on_one,
    "interrupt on one": an_interrupt_on_one,
    "gradients of different weights": gradients_of_different_weights,
    "replicas fail together": replicas_fail_together,
    "group that lacks processes": a_group_that_lacks_processes,
    "vote for each exchange": a_vote_for_each_exchange,
}
for _way in ("fsdp", "hsdp", "tp", "ddp, split"):
    CHECKS[f"step that fails on one: {_way}"] = partial(a_step_that_fails_on_one, _way)
for _way in ("fsdp", "ddp, split"):
    CHECKS[f"failure at any operation: {_way}"] = partial(a_failure_at_any_operation, _way)

CHECKS_ON_FOUR: dict[str, Check] = {
    "models of parts of the processes": models_of_parts_of_the_processes,
}
