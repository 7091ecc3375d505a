"""The logs that `watch` writes its numbers to: a table, TensorBoard, or a function."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Protocol, TypeAlias

from modula.atomic import write_whole


class ScalarWriter(Protocol):
    """An object with the method `add_scalar`, as `torch.utils.tensorboard.SummaryWriter` has it."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> None:
        """Write one number."""


Log: TypeAlias = "str | Path | ScalarWriter | Callable[[int, Mapping[str, float]], None]"
"""A path ending in ".csv", a folder of TensorBoard's, a writer, or a function of the step and the
numbers by name."""


class Sink(Protocol):
    """An open log."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of one step."""

    def close(self) -> None:
        """Close it."""


def open_log(log: Log, start: int) -> Sink:
    """Open a log.

    Args:
        log: as `watch` takes it.
        start: the first step that is about to be written. Later steps of an earlier run are
            dropped.

    Raises:
        ImportError: TensorBoard is asked for and not installed.
        ValueError: a run goes on, and the CSV is another file than a log.
    """
    if isinstance(log, (str, Path)):
        return CSV(Path(log), start) if str(log).endswith(".csv") else Folder(Path(log), start)
    return Call(log) if callable(log) else Writer(log)


_HEADER = ["step", "name", "value"]


class CSV:
    """A table of step, name and value, one number a line.

    A record is appended whole or not at all. A run that goes on replaces the file by one with the
    lines before its first step, in one step.

    Raises:
        ValueError: a run goes on, and the file is another one than a log.
        OSError: the disk is full, or the like. Nothing of the record is in the file then.
    """

    def __init__(self, path: Path, start: int) -> None:
        kept = _lines_before(path, start)
        write_whole(path, lambda file: file.write(_as_bytes([_HEADER, *kept])))
        self._file = path.open("ab", buffering=0)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of one step."""
        record = _as_bytes([[step, name, repr(value)] for name, value in numbers.items()])
        length = os.fstat(self._file.fileno()).st_size
        try:
            written = 0
            while written < len(record):
                written += self._file.write(record[written:]) or 0
        except BaseException:
            self._file.truncate(length)
            raise

    def close(self) -> None:
        """Close the file, once it is on the disk."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
        self._file.close()


def _as_bytes(lines: Iterable[Iterable[object]]) -> bytes:
    text = StringIO(newline="")
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


def _lines_before(path: Path, start: int) -> list[list[str]]:
    """The lines of an earlier run for steps below `start`.

    The last one is left out if it has no end, as after a loss of power.

    Raises:
        ValueError: it is another file.
    """
    if not start or not path.exists():
        return []
    whole, _, _ = path.read_bytes().decode(errors="replace").rpartition("\n")
    lines = list(csv.reader(StringIO(whole, newline="")))
    if lines and lines[0] != _HEADER:
        raise ValueError(
            f"{path} is not a log of `watch`, whose first line is {','.join(_HEADER)}, so that no "
            "run can go on with it: give another path"
        )
    return [
        line
        for line in lines[1:]
        if len(line) == len(_HEADER) and line[0].isdigit() and int(line[0]) < start
    ]


class Writer:
    """A log that writes to an object with `add_scalar`. Its owner closes that object."""

    def __init__(self, writer: ScalarWriter) -> None:
        self._writer = writer

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of one step."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Do nothing: the owner closes the writer."""


class Folder:
    """A folder of TensorBoard's."""

    def __init__(self, path: Path, start: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as missing:
            raise ImportError(
                f"log={str(path)!r} is a folder for TensorBoard, which is not installed: pip "
                "install 'modula-torch[tensorboard]', or give a path that ends in .csv"
            ) from missing
        self._writer = SummaryWriter(path, purge_step=start or None)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of one step."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the folder's file."""
        self._writer.close()


class Call:
    """A log that calls a function."""

    def __init__(self, function: Callable[[int, Mapping[str, float]], None]) -> None:
        self._function = function

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of one step."""
        self._function(step, numbers)

    def close(self) -> None:
        """Do nothing."""
