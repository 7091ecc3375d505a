"""The logs that `watch` writes its numbers to: a table, TensorBoard, or a function."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias


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
    """
    if isinstance(log, (str, Path)):
        return CSV(Path(log), start) if str(log).endswith(".csv") else Folder(Path(log), start)
    return Call(log) if callable(log) else Writer(log)


class CSV:
    """A table of step, name and value, one number a line, written to disk after every record."""

    def __init__(self, path: Path, start: int) -> None:
        kept = _lines_before(path, start)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", newline="")
        self._lines = csv.writer(self._file)
        self._lines.writerows([["step", "name", "value"], *kept])
        self._file.flush()

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of one step."""
        self._lines.writerows([[step, name, repr(value)] for name, value in numbers.items()])
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _lines_before(path: Path, start: int) -> list[list[str]]:
    """The lines of an earlier run for steps below `start`."""
    if not start or not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            line for line in list(csv.reader(file))[1:] if len(line) == 3 and int(line[0]) < start
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
