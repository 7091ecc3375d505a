"""Small checkpoints all of whose numbers are the same, so that a mixture of two is seen."""

from __future__ import annotations

import os
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from modula import Linear, Module, ReLU, SteepestDescent, checkpoint

FORMATS = ("run.pt", "run.safetensors", "run")

Run = tuple[Module, SteepestDescent | None]


def run_at(step: float, path: Path, width: int = 3) -> Run:
    """A model, and an optimizer if the format stores one, all of whose numbers are `step`."""
    model = Linear(2, width) @ ReLU() @ Linear(width, 2)
    for w in model.weights.tensors:
        w.data.fill_(step)
    if path.suffix == ".safetensors":
        return model, None
    optimizer = SteepestDescent(model, lr=0.0, momentum=0.0, nesterov=False)
    for w in model.weights.tensors:
        w.grad = torch.full_like(w, step)
    optimizer.step()
    return model, optimizer


def numbers(run: Run) -> list[float]:
    """All numbers of a run, each once."""
    model, optimizer = run
    tensors = list(model.weights.tensors)
    if optimizer is not None:
        tensors += [optimizer.state[w]["momentum_buffer"] for w in model.weights.tensors]
    return sorted({x for t in tensors for x in t.flatten().tolist()})


def save_at(path: Path, step: float, width: int = 3) -> None:
    """Save a checkpoint all of whose numbers are `step`."""
    checkpoint.save(path, *run_at(step, path, width), step=step)


def step_of(path: Path, width: int = 3) -> float | None:
    """The number of which a checkpoint consists; None if it is a mixture."""
    run = run_at(-1.0, path, width)
    found = checkpoint.load(path, *run)["step"]
    return found if numbers(run) == [found] else None


def files(path: Path) -> list[Path]:
    """The files of a checkpoint that are not empty."""
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in found if file.is_file() and file.stat().st_size]


def fork(action: Callable[[], object]) -> int:
    """Start an action in a process of its own, and return the id of the process."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def ended_well(child: int) -> bool:
    """Wait for a process, and return whether its action returned."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """Mount a file system of `size` bytes, if this process may; yield whether it did."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    try:
        is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", str(folder)], check=True)
