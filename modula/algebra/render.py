"""The printed tree of modules: one line for each, in the order in which data flows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple


class Line(NamedTuple):
    """One line of the tree, and those below it.

    Args:
        path: of the module in the one above.
        name: the module as an expression, or its class.
        spaces: its signature.
        mass: m.
        sensitivity: s.
        shape: of its weight, or None.
        children: the modules inside.
    """

    path: str
    name: str
    spaces: str
    mass: float
    sensitivity: float
    shape: tuple[int, ...] | None
    children: tuple[Line, ...] = ()


def render(root: Line) -> str:
    """Return the tree below `root` in columns.

    They are: name, spaces, mass as a fraction of that of the root, sensitivity, shape of the
    weight. Equal neighbours are shown once, with their number.
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
    label = f"({line.path}) " if line.path else ""
    if len(alike) > 1:
        label = f"({line.path} … {alike[-1].path}) {len(alike)} × "
    yield (
        first + label + line.name,
        line.spaces,
        _fraction(line.mass, total),
        f"{line.sensitivity:.4g}",
        _shape(line.shape),
    )
    groups = [
        list(group)
        for _, group in groupby(line.children, key=lambda child: child._replace(path=""))
    ]
    for i, group in enumerate(groups):
        last = i == len(groups) - 1
        yield from _rows(
            group, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), total
        )


def _fraction(mass: float, total: float) -> str:
    return f"{mass / total:.1%}" if mass else "·"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else "×".join(map(str, shape))
