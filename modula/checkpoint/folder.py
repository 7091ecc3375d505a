"""A folder into which every process writes its shards, and which any number of processes reads.

    path/
      index.pt        all of the checkpoint but its large tensors, and the name of the folder
                      with those
      tensors-0/      written by torch.distributed.checkpoint; the next save takes tensors-1,
                      and so on in turns

A save becomes valid when a new index.pt is renamed into place. Until then the old index names the
old tensors, and both are unchanged.

PyTorch's get_state_dict and set_state_dict would work with SteepestDescent too. They are not used,
because torch.distributed.checkpoint.load, which follows them, reads into the memory of the model
itself, so that a truncated file would leave half of it overwritten; and because it unpickles
everything but tensors.
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

from modula.atomic import sync_folder
from modula.checkpoint.contents import Contents, map_tensors
from modula.checkpoint.processes import from_first, is_first, several, together
from modula.checkpoint.torch_file import DESCRIPTION, read_file, refuse_names, write_file
from modula.errors import CheckpointError

T = TypeVar("T")

INDEX = "index.pt"
TENSORS = "tensors"
"""The entry of the index that names the folder with the tensors."""

_FOLDERS = ("tensors-0", "tensors-1")


class Folder:
    """A checkpoint whose index the first process writes, and whose tensors all write."""

    def check(self, contents: Contents) -> None:
        refuse_names(contents, DESCRIPTION, TENSORS)

    def write(
        self,
        path: Path,
        contents: Contents,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        from torch.distributed.checkpoint.filesystem import FileSystemWriter
        from torch.distributed.checkpoint.state_dict_saver import save

        name = from_first(together(lambda: _empty_subfolder(path) if is_first() else ""))
        tensors: dict[str, Tensor] = {}

        def set_aside(key: str, t: Tensor, _: Tensor) -> Tensor:
            tensors[key] = t
            return torch.empty(t.shape, dtype=t.dtype, device="meta")

        index = map_tensors(contents, module, optimizer, set_aside)
        index.extra = {**contents.extra, TENSORS: name}
        together(
            lambda: _with_our_errors(
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
                f"{path / INDEX} names no folder with its tensors: it is a checkpoint by itself, "
                "load it by its own path"
            )
        return contents

    def fill(
        self,
        path: Path,
        contents: Contents,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> Contents:
        """Return the contents with new tensors, in the layouts of the model's."""
        from torch.distributed.checkpoint.filesystem import FileSystemReader
        from torch.distributed.checkpoint.state_dict_loader import load

        name = contents.extra[TENSORS]
        tensors: dict[str, Tensor] = {}

        def allocate(key: str, t: Tensor, own: Tensor) -> Tensor:
            tensors[key] = torch.empty_like(own, dtype=t.dtype, requires_grad=False)
            return tensors[key]

        filled = map_tensors(contents, module, optimizer, allocate)
        filled.extra = {key: value for key, value in contents.extra.items() if key != TENSORS}
        _with_our_errors(
            path,
            lambda: load(
                tensors, storage_reader=FileSystemReader(path / name), no_dist=not several()
            ),
        )
        return filled


def _empty_subfolder(path: Path) -> str:
    """The name of the subfolder that no index names, emptied of what a killed run has left."""
    if path.exists() and not path.is_dir():
        raise CheckpointError(
            f"{path} is a file, and a path without a suffix means a folder: give another path"
        )
    path.mkdir(parents=True, exist_ok=True)
    taken = _subfolder_in_use(path)
    free = next(name for name in _FOLDERS if name != taken)
    shutil.rmtree(path / free, ignore_errors=True)
    (path / free).mkdir()
    return free


def _subfolder_in_use(path: Path) -> str | None:
    """The name of the subfolder that the index names, if there is an index."""
    try:
        name = read_file(path / INDEX).extra.get(TENSORS)
    except (FileNotFoundError, CheckpointError):
        return None
    return name if isinstance(name, str) else None


def _commit(path: Path, name: str, index: Contents) -> None:
    """Write the index that names this subfolder, and remove the other one."""
    sync_folder(path / name)
    sync_folder(path)
    write_file(path / INDEX, index)
    for other in _FOLDERS:
        if other != name:
            shutil.rmtree(path / other, ignore_errors=True)


def _with_our_errors(path: Path, action: Callable[[], T]) -> T:
    """The action's result. Errors of torch.distributed.checkpoint become CheckpointErrors.

    Its own class of error does not derive from Exception.
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
