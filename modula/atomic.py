"""Files that are written whole or not at all.

A file gets its name once all of it is on the disk, by a rename, which is atomic. A reader of that
name gets all of the old file or all of the new one, even after a kill or a loss of power.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from modula.locking import lock


def write_whole(
    path: Path,
    write: Callable[[BinaryIO], object],
    check: Callable[[Path], object] = lambda unfinished: None,
) -> None:
    """Write a file whole, in place of an earlier one.

    Of two processes that write the same file at once, the one that ends last replaces the file of
    the other. The new file has the permissions of the earlier one.

    Args:
        path: of the file. Its folder is made if it is missing.
        write: puts the bytes into an open file.
        check: gets the path under which the bytes were written, and raises if they are not to
            replace the earlier file.

    Raises:
        OSError: the disk is full, the folder may not be written, the path is of a folder or a
            device, and the like. The earlier file is untouched then, as it is if `write` or `check`
            raises.
    """
    path = Path(os.path.realpath(path))  # a link stays one, and its target is replaced
    if path.exists() and not path.is_file():
        raise FileExistsError(
            f"{path} is not an ordinary file, so that no file can replace it: give another path"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(path)
    with _unfinished(path) as (file, temporary):
        if path.exists():  # before the first byte is written, which others may not be let read
            os.chmod(temporary, stat.S_IMODE(path.stat().st_mode))
        write(file)
        file.flush()
        check(temporary)
        os.fsync(file.fileno())
        if os.name == "nt":
            file.close()  # Windows renames no open file
        os.replace(temporary, path)
    sync_folder(path.parent)


@contextmanager
def _unfinished(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open and lock a new file beside `path`, and remove it afterwards unless it was renamed."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
        with temporary.open("xb") as file:
            lock(file)
            if not temporary.exists():
                continue  # another process removed it before it was locked
            try:
                yield file, temporary
            finally:
                temporary.unlink(missing_ok=True)
            return


def _remove_unfinished(path: Path) -> None:
    """Remove the unfinished files of writers of `path` that were killed."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.unfinished")
    for entry in os.scandir(path.parent):
        # its writer may finish or remove it at any time
        if pattern.fullmatch(entry.name):
            with suppress(FileNotFoundError, PermissionError), open(entry.path, "r+b") as file:
                if lock(file):
                    os.unlink(entry.path)


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
