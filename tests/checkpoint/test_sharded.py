"""A checkpoint of some processes loads on any other number, with the same next step."""

from __future__ import annotations

import json
from pathlib import Path

from tests.checkpoint.sharded import SAVED, main
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
