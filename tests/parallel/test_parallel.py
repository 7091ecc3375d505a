"""Several processes compute the numbers of one. torchrun starts all checks once on two and four."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.parallel.checks import checks
from tests.parallel.launcher import HOME, torchrun


@cache
def reports(processes: int, folder: Path) -> dict[str, dict[int, str | None]]:
    """For each check, the error of each process that ran it, or None.

    torchrun is started once, also if several pytest workers call this.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "output").exists():
            done = torchrun(processes, "-m", "tests.parallel.worker", str(folder), timeout=900)
            (folder / "output").write_text(done.stdout)
    found: dict[str, dict[int, str | None]] = {}
    for rank in range(processes):
        path = folder / f"{rank}.jsonl"
        for line in path.read_text().splitlines() if path.exists() else []:
            entry = json.loads(line)
            found.setdefault(entry["check"], {})[rank] = entry["error"]
    return found


@pytest.mark.parametrize(
    ("processes", "name"), [(processes, name) for processes in (2, 4) for name in checks(processes)]
)
def test_on_several_processes(
    processes: int, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    found = reports(processes, shared / f"on-{processes}-processes")
    errors = {rank: error for rank, error in found.get(name, {}).items() if error}
    assert not errors, "\n".join(f"process {rank}: {error}" for rank, error in errors.items())
    if len(found.get(name, {})) < processes:
        failed = [check for check, each in found.items() if any(each.values())]
        output = (shared / f"on-{processes}-processes" / "output").read_text()
        pytest.fail(
            f"did not finish, after {failed} had failed"
            if failed
            else f"did not finish:\n{output[-3000:]}"
        )


def test_the_table_of_traffic_is_written_to_its_document(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("before\n<!-- measured:begin -->\nold\n<!-- measured:end -->\nafter\n")
    done = torchrun(4, "-m", "benchmarks.communication", "--write", str(document))
    assert done.returncode == 0, done.stdout
    assert "| DDP |" in document.read_text()
    assert "old" not in document.read_text()


def test_a_process_that_ends_in_a_step_is_an_error_on_the_other(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.parallel.ended"]
    other, one = (
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "meeting")],
            cwd=HOME,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (1, 0)
    )
    output, _ = one.communicate(timeout=120)
    other.communicate(timeout=120)
    assert "told, and unchanged" in output, output
