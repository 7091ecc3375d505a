"""A folder into which every process writes its part, by torch.distributed.checkpoint; as many
processes as you like read it.

    path/
      index.pt        all of the checkpoint but its large tensors, and the name of the folder
                      that has those
      tensors-0/      what torch.distributed.checkpoint writes; the next save takes tensors-1,
                      and so on in turns

The rename that puts a new index.pt in place is what makes a save valid. Until then the old index
names the old tensors, both untouched.

PyTorch's get_state_dict and set_state_dict would work with SteepestDescent too. They are not used
because what follows them, torch.distributed.checkpoint.load, reads into the memory of the model
itself, so that a file that is cut short would leave half of it overwritten; and because it
unpickles whatever is no tensor.
"""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from modula.checkpoint.atomic import sync_folder
from modula.checkpoint.contents import Contents, mapped
from modula.checkpoint.processes import from_first, is_first, several, together
from modula.checkpoint.torch_file import DESCRIPTION, read_file, refuse_names, write_file
from modula.errors import CheckpointError

T = TypeVar("T")

INDEX = "index.pt"
TENSORS = "tensors"
"""The entry of the index that names the folder with the tensors."""

_FOLDERS = ("tensors-0", "tensors-1")


class Folder:
    """The index written by the first process, the tensors by all."""

    def check(self, contents: Contents) -> None:
        refuse_names(contents, DESCRIPTION, TENSORS)

    def write(
        self,
        path: Path,
        contents: Contents,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        from torch.distributed.checkpoint.filesystem import FileSystemWriter
        from torch.distributed.checkpoint.state_dict_saver import save

        name = from_first(together(lambda: _make_room(path) if is_first() else ""))
        tensors: dict[str, Tensor] = {}

        def set_aside(key: str, t: Tensor, _: Tensor) -> Tensor:
            tensors[key] = t
            return torch.empty(t.shape, dtype=t.dtype, device="meta")

        index = mapped(contents, model, optimizer, set_aside)
        index.extra = {**contents.extra, TENSORS: name}
        together(
            lambda: _translated(
                path,
                lambda: save(
                    tensors, storage_writer=FileSystemWriter(path / name), no_dist=not several()
                ),
            )
        )
        together(lambda: _commit(path, name, index) if is_first() else None)

    def read(self, path: Path) -> Contents:
        contents = read_file(path / INDEX)
        if contents.extra.get(TENSORS) not in _FOLDERS:
            raise CheckpointError(
                f"{path / INDEX} does not say where its tensors are: it is a checkpoint by itself, "
                "load it by its own path"
            )
        return contents

    def fill(
        self,
        path: Path,
        contents: Contents,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> Contents:
        """The contents with the tensors, in memory of their own, of which this process gets the
        parts that it holds of the model.
        """
        from torch.distributed.checkpoint.filesystem import FileSystemReader
        from torch.distributed.checkpoint.state_dict_loader import load

        name = contents.extra[TENSORS]
        tensors: dict[str, Tensor] = {}

        def make_room(key: str, t: Tensor, own: Tensor) -> Tensor:
            tensors[key] = torch.empty_like(own, dtype=t.dtype, requires_grad=False)
            return tensors[key]

        filled = mapped(contents, model, optimizer, make_room)
        filled.extra = {key: value for key, value in contents.extra.items() if key != TENSORS}
        _translated(
            path,
            lambda: load(
                tensors, storage_reader=FileSystemReader(path / name), no_dist=not several()
            ),
        )
        return filled


def _make_room(path: Path) -> str:
    """Remove what a killed run has left and return the name of the folder that is free."""
    if path.exists() and not path.is_dir():
        raise CheckpointError(
            f"{path} is a file, and a path without a suffix stands for a folder: give another path"
        )
    path.mkdir(parents=True, exist_ok=True)
    taken = _tensors_named_by(path)
    free = next(name for name in _FOLDERS if name != taken)
    shutil.rmtree(path / free, ignore_errors=True)
    (path / free).mkdir()
    return free


def _tensors_named_by(path: Path) -> str | None:
    try:
        name = read_file(path / INDEX).extra.get(TENSORS)
    except (FileNotFoundError, CheckpointError):
        return None
    return name if isinstance(name, str) else None


def _commit(path: Path, name: str, index: Contents) -> None:
    sync_folder(path / name)
    sync_folder(path)
    write_file(path / INDEX, index)
    for other in _FOLDERS:
        if other != name:
            shutil.rmtree(path / other, ignore_errors=True)


def _translated(path: Path, action: Callable[[], T]) -> T:
    """What the action returns; the errors of torch.distributed.checkpoint, which are no Exceptions,
    become ours.
    """
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="torch.distributed is disabled, unavailable or uninitialized"
            )
            return action()
    except (CheckpointException, pickle.UnpicklingError, EOFError, RuntimeError, OSError) as error:
        raise CheckpointError(f"{path}: {error}") from error
