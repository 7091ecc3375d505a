"""Several processes that save or load one checkpoint, and all succeed or all fail."""

from __future__ import annotations

from collections.abc import Callable
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


def together(action: Callable[[], T]) -> T:
    """Return the action's result, after all processes have carried it out.

    Raises:
        Exception: the action raised it here.
        CheckpointError: it failed on another process.
    """
    if not several():
        return action()
    result: list[T] = []
    failure: Exception | None = None
    try:
        result.append(action())
    except Exception as error:
        failure = error
    failures: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(
        failures, None if failure is None else f"{type(failure).__name__}: {failure}"
    )
    if failure is not None:
        raise failure
    for rank, text in enumerate(failures):
        if text is not None:
            raise CheckpointError(f"process {rank} failed: {text}")
    return result[0]


def from_first(value: T) -> T:
    """Return the first process's value."""
    if not several():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]
