"""How a module tree is printed: one line a line, in the order in which data flows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple


class Line(NamedTuple):
    """What one line of the tree shows. `place` is where the line stands in its parent."""

    place: str
    name: str
    spaces: str
    mass: float
    sensitivity: float
    shape: tuple[int, ...] | None
    children: tuple[Line, ...] = ()


def render(root: Line) -> str:
    """The tree below `root` in columns: name, spaces, share of the mass, sensitivity, shape of the
    weight.

    Neighbours that are alike are shown once, with their number.
    """
    header = ("module, data flowing down", "spaces", "mass", "sensitivity", "weight")
    rows = [header, *_rows([root], "", "", root.mass)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _rows(
    alike: list[Line], first: str, rest: str, total: float
) -> Iterator[tuple[str, str, str, str, str]]:
    line = alike[0]
    label = f"({line.place}) " if line.place else ""
    if len(alike) > 1:
        label = f"({line.place} … {alike[-1].place}) {len(alike)} × "
    yield (
        first + label + line.name,
        line.spaces,
        _share(line.mass, total),
        f"{line.sensitivity:.4g}",
        _shape(line.shape),
    )
    groups = [
        list(group)
        for _, group in groupby(line.children, key=lambda child: child._replace(place=""))
    ]
    for i, group in enumerate(groups):
        last = i == len(groups) - 1
        yield from _rows(
            group, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), total
        )


def _share(mass: float, total: float) -> str:
    return f"{mass / total:.1%}" if mass else "·"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else "×".join(map(str, shape))
