"""Kill a run in the middle of its writes, again and again, and print its steps as JSON.

One process, so that torch is imported once; each run is a fork of it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from modula import checkpoint
from tests.checkpoint.run import fingerprint, go_on, start
from tests.checkpoint.whole import fork

POLL = 2e-4
"""Seconds between two reads of the folder."""


def unfinished(path: Path) -> list[Path]:
    """The files of a write that is not finished."""
    if path.suffix:
        return list(path.parent.glob(f".{path.name}.*"))
    return [
        folder for folder in path.glob("tensors-*") if not (folder / ".metadata").exists()
    ] + list(path.glob(".index.pt.*"))


def kill_in_a_write(child: int, path: Path, delay: float, skipped: int) -> bool:
    """Wait for some writes, and kill the process a moment after the start of the next one.

    Returns:
        Whether the process was still in that write.
    """
    deadline = time.monotonic() + 60
    for _ in range(skipped + 1):
        while unfinished(path) and time.monotonic() < deadline:
            time.sleep(POLL)
        while not unfinished(path) and time.monotonic() < deadline:
            time.sleep(POLL)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise RuntimeError(f"the run ended by itself, with {os.waitstatus_to_exitcode(status)}")
    return bool(unfinished(path))


def steps_saved(path: Path) -> int:
    """The step of the checkpoint, which must load; 0 if there is none."""
    model, optimizer, _, _ = start()
    try:
        return checkpoint.load(path, model, optimizer)["step"]
    except FileNotFoundError:
        return 0


def main(path: Path, kills: int, seed: int) -> None:
    moments = random.Random(seed)
    torch.set_num_threads(1)
    go_on(path.with_name("warm-up" + path.suffix), 1)  # import everything before the first fork
    steps, in_a_write = [0], 0
    for _ in range(kills):
        child = fork(lambda: go_on(path, 10**6))
        in_a_write += kill_in_a_write(
            child, path, delay=moments.uniform(0, 0.01), skipped=moments.randrange(2)
        )
        steps.append(steps_saved(path))
    before = go_on(path, steps[-1])  # goes no step further
    print(json.dumps({"steps": steps, "in a write": in_a_write, "weights": fingerprint(before)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
