"""A full disk, several writers, and paths that begin alike: one whole checkpoint at each path."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest
import torch
from torch import nn

from modula import Linear, checkpoint
from modula.atomic import write_whole
from modula.checkpoint import CheckpointError
from modula.locking import lock
from tests.checkpoint.whole import FORMATS, ended_well, files, fork, save_at, small_disk, step_of

WIDE = 200


def fill_up(path: Path, disk: Path, is_small: bool) -> None:
    """Save a second checkpoint where half of it has room, and see that the error says why."""
    room = max(file.stat().st_size for file in files(path)) // 2
    if is_small:
        space = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(space.f_bavail * space.f_frsize - room))
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    with pytest.raises(OSError, match=r"No space left|File too large"):
        save_at(path, 2.0, WIDE)


@pytest.mark.parametrize("is_small", [True, False], ids=["small disk", "limited files"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_an_error_that_says_so(name: str, is_small: bool, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 1 << 20) as is_mounted:
        if is_small and not is_mounted:
            pytest.skip("this process may not mount a file system")
        save_at(disk / name, 1.0, WIDE)
        before = sorted(disk.rglob("*"))
        assert ended_well(fork(lambda: fill_up(disk / name, disk, is_small)))
        (disk / "filler").unlink(missing_ok=True)
        assert step_of(disk / name, WIDE) == 1.0
        assert sorted(disk.rglob("*")) == before


def test_of_two_writers_the_last_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"

    def write(file: BinaryIO) -> None:
        save_at(path, 2.0)  # starts and ends while the other one writes
        assert step_of(path) == 2.0
        file.write(b"three")

    write_whole(path, write)
    assert path.read_bytes() == b"three"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_another_process_writes_stays(tmp_path: Path) -> None:
    save_at(tmp_path / "run", 1.0)
    theirs = tmp_path / "run" / "tensors-0123abcd"
    theirs.mkdir()
    with (theirs / "lock").open("xb") as file:
        assert lock(file)
        save_at(tmp_path / "run", 2.0)
        assert theirs.exists()
    save_at(tmp_path / "run", 3.0)
    assert not theirs.exists()


def test_a_folder_that_another_process_reads_stays(tmp_path: Path) -> None:
    save_at(tmp_path / "run", 1.0)
    (old,) = (tmp_path / "run").glob("tensors-*")
    with (old / "lock").open("rb") as file:
        assert lock(file, shared=True)
        save_at(tmp_path / "run", 2.0)
        assert old.exists()
    assert step_of(tmp_path / "run") == 2.0


@pytest.mark.parametrize("name", ["run", "run.pt", "a.run.pt", "run.pt.pt"])
def test_paths_that_begin_alike_do_not_meet(name: str, tmp_path: Path) -> None:
    """No save removes an unfinished file of another path."""
    others = [
        tmp_path / f".{other}.0123abcd.unfinished"
        for other in ("run.pt.bak", "run-1.pt", "run.pt.0123abcd", "xrun.pt", "run.tmp", "run-1")
    ]
    for other in others:
        other.write_bytes(b"half a file")
    checkpoint.save(tmp_path / name, Linear(1, 1))
    assert all(other.exists() for other in others)


def test_a_folder_that_a_process_left_before_it_had_a_lock_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    left = path / "tensors-0123abcd"
    left.mkdir(parents=True)
    save_at(path, 1.0)
    assert not left.exists()
    assert step_of(path) == 1.0


def test_a_save_whose_folder_another_process_removes_before_it_has_a_lock_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    mkdir = Path.mkdir

    def removed_once(self: Path, *args: int, **kwargs: bool) -> None:
        mkdir(self, *args, **kwargs)
        if self.name.startswith("tensors-"):
            made.append(self)
            if len(made) == 1:
                self.rmdir()

    monkeypatch.setattr(Path, "mkdir", removed_once)
    save_at(tmp_path / "run", 1.0)
    assert len(set(made)) == 2
    assert step_of(tmp_path / "run") == 1.0


def test_neighbours_do_not_meet(tmp_path: Path) -> None:
    names = ["run", "run-1", "run.tmp", "run.pt", "run.safetensors", "run-1.pt", "run.pt.bak"]
    for i, name in enumerate(names):
        save_at(tmp_path / name, float(i))
    for i, name in enumerate(names):
        assert step_of(tmp_path / name) == i
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_what_torch_cannot_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    save_at(path, 1.0)
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CheckpointError):
        checkpoint.save(path, Linear(1, 1), deep=deep)
    assert step_of(path) == 1.0


def names_are_numbers(model: nn.Module) -> torch.optim.Optimizer:
    model.register_state_dict_post_hook(lambda module, state, prefix, _: state.update({0: 1}))
    return torch.optim.SGD(model.parameters())


def state_is_no_dict(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters())
    optimizer.state[next(model.parameters())] = 3
    return optimizer


@pytest.mark.parametrize("change", [names_are_numbers, state_is_no_dict])
@pytest.mark.parametrize("name", ["run.pt", "run"])
def test_states_that_load_would_refuse_are_refused(
    name: str, change: Callable[[nn.Module], torch.optim.Optimizer], tmp_path: Path
) -> None:
    save_at(tmp_path / name, 1.0)
    model = nn.Linear(2, 2)
    with pytest.raises(CheckpointError):
        checkpoint.save(tmp_path / name, model, change(model))
    assert step_of(tmp_path / name) == 1.0


@pytest.mark.parametrize("name", ["run.pt", "run"])
def test_a_state_that_belongs_to_no_parameter_comes_back(name: str, tmp_path: Path) -> None:
    model = Linear(2, 2)
    saved, other = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    cast("dict[str, int]", saved.state)["count"] = 3
    checkpoint.save(tmp_path / name, model, saved)
    checkpoint.load(tmp_path / name, model, other)
    assert cast("dict[str, int]", other.state)["count"] == 3


@pytest.mark.parametrize("value", [10**700, b"", [b""], {"a": {b"": 1}}])
def test_what_torch_would_not_read_is_refused_by_its_name(value: object, tmp_path: Path) -> None:
    save_at(tmp_path / "run.pt", 1.0)
    with pytest.raises(CheckpointError, match="value"):
        checkpoint.save(tmp_path / "run.pt", Linear(1, 1), value=value)
    assert step_of(tmp_path / "run.pt") == 1.0


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_new_checkpoint_has_the_permissions_of_the_old_one(
    name: str, mode: int, tmp_path: Path
) -> None:
    path = tmp_path / name
    save_at(path, 1.0)
    file = path / "index.pt" if path.is_dir() else path
    file.chmod(mode)
    save_at(path, 2.0)
    assert stat.S_IMODE(file.stat().st_mode) == mode


@pytest.mark.parametrize("name", ["run.pt", "run.safetensors"])
def test_a_folder_or_a_pipe_where_a_file_is_to_be_written_stays(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.mkdir()
    (path / "theirs").write_text("mine")
    with pytest.raises(CheckpointError, match="is a folder, and this checkpoint is one file"):
        save_at(path, 1.0)
    assert (path / "theirs").read_text() == "mine"
    pipe = tmp_path / f"pipe{path.suffix}"
    os.mkfifo(pipe)
    with pytest.raises(FileExistsError, match="is not an ordinary file"):
        save_at(pipe, 1.0)
    assert pipe.is_fifo()
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, pipe.name}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("odd", ["new\nline", " ", "-r", "%s", "a" * 200, "λ 🙂", "*[x]?", "..b"])
def test_names_of_any_characters(name: str, odd: str, tmp_path: Path) -> None:
    path = tmp_path / (odd + Path(name).suffix)
    save_at(path, 1.0)
    save_at(path, 2.0)
    assert step_of(path) == 2.0
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", FORMATS)
def test_a_link_stays_one_and_its_target_is_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / name, tmp_path / f"link{Path(name).suffix}"
    save_at(target, 1.0)
    link.symlink_to(target)
    save_at(link, 2.0)
    assert link.is_symlink()
    assert step_of(target) == step_of(link) == 2.0
