"""The printed tree of modules: one line for each, in the order in which data flows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from modula.html_table import html_table

WIDTH = 120
"""Columns that a printed tree takes at most."""

_HEADER = ("module, data flowing down", "spaces", "mass", "sensitivity", "weight")
_GAP = "  "
_WIDEST_SHAPE = 24
_NARROWEST_NAME = 20


class Line(NamedTuple):
    """One line of the tree, and those below it.

    Args:
        path: of the module in the one above.
        name: the module as an expression, or its class.
        spaces: its signature.
        masses: m of each weight inside.
        sensitivity: s.
        shape: of its weight, or None.
        children: the modules inside.
    """

    path: str
    name: str
    spaces: str
    masses: tuple[float, ...]
    sensitivity: float
    shape: tuple[int, ...] | None
    children: tuple[Line, ...] = ()


class Size(NamedTuple):
    """The number of entries of all parameters of a network.

    Args:
        parameters: each counted once.
        fixed: those of them that require no gradient.
    """

    parameters: int
    fixed: int


class _Row(NamedTuple):
    """The cells of a line, of which the branch of the tree and the name share a column."""

    branch: str
    name: str
    spaces: str
    mass: str
    sensitivity: str
    shape: str

    def cells(self) -> tuple[str, ...]:
        return self.branch + self.name, *self[2:]


def render(root: Line, size: Size) -> str:
    """Return the tree below `root` in columns, at most `WIDTH` characters wide.

    They are: name, spaces, mass as a fraction of that of the root, sensitivity, shape of the
    weight. Equal neighbours are shown once, with their number. Text that is too long for its
    column is cut at "…". The last line gives the number of parameters, if there are any.
    """
    rows = [_Row("", *_HEADER), *_tree(root)]
    widths = _widths(rows)
    lines = [
        _GAP.join(
            cell.ljust(width) for cell, width in zip(_fitted(row, widths), widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *_counted(size)])


def render_html(root: Line, size: Size) -> str:
    """Return the table that `render` prints in HTML, with nothing cut."""
    return html_table(_HEADER, [row.cells() for row in _tree(root)], after=_counted(size))


def _tree(root: Line) -> Iterator[_Row]:
    return _rows([root], "", "", root.masses)


def _rows(alike: list[Line], first: str, rest: str, whole: Sequence[float]) -> Iterator[_Row]:
    line = alike[0]
    label = f"({line.path}) " if line.path else ""
    if len(alike) > 1:
        label = f"({line.path} … {alike[-1].path}) {len(alike)} × "
    yield _Row(
        first,
        label + line.name,
        line.spaces,
        _fraction(line.masses, whole),
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
            group, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), whole
        )


def _fraction(masses: Sequence[float], whole: Sequence[float]) -> str:
    """The share of some masses in the whole, also where the sum is beyond the largest float."""
    largest = max(whole, default=0.0)
    if not any(masses):
        return "·"
    total = math.fsum(mass / largest for mass in whole)
    return f"{math.fsum(mass / largest for mass in masses) / total:.1%}"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else _cut("×".join(map(str, shape)), _WIDEST_SHAPE)


def _counted(size: Size) -> list[str]:
    """The line with the number of parameters, if there are any."""
    if not size.parameters:
        return []
    fixed = f", {size.fixed:,} of them not trained" if size.fixed else ""
    return [f"{size.parameters:,} parameters{fixed}"]


def _widths(rows: Sequence[_Row]) -> list[int]:
    """The widths of the columns, of which the first two share what the others leave of the line."""
    columns = zip(*[row.cells() for row in rows], strict=True)
    name, spaces, *others = [max(map(len, column)) for column in columns]
    room = WIDTH - sum(others) - len(_GAP) * (len(others) + 1)
    spaces = min(spaces, max(room - name, 2 * room // 5))
    return [min(name, room - spaces), spaces, *others]


def _fitted(row: _Row, widths: Sequence[int]) -> tuple[str, ...]:
    """The cells, cut to the widths of their columns."""
    name, spaces = widths[:2]
    branch = _cut_branch(row.branch, name - min(len(row.name), _NARROWEST_NAME))
    return branch + _cut(row.name, name - len(branch)), _cut_spaces(row.spaces, spaces), *row[3:]


def _cut_branch(branch: str, most: int) -> str:
    """A branch without its first levels, if it is too long."""
    return branch if len(branch) <= most else "…" + branch[len(branch) - most + 1 :]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _cut_spaces(text: str, most: int) -> str:
    """A signature of which both ends are cut where they take more than half."""
    domain, arrow, codomain = text.partition(" → ")
    room = most - len(arrow)
    left = min(len(domain), max(room - len(codomain), room // 2))
    return _cut(domain, left) + arrow + _cut(codomain, room - left) if arrow else _cut(text, most)
