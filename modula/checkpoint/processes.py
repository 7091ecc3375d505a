"""Several processes that save or load one checkpoint, and all succeed or all fail."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch.distributed as dist

from modula.errors import CheckpointError

T = TypeVar("T")


def several() -> bool:
    """Return whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Return whether this process writes the files that one process writes."""
    return not several() or dist.get_rank() == 0


def rank_and_size() -> tuple[int, int]:
    """Return the number of this process, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if several() else (0, 1)


def together(action: Callable[[], T]) -> T:
    """Return the action's result, after all processes have carried it out.

    Raises:
        BaseException: the action raised it here.
        CheckpointError: it failed on another process, or one has ended.
    """
    if not several():
        return action()
    result: list[T] = []
    failure: BaseException | None = None
    try:
        result.append(action())
    except BaseException as error:  # an interrupt, too, must not leave the others waiting
        failure = error
    try:
        failures = gathered(
            None if failure is None else f"{type(failure).__name__}: {failure}".strip()
        )
    except CheckpointError:
        if failure is None:
            raise
        failures = []
    if failure is not None:
        raise failure
    for rank, text in enumerate(failures):
        if text is not None:
            raise CheckpointError(f"process {rank} failed: {text}")
    return result[0]


def gathered(value: T) -> list[T]:
    """Return the values of all processes.

    Raises:
        CheckpointError: one has ended, or does not answer within the time limit of the group.
    """
    if not several():
        return [value]
    values: list[T | None] = [None] * dist.get_world_size()
    try:
        dist.all_gather_object(values, value)
    except RuntimeError as error:
        raise CheckpointError(
            "another process has ended, or does not answer; all processes save and load together: "
            f"{error}"
        ) from error
    return values  # type: ignore[return-value]  # all_gather_object has filled it


def check_agreement(facts: Mapping[str, str]) -> None:
    """Raise on all processes if a fact differs on one of them.

    Args:
        facts: by what they are about, for the error.

    Raises:
        CheckpointError: the first difference from the first process.
    """
    if not several():
        return
    # their hash first, since the facts of thousands of tensors and of many processes are long
    if len(set(gathered(hashlib.sha256(json.dumps(facts).encode()).digest()))) == 1:
        return
    first, *others = gathered(dict(facts))
    for rank, theirs in enumerate(others, 1):
        for name in [*first, *theirs]:
            if first.get(name) != theirs.get(name):
                raise CheckpointError(
                    f"the processes disagree, so nothing is done: {name} is "
                    f"{first.get(name, 'missing')} on process 0 and "
                    f"{theirs.get(name, 'missing')} on process {rank}. Make it the same on all, a "
                    "tensor by torch.distributed.broadcast"
                )
    raise CheckpointError("the processes disagree about the order of their tensors")


def from_first(value: T) -> T:
    """Return the first process's value."""
    return gathered(value)[0]
