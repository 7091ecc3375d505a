"""A folder into which every process writes its shards, and which any number of processes reads.

    path/
      index.pt             all of the checkpoint but its large tensors, and the name of the folder
                           with those, where each shard is, and the checksum of each file
      tensors-0123abcd/    the tensors, in the format of torch.distributed.checkpoint
        lock               empty; a process locks it while it writes or reads the others

A save becomes valid when a new index.pt is renamed into place. Until then the old index names the
old tensors, and both are unchanged. No name is used a second time, so that no index names the
tensors of another save. Tensors that no index names are removed by the next save, unless a process
is reading or writing them. Nothing else in the folder is touched.

PyTorch's get_state_dict and set_state_dict would work with SteepestDescent too. They are not used,
because torch.distributed.checkpoint.load, which follows them, reads into the memory of the model
itself, so that a truncated file would leave half of it overwritten; and because it unpickles
everything but tensors.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from modula.atomic import sync_folder
from modula.checkpoint.contents import Contents, map_tensors
from modula.checkpoint.processes import from_first, gathered, is_first, together
from modula.checkpoint.torch_file import DESCRIPTION, read_file, refuse_names, write_file
from modula.errors import CheckpointError
from modula.locking import lock
from modula.sharding import is_sharded

INDEX = "index.pt"
LOCK = "lock"
TENSORS = "tensors"
"""The entry of the index about the folder with the tensors."""

_SUBFOLDER = re.compile(r"tensors-[0-9a-f]{8}")


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
        from modula.checkpoint.shards import write_shards

        with ExitStack() as stack:
            made = together(lambda: stack.enter_context(_subfolder(path)) if is_first() else None)
            folder = path / from_first(made.name if made else "")
            tensors: dict[str, Tensor] = {}
            index = _without_tensors(contents, module, optimizer, tensors)
            shards, files = write_shards(folder, tensors)
            entry = {"folder": folder.name, "files": files, "shards": shards}
            index.extra = {**contents.extra, TENSORS: entry}
            together(lambda: _commit(path, folder, index) if is_first() else None)

    def read(self, path: Path) -> Contents:
        contents = read_file(path / INDEX)
        if not _is_index(contents):
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
    ) -> Contents | None:
        """Return the contents with new tensors, in the layouts of the model's.

        None if another save has replaced the checkpoint since its index was read.
        """
        entry = contents.extra[TENSORS]
        try:
            with _reading(path / entry["folder"]):
                return _filled(path / entry["folder"], contents, module, optimizer)
        except BaseException as error:  # on all processes, if on one
            is_error = isinstance(error, Exception)
            found = gathered((is_error, is_error and _digest_of_index(path) != contents.digest))
            if any(replaced for _, replaced in found) and all(is_error for is_error, _ in found):
                return None
            raise


def _without_tensors(
    contents: Contents,
    module: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    tensors: dict[str, Tensor],
) -> Contents:
    """The contents with meta tensors in place of those that are written by themselves.

    Args:
        contents, module, optimizer: as `map_tensors` takes them.
        tensors: gets them, by name.
    """

    def set_aside(key: str, t: Tensor, _: Tensor) -> Tensor:
        is_plain = type(t) in (Tensor, nn.Parameter) or is_sharded(t)
        if not is_plain or t.layout is not torch.strided or t.is_quantized:
            return t
        tensors[key] = t
        return torch.empty(t.shape, dtype=t.dtype, device="meta")

    return map_tensors(contents, module, optimizer, set_aside)


def _filled(
    folder: Path, contents: Contents, module: nn.Module, optimizer: torch.optim.Optimizer | None
) -> Contents:
    from modula.checkpoint.shards import check_files, is_map, read_shards

    entry = contents.extra[TENSORS]
    together(lambda: check_files(folder, entry["files"]))
    if not is_map(entry["shards"], entry["files"]):
        raise CheckpointError(f"{folder.parent / INDEX} does not say where its tensors are")
    tensors: dict[str, Tensor] = {}

    def allocate(key: str, t: Tensor, own: Tensor) -> Tensor:
        if not t.is_meta:
            return t
        tensors[key] = torch.empty_like(own, dtype=t.dtype, requires_grad=False)
        return tensors[key]

    filled = together(lambda: map_tensors(contents, module, optimizer, allocate))
    filled.extra = {key: value for key, value in contents.extra.items() if key != TENSORS}
    read_shards(folder, tensors, entry["shards"])
    return filled


def _is_index(contents: Contents) -> bool:
    match contents.extra.get(TENSORS):
        case {"folder": str(name), "files": dict(files), "shards": dict()}:
            return _SUBFOLDER.fullmatch(name) is not None and all(
                isinstance(file, str) and file == os.path.basename(file) for file in files
            )
    return False


def _digest_of_index(path: Path) -> str:
    """The digest of the index; empty if there is none."""
    try:
        return read_file(path / INDEX).digest
    except (FileNotFoundError, CheckpointError):
        return ""


@contextmanager
def _subfolder(path: Path) -> Iterator[Path]:
    """Make and lock a new subfolder, and remove it afterwards unless the index names it."""
    if path.exists() and not path.is_dir():
        raise CheckpointError(
            f"{path} is a file, and a path without a suffix means a folder: give another path"
        )
    _refuse_foreign_index(path / INDEX)
    path.mkdir(parents=True, exist_ok=True)
    _remove_unnamed(path)
    folder, file = _locked(path)
    try:
        with file:
            yield folder
    finally:
        with suppress(OSError, CheckpointError):
            if _named(path) != folder.name:
                _remove(folder)


def _locked(path: Path) -> tuple[Path, BinaryIO]:
    """Make a subfolder, and lock it.

    Until it is locked, another process may remove it as one that was left behind.
    """
    while True:
        folder = path / f"tensors-{secrets.token_hex(4)}"
        folder.mkdir()
        with suppress(FileNotFoundError):
            file = (folder / LOCK).open("xb")
            if lock(file) and (folder / LOCK).exists():
                return folder, file
            file.close()


def _refuse_foreign_index(index: Path) -> None:
    """Raise if an index is none, since it may be a file of the user's.

    A damaged one is replaced: it is one if it is beside tensors that `save` has written.

    Raises:
        CheckpointError: `save` has not written it.
    """
    try:
        if _is_index(read_file(index)):
            return
    except (FileNotFoundError, NotADirectoryError):
        return
    except CheckpointError:
        if any(index.parent.glob(f"tensors-*/{LOCK}")):
            return
    raise CheckpointError(
        f"{index} is not the index of a checkpoint in a folder, and would be replaced by one: move "
        "it away, or give another path"
    )


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Keep savers from removing a folder while it is read."""
    with ExitStack() as stack:
        with suppress(OSError):  # reading the other files will fail too
            lock(stack.enter_context((folder / LOCK).open("rb")), shared=True)
        yield


def _commit(path: Path, folder: Path, index: Contents) -> None:
    """Write the index that names this subfolder, and remove those that it does not name."""
    sync_folder(folder)
    sync_folder(path)
    write_file(path / INDEX, index)
    _remove_unnamed(path)


def _named(path: Path) -> str | None:
    """The name of the subfolder that the index names; None if there is no index.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        contents = read_file(path / INDEX)
    except FileNotFoundError:
        return None
    return contents.extra[TENSORS]["folder"] if _is_index(contents) else None


def _remove_unnamed(path: Path) -> None:
    """Remove the tensors that no index names and that no process is reading or writing.

    A damaged index may have named any of them, so that they stay until a new one replaces it.
    """
    for folder in path.iterdir():
        if not _SUBFOLDER.fullmatch(folder.name):
            continue
        with suppress(OSError):
            folder.rmdir()  # if it is empty, as a process leaves it that ends before it has a lock
        with suppress(OSError, CheckpointError), (folder / LOCK).open("r+b") as file:
            # the index is read after the lock, which a writer gives up after its index
            if lock(file) and _named(path) != folder.name:
                _remove(folder)


def _remove(folder: Path) -> None:
    """Remove the files of a save, and the folder unless it has others."""
    from modula.checkpoint.shards import FILE

    with suppress(OSError):
        for file in folder.iterdir():
            if FILE.fullmatch(file.name):
                file.unlink()
        (folder / LOCK).unlink()
        folder.rmdir()
