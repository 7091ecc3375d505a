"""Several processes give the numbers of one. The checks run under torchrun, once for each number of processes."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.distributed.checks import checks

HOME = Path(__file__).parent.parent.parent
BROKEN_CONNECTION = "gloo/transport"
"""Stands in the errors of gloo when the operating system did not deliver in time."""


@cache
def reports(processes: int, folder: Path) -> dict[str, dict[int, str | None]]:
    """For each check what each process that ran it found wrong. Launched once, also where several pytest workers ask."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "output").exists():
            output = launch(processes, folder)
            if BROKEN_CONNECTION in output:  # on a machine with more to do than cores; it says nothing about the numbers
                output = launch(processes, folder)
            (folder / "output").write_text(output)
    found: dict[str, dict[int, str | None]] = {}
    for rank in range(processes):
        path = folder / f"{rank}.jsonl"
        for line in path.read_text().splitlines() if path.exists() else []:
            entry = json.loads(line)
            found.setdefault(entry["check"], {})[rank] = entry["error"]
    return found


def launch(processes: int, folder: Path) -> str:
    """Run all checks under torchrun. Returns what it printed."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*torchrun, "-m", "tests.distributed.worker", str(folder)],
        cwd=HOME,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize(("processes", "name"), [(processes, name) for processes in (2, 4) for name in checks(processes)])
def test_on_several_processes(processes: int, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    found = reports(processes, shared / f"on-{processes}-processes")
    errors = {rank: error for rank, error in found.get(name, {}).items() if error}
    assert not errors, "\n".join(f"process {rank}: {error}" for rank, error in errors.items())
    if len(found.get(name, {})) < processes:
        failed = [check for check, each in found.items() if any(each.values())]
        output = (shared / f"on-{processes}-processes" / "output").read_text()
        pytest.fail(f"did not finish, after {failed} had failed" if failed else f"did not finish:\n{output[-3000:]}")
