"""A zip archive whose comment is the SHA-256 of the rest of it.

The checksums that a zip archive has by itself are of its entries, not of its directory, so that a
changed byte there can turn a tensor into another. A comment is a part of the format, and programs
that know nothing of this one ignore it.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, cast

from modula.errors import CheckpointError

_MARK = b"modula sha256 "
_COMMENT = len(_MARK) + 2 * hashlib.sha256().digest_size
_LENGTH = _COMMENT.to_bytes(2, "little")
_NO_LENGTH = bytes(2)
_END = b"PK\x05\x06"
"""The start of a zip archive's last 22 bytes, of which 2 are the length of the comment."""

_BLOCK = 1 << 20


class _Hashed(BufferedIOBase):
    """A file that is written from its start to its end, the hash of its bytes, and its error.

    torch.save replaces an error of the file by one of its own.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.hash = hashlib.sha256()
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        view = memoryview(cast("bytes", data)).cast("B")
        self.hash.update(view)
        try:
            self.file.write(view)
        except OSError as error:
            self.error = error
            raise
        return len(view)


def write_sealed(file: BinaryIO, write: Callable[[BinaryIO], object]) -> None:
    """Write a zip archive, and its checksum into its comment.

    Args:
        file: open for writing, and empty.
        write: writes an archive without a comment.

    Raises:
        OSError: the disk is full, or the like.
        CheckpointError: `write` failed for another reason.
    """
    hashed = _Hashed(file)
    try:
        write(cast("BinaryIO", hashed))
    except Exception as error:
        if hashed.error is not None:
            raise hashed.error from None
        raise CheckpointError(f"torch.save cannot write it: {error}") from error
    file.seek(-len(_LENGTH), 2)
    file.write(_LENGTH + _comment(hashed.hash.hexdigest()))


def check_seal(file: BinaryIO, path: Path) -> str:
    """Return the SHA-256 of an archive, after a comparison with the one in it.

    An archive without a comment, as torch.save writes it, is held against the checksums of its
    entries.

    Raises:
        CheckpointError: the file is truncated or damaged, or not an archive.
    """
    size = file.seek(0, 2)
    end = size - _COMMENT - len(_LENGTH)
    file.seek(max(end, 0))
    last = file.read()
    if _is_sealed(file):
        digest = _digest(file, end)
        if last != _LENGTH + _comment(digest):
            raise CheckpointError(f"{path} is damaged: the checksum of its bytes is wrong")
        return digest
    if last[-22:][:4] != _END:
        raise CheckpointError(f"{path} is truncated or damaged, or not a checkpoint")
    _check_entries(file, path)
    return _digest(file, size)


def _is_sealed(file: BinaryIO) -> bool:
    """Return whether a file ends as those do that `write_sealed` wrote, damaged or not."""
    size = file.seek(0, 2)
    file.seek(max(size - _COMMENT - len(_LENGTH), 0))
    return file.read().startswith(_LENGTH + _MARK)


def _comment(digest: str) -> bytes:
    return _MARK + digest.encode()


def _digest(file: BinaryIO, end: int) -> str:
    """The SHA-256 of a file's first bytes, and of a comment's length, 0, after them."""
    found = hashlib.sha256()
    file.seek(0)
    while end > 0:
        block = file.read(min(end, _BLOCK))
        found.update(block)
        end -= len(block) or end
    found.update(_NO_LENGTH)
    return found.hexdigest()


def _check_entries(file: BinaryIO, path: Path) -> None:
    """Verify the checksums of an archive's entries, which `torch.load` does not."""
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except Exception as error:  # a damaged archive raises errors of many classes
        raise CheckpointError(
            f"{path} is truncated or damaged, or not a checkpoint: {error}"
        ) from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of its entry {damaged!r} is wrong")
