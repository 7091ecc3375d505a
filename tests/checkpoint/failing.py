"""Saves and loads on which several processes disagree, or in which one of them fails."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from modula import GPT, Linear, Mul, SteepestDescent, checkpoint
from modula.checkpoint import CheckpointError
from tests.parallel.setup import gathered, gpt, mesh_of, shard


def file_on_which_processes_disagree(folder: Path) -> None:
    _disagree(folder / "disagreed.pt")


def folder_on_which_processes_disagree(folder: Path) -> None:
    _disagree(folder / "disagreed")


def _disagree(path: Path) -> None:
    """All processes raise, and an old checkpoint stays."""
    first = dist.get_rank() == 0
    model = gpt()
    optimizer = SteepestDescent(model, lr=0.3)
    checkpoint.save(path, model, optimizer, step=1)
    act = checkpoint.save if first else checkpoint.load
    _refused("the call", lambda: act(path, model))
    _refused("the call", lambda: checkpoint.save(path if first else f"{path}.b", model))
    _refused("optimizer", lambda: checkpoint.save(path, model, optimizer if first else None))
    _refused("modules", lambda: checkpoint.save(path, gpt() if first else Linear(2, 2)))
    _refused("modules", lambda: checkpoint.save(path, Mul(2.0 if first else 3.0) @ model))
    if not first:
        optimizer.param_groups[0]["lr"] = 0.1
    _refused("lr", lambda: checkpoint.save(path, model, optimizer))
    optimizer.param_groups[0]["lr"] = 0.3
    if not first:
        with torch.no_grad():
            model.weights.tensors[0][0, 0] += 1e-3
    _refused(f"model.{model.weights.names[0]}", lambda: checkpoint.save(path, model, optimizer))
    assert checkpoint.load(path, model, optimizer) == {"step": 1}


def _refused(what: str, call: Callable[[], object]) -> None:
    with pytest.raises(CheckpointError, match=f"processes disagree.*{what}.*on process 1"):
        call()


def load_that_one_process_interrupts(folder: Path) -> None:
    """All processes raise, and none has changed its model."""
    path, model = folder / "whole.pt", gpt()
    checkpoint.save(path, model)
    with torch.no_grad():
        for w in model.weights.tensors:
            w += 1.0
    moved = _copies(model)
    error, match = CheckpointError, "process 1 failed: KeyboardInterrupt"
    if dist.get_rank() == 1:
        model.register_load_state_dict_post_hook(_interrupt)
        error, match = KeyboardInterrupt, ""
    with pytest.raises(error, match=match):
        checkpoint.load(path, model)
    assert all(map(torch.equal, model.weights.tensors, moved))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _copies(model: GPT) -> list[Tensor]:
    return [t.clone() for t in gathered(model.weights).values()]


def save_to_a_disk_that_is_full_for_one_process(folder: Path) -> None:
    """All processes raise, with the cause, and the old checkpoint stays."""
    path, model = folder / "full", shard(gpt(), mesh_of(dist.get_world_size()))
    checkpoint.save(path, model, step=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    error: type[Exception] = CheckpointError
    if dist.get_rank() == 1:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        error = OSError
    with pytest.raises(error, match="File too large"):
        checkpoint.save(path, model, step=2)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    dist.barrier()
    assert len(list(path.glob("tensors-*"))) == 1
    assert checkpoint.load(path, model) == {"step": 1}


CHECKS: list[Callable[[Path], None]] = [
    file_on_which_processes_disagree,
    folder_on_which_processes_disagree,
    load_that_one_process_interrupts,
    save_to_a_disk_that_is_full_for_one_process,
]
