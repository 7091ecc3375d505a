"""Damaged checkpoints, and checkpoints written by processes that are killed or not alone."""

from __future__ import annotations

import os
import pickle
import random
import resource
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from modula import Linear, checkpoint
from modula.checkpoint import CheckpointError
from tests.checkpoint.whole import (
    FORMATS,
    ended_well,
    files,
    fork,
    numbers,
    run_at,
    save_at,
    small_disk,
    step_of,
)

SAVES = 8
"""Of each of several processes at once."""

WIDE = 200
"""The width of a model whose checkpoint takes some time to write."""


def _failures_of_damage(
    damage: Callable[[random.Random, bytearray], object], name: str, count: int, seed: int
) -> int:
    """How many damaged checkpoints load as something that was not saved, or change the model."""
    rng = random.Random(seed)
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        save_at(path, 1.0)
        save_at(path, 2.0)
        whole = {file: file.read_bytes() for file in files(path)}
        return sum(not _is_found_or_harmless(damage, rng, path, whole) for _ in range(count))


def _is_found_or_harmless(
    damage: Callable[[random.Random, bytearray], object],
    rng: random.Random,
    path: Path,
    whole: dict[Path, bytes],
) -> bool:
    file = rng.choice(list(whole))
    data = bytearray(whole[file])
    damage(rng, data)
    file.write_bytes(data)
    run = run_at(-1.0, path)
    try:
        found = checkpoint.load(path, *run)["step"]
    except CheckpointError:
        found = -1.0
    file.write_bytes(whole[file])
    return found in (-1.0, 2.0) and numbers(run) == [found]


def _flip(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _overwrite(rng: random.Random, data: bytearray) -> None:
    """Put zeros, random bytes or another part of the file in place of a part of it."""
    start, length = rng.randrange(len(data)), 1 << rng.randrange(11)
    length = min(length, len(data) - start)
    other = rng.randrange(len(data) - length + 1)
    data[start : start + length] = rng.choice(
        [bytes(length), rng.randbytes(length), data[other : other + length]]
    )


def trial_bits_of_a_file(count: int, seed: int) -> int:
    """A flipped bit of a .pt file is found or harmless."""
    return _failures_of_damage(_flip, "run.pt", count, seed)


def trial_bits_of_safetensors(count: int, seed: int) -> int:
    """A flipped bit of a .safetensors file is found or harmless."""
    return _failures_of_damage(_flip, "run.safetensors", count, seed)


def trial_bits_of_a_folder(count: int, seed: int) -> int:
    """A flipped bit of any file of a folder is found or harmless."""
    return _failures_of_damage(_flip, "run", count, seed)


def trial_truncated(count: int, seed: int) -> int:
    """A checkpoint one of whose files is cut off is refused."""
    return _failures_of_damage(_cut, random.Random(seed).choice(FORMATS), count, seed)


def trial_overwritten(count: int, seed: int) -> int:
    """A checkpoint in which zeros, noise or other parts of it stand in one place is refused."""
    return _failures_of_damage(_overwrite, random.Random(seed).choice(FORMATS), count, seed)


class _RunsCode:
    """A pickle that makes a folder as it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def trial_runs_no_code(count: int, seed: int) -> int:
    """A pickle that runs code, in place of any file of a checkpoint, is not run."""
    rng = random.Random(seed)
    failures = 0
    for _ in range(count):
        with TemporaryDirectory() as folder:
            path, mark = Path(folder) / rng.choice(["run.pt", "run"]), Path(folder) / "mark"
            save_at(path, 1.0)
            file = rng.choice(files(path))
            if rng.random() < 0.5:
                file.write_bytes(pickle.dumps(_RunsCode(mark)))
            else:
                state = {"modula": _RunsCode(mark), "model": {}, "optimizer": None}
                torch.save(state, file.open("wb"))
            try:
                step_of(path)
                failures += 1
            except CheckpointError:
                failures += mark.exists()
    return failures


def _drawn(rng: random.Random, depth: int) -> object:
    """A value that a run might save, some of which cannot be."""
    if depth and rng.random() < 0.5:
        parts = [_drawn(rng, depth - 1) for _ in range(rng.randrange(3))]
        keys = [rng.choice([0, 1.5, "a", "", None, (1, "b"), b"c", True]) for _ in parts]
        return rng.choice([parts, tuple(parts), dict(zip(keys, parts, strict=True))])
    return rng.choice(
        [
            None, True, 0, -1, 2**63, 10**700, 0.1, float("inf"), -0.0, 1e-320, 2 - 1j, "", "ü\0",
            "\ud800", "x" * 300, b"", b"\0\xff", {1, "a"}, set(), frozenset(), range(3), object(),
            torch.Size([2]), torch.bfloat16, torch.device("cpu"), print, Path("a"), [[[[]]]],
        ]
    )  # fmt: skip


def trial_extras(count: int, seed: int) -> int:
    """What `save` takes `load` returns; what it refuses leaves the old checkpoint whole."""
    rng = random.Random(seed)
    failures = 0
    with TemporaryDirectory() as folder:
        for _ in range(count):
            path, model, value = Path(folder) / rng.choice(FORMATS), Linear(2, 3), _drawn(rng, 3)
            checkpoint.save(path, model, value="old")
            expected: object = value
            try:
                checkpoint.save(path, model, value=value)
            except CheckpointError:
                expected = "old"
            found = checkpoint.load(path, model)["value"]
            failures += not (found == expected and type(found) is type(expected))
    return failures


def _save_forever(path: Path) -> None:
    step = 1.0
    while True:
        save_at(path, step, WIDE)
        step += 1


def trial_killed(count: int, seed: int) -> int:
    """A process that is killed by SIGKILL as it saves leaves one whole checkpoint."""
    rng = random.Random(seed)
    failures = 0
    for _ in range(count):
        with TemporaryDirectory() as folder:
            path = Path(folder) / rng.choice(FORMATS)
            save_at(path, 0.0, WIDE)
            child = fork(partial(_save_forever, path))
            time.sleep(rng.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            failures += step_of(path, WIDE) is None
            save_at(path, 0.5, WIDE)
            failures += step_of(path, WIDE) != 0.5
    return failures


def _says_that_the_disk_is_full(path: Path) -> bool:
    try:
        save_at(path, 2.0, WIDE)
    except OSError:
        return True
    return False


def _limited(path: Path, limit: int) -> None:
    """Save where no file may be longer than `limit`; exit with an error unless `save` says so."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if not _says_that_the_disk_is_full(path):
        raise RuntimeError("the save did not fail")


def trial_full_disk(count: int, seed: int) -> int:
    """A disk that is full before all is written: an OSError, and the old checkpoint whole."""
    rng = random.Random(seed)
    failures = 0
    for _ in range(count):
        with TemporaryDirectory() as folder, small_disk(Path(folder) / "disk", 1 << 20) as is_small:
            disk = Path(folder) / "disk"
            path = disk / rng.choice(FORMATS)
            save_at(path, 1.0, WIDE)
            largest = max(file.stat().st_size for file in files(path))
            if is_small:
                space = os.statvfs(disk)
                free = space.f_bavail * space.f_frsize
                (disk / "filler").write_bytes(bytes(free - rng.randrange(largest)))
                failures += not _says_that_the_disk_is_full(path)
            else:
                failures += not ended_well(fork(partial(_limited, path, rng.randrange(largest))))
            failures += step_of(path, WIDE) != 1.0
    return failures


def _save_some(path: Path, first: int) -> None:
    for step in range(first, first + SAVES):
        save_at(path, float(step), WIDE)


def trial_readers_and_writers(count: int, seed: int) -> int:
    """A reader beside one or two writers of the same path sees one whole checkpoint."""
    rng = random.Random(seed)
    failures = 0
    for _ in range(count):
        with TemporaryDirectory() as folder:
            path = Path(folder) / rng.choice(FORMATS)
            save_at(path, 0.0, WIDE)
            writers = [
                fork(partial(_save_some, path, 1 + SAVES * i)) for i in range(rng.choice([1, 2]))
            ]
            failures += sum(step_of(path, WIDE) is None for _ in range(SAVES))
            failures += sum(not ended_well(writer) for writer in writers)
            failures += step_of(path, WIDE) not in (SAVES, 2 * SAVES)
    return failures
