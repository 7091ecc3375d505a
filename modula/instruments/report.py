"""What every instrument gives back: rows that can be looked up, printed and plotted."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 40
"""Rows that a table or a plot shows at most."""


class Row(Protocol):
    """One line of a report, about one module or one parameter."""

    @property
    def path(self) -> str:
        """Where the module stands in the model, or the parameter's name; empty for the model
        itself.
        """
        ...


R = TypeVar("R")
R_co = TypeVar("R_co", bound=Row, covariant=True)


@dataclass(frozen=True)
class Report(ABC, Generic[R_co]):
    """Rows in the order in which data meets the modules. Look one up by its path, as in
    `report["0.1"]`; `report[""]` is the model's.
    """

    rows: tuple[R_co, ...]

    def __getitem__(self, path: str) -> R_co:
        """The row of the module, or parameter, at `path`.

        Raises:
            KeyError: there is no such row.
        """
        for row in self.rows:
            if row.path == path:
                return row
        known = ", ".join([repr(row.path) for row in self.rows[:6]]) + (
            " …" if len(self.rows) > 6 else ""
        )
        raise KeyError(
            f"no row {path!r} in this {type(self).__name__}; there are {known or 'none'}"
        )

    def __iter__(self) -> Iterator[R_co]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @abstractmethod
    def scalars(self) -> dict[str, float]:
        """All numbers by name, as `watch` writes them."""

    @abstractmethod
    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the report.

        Args:
            axes: where to draw; None makes a new figure.

        Returns:
            The axes that were drawn on; `axes.figure` has `savefig`.

        Raises:
            ImportError: matplotlib is not installed.
        """


def prominent(rows: Sequence[R], weights: Sequence[float]) -> tuple[list[R], int]:
    """The rows of the largest weights, as many as a table shows, in their order; and how many are
    left out.
    """
    finite = [-math.inf if math.isnan(weight) else weight for weight in weights]
    chosen = sorted(sorted(range(len(rows)), key=lambda i: -finite[i])[:SHOWN])
    return [rows[i] for i in chosen], len(rows) - len(chosen)


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: Collection[int] = (0, 1),
    left_out: int = 0,
    reason: str = "",
) -> str:
    """Columns of text: those in `left` aligned left, the others, which hold numbers, right."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    lines = []
    for line in (header, *rows):
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(
        [*lines, f"… {left_out} more, {reason}; all are in .rows"] if left_out else lines
    )


def short(text: str, width: int = 36) -> str:
    """The text, cut where it would make a column too wide."""
    return text if len(text) <= width else text[: width - 1] + "…"


def number(value: float | None) -> str:
    """Three digits; a dot for what does not apply."""
    return "·" if value is None else f"{value:.3g}"


def where(path: str) -> str:
    """A path as the first column shows it."""
    return path or "model"


def canvas(axes: Axes | None, height: float = 4.0, width: float = 7.0) -> Axes:
    """The axes to draw on, by default those of a new figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    if axes is not None:
        return axes
    try:
        from matplotlib import pyplot
    except ImportError as missing:
        raise ImportError(
            "plots are drawn by matplotlib, which is not installed: pip install "
            "'modula-torch[plots]'"
        ) from missing
    _, made = pyplot.subplots(figsize=(width, height), layout="constrained")
    return made


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Put one row of a horizontal plot under another, the first on top."""
    axes.set_yticks(range(len(names)), [short(name, 44) for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", alpha=0.25)


def shades(count: int) -> list[tuple[float, float, float, float]]:
    """Colours from dark to light, for more lines than a legend can name."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 * i / max(1, count - 1)) for i in range(count)]


def caption(axes: Axes, title: str, *, legend: bool = True) -> None:
    """The title, and under it, above the axes, what the marks mean."""
    axes.set_title(title, pad=26 if legend else 6)
    if legend:
        axes.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8, frameon=False
        )
