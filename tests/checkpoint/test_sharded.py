"""A checkpoint of some processes loads on any other number, with the same next step."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch.distributed as dist

from modula import checkpoint
from modula.checkpoint import CheckpointError
from tests.checkpoint.sharded import SAVED, main
from tests.checkpoint.whole import ended_well, fork, run_at, save_at, step_of
from tests.parallel.launcher import torchrun


def launch(processes: int, folder: Path) -> dict[str, list[str]]:
    """Run the checks under torchrun, and return the problems that all processes found, by check."""
    done = torchrun(processes, "-m", "tests.checkpoint.sharded", str(folder), timeout=600)
    reports = [folder / f"{processes}.{rank}.json" for rank in range(processes)]
    assert all(path.exists() for path in reports), done.stdout[-3000:]
    found: dict[str, list[str]] = {}
    for rank, path in enumerate(reports):
        for name, problems in json.loads(path.read_text()).items():
            found.setdefault(name, []).extend(f"process {rank}: {problem}" for problem in problems)
    return found


def test_any_number_of_processes_resumes_a_run(tmp_path: Path) -> None:
    found = main(tmp_path, 1) | launch(2, tmp_path) | launch(4, tmp_path) | main(tmp_path, 1)
    assert not {name: problems for name, problems in found.items() if problems}
    for saved, loaded in ((1, 2), (2, 1), (2, 4), (1, 4), (4, 1)):
        ways = {way for way, _ in SAVED[loaded]}
        done = [
            name
            for name in found
            if name.startswith(f"saved by {saved}") and f"loaded by {loaded}" in name
        ]
        assert len(done) == len(SAVED[saved]) * len(ways)


def one_of_two(rank: int, path: Path) -> None:
    """Save as the first of two processes, of which the second ends without a word."""
    store = f"file://{path.parent}/store"
    dist.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    if rank == 1:
        os._exit(0)
    with pytest.raises(CheckpointError, match="another process has ended"):
        checkpoint.save(path, *run_at(2.0, path), step=2.0)


@pytest.mark.parametrize("name", ["run.pt", "run"])
def test_a_process_that_ends_is_an_error_on_the_other(name: str, tmp_path: Path) -> None:
    save_at(tmp_path / name, 1.0)
    members = [fork(partial(one_of_two, rank, tmp_path / name)) for rank in range(2)]
    ended = [ended_well(member) for member in members]
    assert all(ended)
    assert step_of(tmp_path / name) == 1.0
