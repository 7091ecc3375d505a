"""Tensors in a folder, written and read by torch.distributed.checkpoint, without a pickle.

Its own reader unpickles the file `.metadata`, which says where each shard is, and with it any
object whatever: it would run code. So a `ShardMap` says the same as plain data, and the reader here
takes it from that. `.metadata` is still written, for other programs.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import (
    FileSystemReader,
    FileSystemWriter,
    _StorageInfo,
)
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from modula.checkpoint.processes import gathered, rank_and_size, several, together
from modula.errors import CheckpointError

T = TypeVar("T")

Chunk: TypeAlias = tuple[list[int], list[int], str, int, int]
"""The offsets and the sizes of a shard in its tensor; its file, and its bytes' start and number."""

ShardMap: TypeAlias = dict[str, tuple[torch.dtype, list[int], list[Chunk]]]
"""By name, the dtype, the shape and the shards of each tensor."""

FILE = re.compile(r"\.metadata(\.tmp)?|__\d+_\d+\.distcp")
"""The names of the files that torch.distributed.checkpoint writes."""


def write_shards(folder: Path, tensors: dict[str, Tensor]) -> tuple[ShardMap, dict[str, str]]:
    """Write tensors into a folder. Every process calls it, and writes its shards.

    Args:
        folder: exists, without files of an earlier save.
        tensors: by name.

    Returns:
        The map of the shards, on the first process, and the SHA-256 of each file, by name.

    Raises:
        OSError: the disk is full, or the like, on this process.
        CheckpointError: a process failed, or does not see the files of another.
    """
    writer = _Writer(folder)
    together(
        lambda: _with_our_errors(
            folder, lambda: save(tensors, storage_writer=writer, no_dist=not several())
        )
    )
    rank, _ = rank_and_size()
    own = re.compile(rf"__{rank}_\d+\.distcp" + (r"|\.metadata" if rank == 0 else ""))
    found = together(lambda: {p.name: sha256(p) for p in folder.iterdir() if own.fullmatch(p.name)})
    files = {name: digest for part in gathered(found) for name, digest in part.items()}
    together(lambda: _check_visible(folder, files))
    return _map_of(writer.metadata), files


def read_shards(folder: Path, tensors: dict[str, Tensor], shards: ShardMap) -> None:
    """Read tensors into the memory of those given. Every process calls it.

    Args:
        folder: with the files that `write_shards` wrote.
        tensors: by name, in the layout to read them in.
        shards: the map that `write_shards` returned.

    Raises:
        CheckpointError: a file is missing or damaged, here or on another process.
    """
    together(
        lambda: _with_our_errors(
            folder,
            lambda: load(tensors, storage_reader=_Reader(folder, shards), no_dist=not several()),
        )
    )


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise if a file is missing or damaged. Of several processes each checks some.

    Raises:
        CheckpointError: names the file.
    """
    rank, size = rank_and_size()
    for name in sorted(files)[rank::size]:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name} is missing")
        if sha256(folder / name) != files[name]:
            raise CheckpointError(f"{folder / name} is truncated or damaged: its checksum is wrong")


def is_map(value: object, files: Collection[str]) -> bool:
    """Return whether a value is a map of shards in these files, of which every tensor has all."""
    return isinstance(value, dict) and all(_is_entry(one, files) for one in value.values())


def _is_entry(value: object, files: Collection[str]) -> bool:
    match value:
        case (torch.dtype(), list(shape), list(chunks)):
            if not _are_sizes(shape) or not all(_is_chunk(one, files) for one in chunks):
                return False
            covered = sum([prod(sizes) for _, sizes, *_ in cast("list[Chunk]", chunks)])
            return covered >= prod(cast("list[int]", shape))
    return False


def _is_chunk(value: object, files: Collection[str]) -> bool:
    match value:
        case (offsets, sizes, str(file), int(), int()):
            return _are_sizes(offsets) and _are_sizes(sizes) and file in files
    return False


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Writer(FileSystemWriter):
    """A writer that raises the error of the disk, and remembers the metadata."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.metadata: Metadata | None = None

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        try:
            return super().write_data(plan, planner)
        except RuntimeError as error:  # torch.save's own, in place of the file's
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        super().finish(metadata, results)
        places = {one.index: one.storage_data for written in results for one in written}
        self.metadata = replace(metadata, storage_data=places)  # PyTorch 2.11 sets it on a copy

    def storage_meta(self) -> StorageMeta:
        return StorageMeta()  # without the path, which changes when the folder is moved


class _Reader(FileSystemReader):
    """A reader that takes the metadata from a map of shards."""

    def __init__(self, folder: Path, shards: ShardMap) -> None:
        super().__init__(folder)
        self.shards = shards

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        tensors: dict[str, Any] = {}
        storage = {}
        for name, (dtype, size, chunks) in self.shards.items():
            tensors[name] = TensorStorageMetadata(
                TensorProperties(dtype),
                torch.Size(size),
                [ChunkStorageMetadata(torch.Size(at), torch.Size(of)) for at, of, *_ in chunks],
            )
            for at, _, file, start, length in chunks:
                storage[MetadataIndex(name, at)] = _StorageInfo(file, start, length)
        return Metadata(tensors, storage_data=storage, storage_meta=StorageMeta())


def _map_of(metadata: Metadata | None) -> ShardMap:
    """The metadata of tensors as plain data; that of the processes that have none is empty."""
    shards: ShardMap = {}
    for name, tensor in (metadata.state_dict_metadata if metadata else {}).items():
        if metadata is None or not isinstance(tensor, TensorStorageMetadata):
            raise CheckpointError(f"{name!r} was not written as a tensor")
        places = [metadata.storage_data[MetadataIndex(name, one.offsets)] for one in tensor.chunks]
        shards[name] = (
            tensor.properties.dtype,
            list(tensor.size),
            [
                (list(one.offsets), list(one.sizes), at.relative_path, at.offset, at.length)
                for one, at in zip(tensor.chunks, places, strict=True)
            ],
        )
    return shards


def _check_visible(folder: Path, files: Mapping[str, str]) -> None:
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder / missing[0]}, which another process has written, is not to be seen: all "
            "processes write into one folder, on a file system that they share"
        )


def _with_our_errors(folder: Path, action: Callable[[], T]) -> T:
    """The action's result. Errors of torch.distributed.checkpoint become those of a process.

    Its own class of error does not derive from Exception, and consists of tracebacks.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="torch.distributed is disabled, unavailable or uninitialized"
            )
            return action()
    except CheckpointException as error:
        rank, first = next(iter(error.failures.items()))
        cause = first[0]
        if isinstance(cause, OSError) and (not several() or rank == rank_and_size()[0]):
            raise cause from None
        process = f"process {rank}: " if several() else ""
        raise CheckpointError(f"{folder}: {process}{type(cause).__name__}: {cause}") from None
    except OSError:
        raise
    except Exception as error:
        raise CheckpointError(f"{folder}: {type(error).__name__}: {error}") from error
