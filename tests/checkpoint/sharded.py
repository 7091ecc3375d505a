"""Saves and loads of a GPT by one, two and four processes.

Several processes run `python -m tests.checkpoint.sharded FOLDER` under torchrun. Each launch loads
every checkpoint in the folder, compares it with the numbers that were saved beside it, trains one
more step, and then saves its own. Every process writes its problems as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from modula import GPT, SteepestDescent, checkpoint
from modula.checkpoint import CheckpointError
from modula.optim import KeepFrobenius, SecondMoments
from tests.checkpoint.failing import CHECKS
from tests.parallel.setup import batch, gathered, gpt, loss_of, mesh_of, shard, ways, whole

STEPS = 3
PLAIN = "plain"
"""All weights on every process."""

SAVED = {
    1: [(PLAIN, ""), (PLAIN, ".pt")],
    2: [("fsdp", ""), (PLAIN, ".pt")],
    4: [("fsdp", ""), ("hsdp", ""), ("tp", ""), ("tp, fsdp", "")],
}
"""By the number of processes, the ways to distribute the model, and the checkpoint's suffix."""

RULE = SecondMoments(SecondMoments(lines="columns"), rescaling=KeepFrobenius())
"""It keeps tensors that are shaped like the weights, and others that every process has."""

EXACT = 0.0
ROUNDING = 1e-5


def made(way: str) -> tuple[GPT, SteepestDescent]:
    """A GPT distributed in that way over all processes, with its optimizer."""
    model = gpt()
    if way != PLAIN:
        ways()[way].wrap(model)
    return model, SteepestDescent(model, lr=0.3, rule=RULE)


def step(model: GPT, optimizer: SteepestDescent, seed: int) -> None:
    """One step, for which every process has the whole batch."""
    optimizer.zero_grad()
    loss_of(model, *batch(seed)).backward()
    optimizer.step()


def numbers(model: GPT, optimizer: SteepestDescent) -> dict[str, Tensor]:
    """Copies of all weights and averages, gathered."""
    averages = {
        f"{key} of {name}": whole(kept)
        for name, w in model.weights.items()
        for key, kept in optimizer.state[w].items()
        if kept.dim()
    }
    return {name: t.clone() for name, t in (gathered(model.weights) | averages).items()}


def differences(
    actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float
) -> Iterator[str]:
    for name, value in expected.items():
        difference = float((actual[name] - value).abs().max())
        if not difference <= tolerance:
            yield f"{name} differs by {difference:g}"


def save(path: Path, way: str) -> None:
    """Save a checkpoint, and beside it the numbers at that step and after the next one."""
    model, optimizer = made(way)
    for seed in range(STEPS):
        step(model, optimizer, seed)
    optimizer.param_groups[0]["lr"] = 0.1
    checkpoint.save(path, model, optimizer, step=STEPS)
    at_save = numbers(model, optimizer)
    step(model, optimizer, STEPS)
    if not dist.is_initialized() or dist.get_rank() == 0:
        torch.save([at_save, numbers(model, optimizer)], path.with_name(path.name + ".numbers"))
    else:
        numbers(model, optimizer)


def load(path: Path, way: str) -> Iterator[str]:
    """Yield the differences from the saved numbers, after loading and after one more step."""
    model, optimizer = made(way)
    if checkpoint.load(path, model, optimizer) != {"step": STEPS}:
        yield "the extras differ"
    at_save, after = torch.load(path.with_name(path.name + ".numbers"), weights_only=True)
    yield from differences(numbers(model, optimizer), at_save, EXACT)
    step(model, optimizer, STEPS)
    yield from differences(numbers(model, optimizer), after, ROUNDING)


def refusals(path: Path) -> None:
    """Check errors that all processes raise, and those that one raises."""
    model = shard(gpt(), mesh_of(dist.get_world_size()))
    with pytest.raises(CheckpointError, match="a path without a suffix"):
        checkpoint.save(path / "run.pt", model)
    with pytest.raises(FileNotFoundError):
        checkpoint.load(path / "missing", model)
    before = gathered(model.weights)
    checkpoint.save(path / "cut", model)
    dist.barrier()
    if dist.get_rank() == 0:
        (file,) = (path / "cut").glob("tensors-*/__1_0.distcp")
        os.truncate(file, file.stat().st_size // 2)
    dist.barrier()
    model.initialize(torch.Generator().manual_seed(7))
    drawn = gathered(model.weights)
    with pytest.raises(CheckpointError):
        checkpoint.load(path / "cut", model)
    assert not list(differences(gathered(model.weights), drawn, EXACT))
    assert list(differences(before, drawn, EXACT))


def fails_on_one(path: Path) -> None:
    """If one process cannot save its extra, all raise, and none waits for the others."""
    extra = object() if dist.get_rank() == 1 else 1
    with pytest.raises(CheckpointError, match="extra is a object"):
        checkpoint.save(path / "one", shard(gpt(), mesh_of(dist.get_world_size())), extra=extra)


def main(folder: Path, processes: int) -> dict[str, list[str]]:
    """Load, compare and save. Returns the problems of each check."""
    found: dict[str, list[str]] = {}
    for path in sorted(path for path in folder.glob("saved by *") if path.suffix != ".numbers"):
        for way in dict.fromkeys(way for way, _ in SAVED[processes]):
            found[f"{path.name}, loaded by {processes} {way}"] = list(load(path, way))
    for way, suffix in SAVED[processes]:
        save(folder / f"saved by {processes} {way}{suffix}", way)
    return found


def run(folder: Path) -> None:
    """One of several processes."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="torch")
    dist.init_process_group("gloo", timeout=timedelta(seconds=120))
    processes = dist.get_world_size()
    found: dict[str, list[str]] = {}
    try:
        found = main(folder, processes)
        for check in (refusals, fails_on_one, *CHECKS):
            check(folder / str(processes))
    except BaseException:
        found["error"] = [traceback.format_exc()]
        raise
    finally:
        (folder / f"{processes}.{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    run(Path(sys.argv[1]))
