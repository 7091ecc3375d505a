"""A folder runs no code, and leaves alone what is not its own."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from modula import Linear, checkpoint
from modula.checkpoint import CheckpointError
from modula.checkpoint.seal import write_sealed
from modula.checkpoint.shards import sha256
from tests.checkpoint.whole import save_at, step_of


class RunsCode:
    """A pickle that makes a folder as it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_metadata_of_the_right_checksum_run_no_code(tmp_path: Path) -> None:
    path = tmp_path / "run"
    save_at(path, 1.0)
    index = torch.load(path / "index.pt", weights_only=True)
    metadata = path / index["tensors"]["folder"] / ".metadata"
    metadata.write_bytes(pickle.dumps(RunsCode(tmp_path / "mark")))
    index["tensors"]["files"][".metadata"] = sha256(metadata)
    with (path / "index.pt").open("wb") as file:
        write_sealed(file, lambda archive: torch.save(index, archive))
    assert step_of(path) == 1.0
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(folder="../elsewhere"),
        lambda entry: entry.update(files={"../secret": "0"}),
        lambda entry: entry.update(files=dict.fromkeys(entry["files"], 3)),
        lambda entry: entry.update(shards={}),
        lambda entry: entry.update(shards={"model.0.weight": 3}),
        lambda entry: entry["shards"].update({"model.0.weight": (torch.float32, [3, 2], [])}),
        lambda entry: entry["shards"].update(
            {"model.0.weight": (torch.float32, [3, 2], [([0, 0], [3, 2], "/etc/passwd", 0, 9)])}
        ),
        lambda entry: entry["shards"].update(
            {
                name: (dtype, shape, [(at, of, file, start + 1, length)])
                for name, (dtype, shape, [(at, of, file, start, length)]) in entry["shards"].items()
            }
        ),
    ],
)
def test_an_index_that_something_else_changed_is_refused(
    change: Callable[[dict], None], tmp_path: Path
) -> None:
    save_at(tmp_path / "run", 1.0)
    index = torch.load(tmp_path / "run" / "index.pt", weights_only=True)
    change(index["tensors"])
    torch.save(index, tmp_path / "run" / "index.pt")
    with pytest.raises(CheckpointError):
        step_of(tmp_path / "run")


def test_errors_of_a_folder_have_one_line(tmp_path: Path) -> None:
    save_at(tmp_path / "run", 1.0)
    (file,) = (tmp_path / "run").glob("tensors-*/*.distcp")
    file.unlink()
    with pytest.raises(CheckpointError) as caught:
        step_of(tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert file.name in str(caught.value)


def test_files_of_the_user_stay(tmp_path: Path) -> None:
    path = tmp_path / "run"
    theirs = ["data.txt", "tensors-0/a.txt", "tensors-1/__0_0.distcp", "tensors-0123abcd/a.txt"]
    for name in theirs:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("mine")
    for step in range(3):
        save_at(path, float(step))
        assert step_of(path) == step
    (tensors,) = {file.parent for file in path.glob("tensors-*/lock")}
    (tensors / "notes.txt").write_text("mine")
    save_at(path, 3.0)
    assert step_of(path) == 3.0
    for name in [*theirs, f"{tensors.name}/notes.txt"]:
        assert (path / name).read_text() == "mine"


@pytest.mark.parametrize("content", ["text", "a state dict", "a checkpoint"])
def test_an_index_that_is_none_is_not_replaced(content: str, tmp_path: Path) -> None:
    index = tmp_path / "run" / "index.pt"
    index.parent.mkdir()
    if content == "text":
        index.write_text("mine")
    elif content == "a state dict":
        torch.save(nn.Linear(2, 2).state_dict(), index)
    else:
        checkpoint.save(index, Linear(2, 2))
    before = index.read_bytes()
    with pytest.raises(CheckpointError, match="would be replaced"):
        checkpoint.save(tmp_path / "run", Linear(2, 2))
    assert list(index.parent.iterdir()) == [index]
    assert index.read_bytes() == before


def test_a_damaged_checkpoint_is_replaced(tmp_path: Path) -> None:
    save_at(tmp_path / "run", 1.0)
    (tmp_path / "run" / "index.pt").write_bytes(b"damaged")
    save_at(tmp_path / "run", 2.0)
    assert step_of(tmp_path / "run") == 2.0
    assert len(list((tmp_path / "run").iterdir())) == 2


class Kinds(nn.Module):
    """Buffers of kinds that torch.distributed.checkpoint does not restore, and of no entries."""

    def __init__(self, value: float) -> None:
        super().__init__()
        for name, t in {
            "sparse": (value * torch.eye(3)).to_sparse(),
            "quantized": torch.quantize_per_tensor(torch.full((3,), value), 0.1, 0, torch.qint8),
            "complex": torch.full((2,), value, dtype=torch.complex64),
            "bool": torch.full((2,), bool(value)),
            "float8": torch.full((2,), value).to(torch.float8_e4m3fn),
            "empty": torch.ones(0, 3),
            "single": torch.tensor(value),
            "strided": torch.full((4, 6), value)[::2, ::3],
        }.items():
            self.register_buffer(name, t)


@pytest.mark.filterwarnings("ignore:.*(quantize|TypedStorage)")
def test_buffers_of_every_kind_come_back(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "run", saved := Kinds(1.0))
    checkpoint.load(tmp_path / "run", other := Kinds(0.0))
    for name, t in saved.named_buffers():
        found = other.get_buffer(name)
        dense = [b.dequantize() if b.is_quantized else b.to_dense() for b in (t, found)]
        assert torch.equal(*[b.to(torch.complex64) for b in dense]), name


class Collision(torch.optim.Optimizer):
    """States whose names, after those of their parameters, are the same."""

    def __init__(self, a: nn.Parameter, b: nn.Parameter) -> None:
        super().__init__([("w", a), ("w.x", b)], {})
        self.state[a]["x.y"] = torch.full_like(a, 1.0)
        self.state[b]["y"] = torch.full_like(b, 2.0)


def test_names_that_begin_alike_do_not_meet(tmp_path: Path) -> None:
    model = Linear(2, 2) @ Linear(2, 2)
    optimizer = Collision(*model.parameters())
    checkpoint.save(tmp_path / "run", model, optimizer)
    for w in model.parameters():
        optimizer.state[w] = {key: torch.zeros_like(t) for key, t in optimizer.state[w].items()}
    checkpoint.load(tmp_path / "run", model, optimizer)
    found = [t for w in model.parameters() for t in optimizer.state[w].values()]
    assert [float(t.mean()) for t in found] == [1.0, 2.0]
