"""Reports: rows that can be looked up, printed and plotted. Every instrument returns one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from modula.html_table import html_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 40
"""Rows that a table or a plot shows at most."""


class Row(Protocol):
    """One line of a report, about one module or one parameter."""

    @property
    def path(self) -> str:
        """The path of the module in the model, or the parameter's name; empty for the model."""
        ...


class Skippable(Row, Protocol):
    """A row whose numbers may not have been measured."""

    @property
    def skipped(self) -> str:
        """Why something was not measured; empty if everything was."""
        ...


R = TypeVar("R")
R_co = TypeVar("R_co", bound=Row, covariant=True)


@dataclass(frozen=True)
class Report(ABC, Generic[R_co]):
    """Rows in the order in which data meets the modules.

    Look one up by its path, as in `report["0.1"]`; `report[""]` is the model's. Where several
    operations have one path, the later ones are `report["0.1#2"]` and so on.
    """

    rows: tuple[R_co, ...]

    def __getitem__(self, path: str) -> R_co:
        """Return the row of the module, or parameter, at `path`.

        Raises:
            KeyError: there is no such row.
        """
        for name, row in self.named():
            if path in (row.path, name):
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

    def named(self) -> list[tuple[str, R_co]]:
        """Return each row with a name of its own: its path, or "model", and #2, #3, … if repeated.

        Returns:
            Pairs of name and row, in the order of the rows.
        """
        return name_each(self.rows)

    def _repr_html_(self) -> str:
        return html_text(str(self))

    @abstractmethod
    def scalars(self) -> dict[str, float]:
        """Return all numbers by name, as `watch` writes them."""

    @abstractmethod
    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the report.

        Args:
            axes: to draw on; None makes a new figure.

        Returns:
            The axes that were drawn on; `axes.figure` has `savefig`.

        Raises:
            ImportError: matplotlib is not installed.
        """


RowT = TypeVar("RowT", bound=Row)


def name_each(rows: Sequence[RowT]) -> list[tuple[str, RowT]]:
    """Return each row with a name of its own: its path, or "model", and #2, #3, … if repeated."""
    seen: Counter[str] = Counter()
    named = []
    for row in rows:
        name = where(row.path)
        seen[name] += 1
        named.append((name if seen[name] == 1 else f"{name}#{seen[name]}", row))
    return named


def prominent(rows: Sequence[R], weights: Sequence[float]) -> tuple[list[R], int]:
    """Return the rows that a table shows: those of the largest weights, in their order.

    Args:
        rows: of the report.
        weights: one number for each row.

    Returns:
        The rows, and how many are left out.
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
    """Return columns of text.

    Args:
        header: names of the columns.
        rows: cells, line by line.
        left: the columns that are aligned left; the others, which hold numbers, are aligned right.
        left_out: how many rows are not shown.
        reason: why they are not.
    """
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


def not_measured(rows: Sequence[tuple[str, Skippable]]) -> list[str]:
    """Return the lines under a table that say why numbers are missing, one a reason."""
    names: dict[str, list[str]] = {}
    for name, row in rows:
        if row.skipped:
            names.setdefault(row.skipped, []).append(name)
    return [
        f"not measured: {reason} ({', '.join(those)})" for reason, those in sorted(names.items())
    ]


def short(text: str, width: int = 36) -> str:
    """Return the text, cut to the width of a column."""
    return text if len(text) <= width else text[: width - 1] + "…"


def number(value: float | None) -> str:
    """Return three digits; a dot for None."""
    return "·" if value is None else f"{value:.3g}"


def ratio(numerator: float, denominator: float) -> float | None:
    """Return the quotient; None if the denominator is 0."""
    return numerator / denominator if denominator else None


def where(path: str) -> str:
    """Return a path as the first column shows it."""
    return path or "model"


def canvas(axes: Axes | None, height: float = 4.0, width: float = 7.0) -> Axes:
    """Return the axes to draw on, by default those of a new figure.

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


def scatter_rows(
    axes: Axes, values: Sequence[float | None], label: str, color: str, *, bound: bool = False
) -> None:
    """Draw one mark in each row of a horizontal plot; none for None.

    Args:
        axes: to draw on.
        values: one for each row, from the top.
        label, color: of the marks.
        bound: whether they are bounds, drawn as strokes, and not measurements, drawn as dots.
    """
    points = [(value, i) for i, value in enumerate(values) if value is not None]
    axes.scatter(
        [value for value, _ in points],
        [i for _, i in points],
        marker="|" if bound else "o",
        s=120 if bound else 18,
        color=color,
        label=label,
    )


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Label the rows of a horizontal plot, the first on top."""
    axes.set_yticks(range(len(names)), [short(name, 44) for name in names], fontsize=8)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.grid(axis="y", alpha=0.25)


def shades(count: int) -> list[tuple[float, float, float, float]]:
    """Return colours from dark to light, for more lines than a legend can name."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.9 * i / max(1, count - 1)) for i in range(count)]


def caption(axes: Axes, title: str, *, legend: bool = True) -> None:
    """Draw the title and under it, above the axes, the legend."""
    axes.set_title(title, pad=26 if legend else 6)
    if legend:
        axes.legend(
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=4,
            columnspacing=0.8,
            handletextpad=0.3,
            fontsize=8,
            frameon=False,
        )
