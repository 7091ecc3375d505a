"""The table of `watch`: records are in it whole or not at all."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from modula import Linear
from modula.instruments import watch
from tests.checkpoint.whole import ended_well, fork

RECORD = {f"a name that is rather long, and the {i}th": i / 3 for i in range(50)}


def log(path: Path, steps: range) -> None:
    with watch(Linear(1, 1), every=1, log=path, record=[], start=steps.start) as watcher:
        for _ in steps:
            watcher.step(**RECORD)


def steps_in(path: Path) -> list[int]:
    """The steps of a log, all of whose records must be whole."""
    header, *lines = path.read_text().splitlines()
    assert header == "step,name,value"
    steps = sorted({int(line.split(",")[0]) for line in lines})
    assert len(lines) == len(steps) * len(RECORD)
    return steps


def write_until_the_disk_is_full(path: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    with pytest.raises(OSError, match="File too large"):
        log(path, range(100))


def test_a_record_for_which_there_is_no_room_is_left_out(tmp_path: Path) -> None:
    assert ended_well(fork(lambda: write_until_the_disk_is_full(tmp_path / "run.csv")))
    steps = steps_in(tmp_path / "run.csv")
    assert steps == list(range(len(steps)))
    assert 0 < len(steps) < 100


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_without_an_end_is_left_out(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    log(path, range(3))
    os.truncate(path, path.stat().st_size - cut)
    whole = path.read_bytes().rpartition(b"\n")[0].splitlines()
    log(path, range(3, 4))
    assert path.read_bytes().splitlines()[: len(whole)] == whole
    assert len(path.read_text().splitlines()) == len(whole) + len(RECORD)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_to_go_on_leaves_the_earlier_log(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.csv"
    log(path, range(3))
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="no"):
        log(path, range(2, 4))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"name,age\nAda,36\n", b"\0\xff\n", b"1,2,3\n"])
def test_no_run_goes_on_with_another_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_bytes(content)
    with pytest.raises(ValueError, match="is not a log"):
        log(tmp_path / "run.csv", range(2, 3))
    assert (tmp_path / "run.csv").read_bytes() == content


def test_a_run_goes_on_with_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "run.csv").touch()
    log(tmp_path / "run.csv", range(2, 3))
    assert steps_in(tmp_path / "run.csv") == [2]
