"""Files that are written whole or not at all.

A file gets its name once all of it is on the disk, by a rename, which is atomic. A reader of that
name gets all of the old file or all of the new one, even after a kill or a loss of power.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from modula.errors import CheckpointError

_SUFFIX = ".unfinished"


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole, in place of an earlier one.

    Args:
        path: of the file. Its folder is made if it is missing.
        write: puts the bytes into an open file.

    Raises:
        CheckpointError: another process is writing the same file.
        OSError: the disk is full, the folder may not be written, and the like. The earlier file is
            untouched then.
    """
    path = Path(os.path.realpath(path))  # a link stays one, and its target is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(path)
    with _unfinished(path) as (file, temporary):
        write(file)
        file.flush()
        os.fsync(file.fileno())
        file.close()
        try:
            os.replace(temporary, path)
        except FileNotFoundError:
            raise CheckpointError(
                f"{path}: two processes are writing it at once; give each run a path of its own"
            ) from None
    sync_folder(path.parent)


@contextmanager
def _unfinished(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a new file beside `path`, and remove it afterwards unless it was renamed."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)


def _remove_unfinished(path: Path) -> None:
    """Remove the unfinished files of writers of `path` that were killed."""
    start = f".{path.name}."
    for entry in os.scandir(path.parent):
        if entry.name.startswith(start) and entry.name.endswith(_SUFFIX):
            Path(entry.path).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk.

    Windows has no such call, and needs none for a rename.
    """
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
