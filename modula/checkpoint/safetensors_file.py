"""The weights alone in a safetensors file, which other libraries and languages read.

It needs the package safetensors. The format has no checksum, so that one is put into its metadata:
the SHA-256 of the file with zeros in its place.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from modula.atomic import write_whole
from modula.checkpoint.contents import Contents
from modula.checkpoint.description import read_description
from modula.checkpoint.processes import is_first, together
from modula.checkpoint.torch_file import DESCRIPTION, refuse_folder, refuse_sharded
from modula.checks import listed
from modula.errors import CheckpointError

EXTRA = "extra"
CHECKSUM = "sha256"
_ZEROS = "0" * 64
_FIELD = re.compile(rf'"{CHECKSUM}":"([^"]{{{len(_ZEROS)}}})"'.encode())
_BLOCK = 1 << 20

_ATTEMPTS = 20
"""To read a file that other processes replace meanwhile."""


class SafetensorsFile:
    """A file with the tensors of the model's state.

    The description and the user's additions are JSON in its metadata.
    """

    def check(self, contents: Contents) -> None:
        _check_installed()
        if contents.optimizer is not None:
            raise CheckpointError(
                "a .safetensors file contains weights alone: leave the optimizer out, or save to a "
                ".pt file or a folder"
            )
        refuse_sharded(contents)
        for name, value in contents.model.items():
            if not isinstance(value, Tensor):
                raise CheckpointError(
                    f"a .safetensors file contains tensors alone, and {name!r} of the model is a "
                    f"{type(value).__name__}"
                )
        for name, value in contents.extra.items():
            if not _is_json(value):
                raise CheckpointError(
                    "a .safetensors file contains numbers, strings and lists of them beside the "
                    f"weights, and {name!r} is not"
                )

    def write(
        self,
        path: Path,
        contents: Contents,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        def write() -> None:
            if is_first():
                refuse_folder(path)
                data = _serialized(path, contents)
                write_whole(
                    path,
                    lambda file: _write_with_checksum(file, data),
                    check=lambda unfinished: _read_back(unfinished, path, set(contents.model)),
                )

        together(write)

    def read(self, path: Path) -> Contents:
        _check_installed()
        if path.is_dir():
            raise CheckpointError(
                f"{path} is a folder, and `save` writes a file to a path with a suffix"
            )
        for _ in range(_ATTEMPTS):
            found = _read(path)
            if found is not None:
                return found
        raise CheckpointError(f"{path} is replaced by other saves before all of it can be read")

    def fill(
        self,
        path: Path,
        contents: Contents,
        module: nn.Module,
        optimizer: torch.optim.Optimizer | None,
    ) -> Contents | None:
        return contents


def _serialized(path: Path, contents: Contents) -> bytes:
    """The bytes of the file, with zeros for its checksum.

    Raises:
        CheckpointError: safetensors cannot store one of the tensors.
    """
    from safetensors.torch import save

    metadata = {
        "format": "pt",
        DESCRIPTION: json.dumps(contents.description),
        EXTRA: json.dumps(contents.extra),
        CHECKSUM: _ZEROS,
    }
    try:
        return save(_unshared(contents.model), metadata)
    except Exception as error:  # of many classes, by kind of tensor
        raise CheckpointError(
            f"{path} is not written, because safetensors cannot: {error}"
        ) from error


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in memory of their own, since the format has no tied weights."""
    seen = set()
    own = {}
    for name, t in tensors.items():
        own[name] = t.detach().contiguous()
        if own[name].layout is torch.strided:
            storage = own[name].untyped_storage()
            own[name] = own[name].clone() if storage.data_ptr() in seen else own[name]
            seen.add(storage.data_ptr())
    return own


def _write_with_checksum(file: BinaryIO, data: bytes) -> None:
    field = f'"{CHECKSUM}":"{_ZEROS}"'.encode()
    start = data.index(field) + len(field) - len(_ZEROS) - 1
    bytes_of = memoryview(data)
    file.write(bytes_of[:start])
    file.write(hashlib.sha256(data).hexdigest().encode())
    file.write(bytes_of[start + len(_ZEROS) :])


def _read_back(unfinished: Path, path: Path, names: set[str]) -> None:
    """Raise if safetensors would not read a file.

    Raises:
        CheckpointError: it would not, or without one of the tensors.
    """
    from safetensors import safe_open

    try:
        with safe_open(unfinished, framework="pt", device="cpu") as file:
            found = set(file.keys())
    except Exception as error:
        raise CheckpointError(
            f"{path} is not written, because safetensors would not read it: {error}"
        ) from error
    if found != names:
        raise CheckpointError(
            f"{path} is not written, because safetensors would lose {listed(sorted(names - found))}"
        )


def _read(path: Path) -> Contents | None:
    """The contents of the file; None if another one has replaced it meanwhile."""
    from safetensors import safe_open

    with path.open("rb") as file:
        digest = _digest(file, path)
        try:
            with safe_open(path, framework="pt", device="cpu") as opened:
                if not _is_unchanged(file, path, digest):
                    return None
                metadata = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 # it is not a dict
        except Exception as error:  # a damaged file raises errors of many classes
            raise CheckpointError(
                f"{path} is truncated, or not a safetensors file: {error}"
            ) from error
    if DESCRIPTION not in metadata:
        raise CheckpointError(
            f"{path} was not written by `save`: its metadata lacks the entry {DESCRIPTION!r}. "
            "If these are weights of this model, use safetensors.torch.load_model"
        )
    description = read_description(_json(metadata[DESCRIPTION], path), path)
    extra = _json(metadata.get(EXTRA, "{}"), path)
    if digest is None or not isinstance(extra, dict):
        raise CheckpointError(
            f"{path} was not written by `save`, or is damaged: its metadata lacks the entry "
            f"{CHECKSUM!r}"
        )
    return Contents(description, tensors, None, extra, digest)


def _is_unchanged(file: BinaryIO, path: Path, digest: str | None) -> bool:
    """Whether an open file still has this name, or another one with the same bytes has it."""
    if os.path.samestat(os.fstat(file.fileno()), path.stat()):
        return True
    with path.open("rb") as other:  # on some file systems no two looks see the same file
        return _digest(other, path) == digest


def _json(text: str, path: Path) -> object:
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: its metadata are not JSON") from error
    return value


def _digest(file: BinaryIO, path: Path) -> str | None:
    """The SHA-256 of a file with zeros for its checksum; None if it has no checksum.

    Raises:
        CheckpointError: they differ.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    header = file.read(min(int.from_bytes(start, "little"), size))
    fields = list(_FIELD.finditer(header))
    if len(fields) != 1:
        return None
    at, end = fields[0].span(1)
    found = hashlib.sha256(start + header[:at] + _ZEROS.encode() + header[end:])
    while block := file.read(_BLOCK):
        found.update(block)
    if found.hexdigest().encode() != fields[0][1]:
        raise CheckpointError(f"{path} is damaged: the checksum of its bytes is wrong")
    return found.hexdigest()


def _check_installed() -> None:
    if find_spec("safetensors") is None:
        raise ImportError(
            "a .safetensors file needs the package safetensors: pip install "
            '"modula-torch[safetensors]"'
        )


def _is_json(value: object) -> bool:
    """Whether JSON returns an equal value."""
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError, RecursionError):
        return False
