"""`LiftReport`: how each weight of a lifted network is used, and the numbers that follow."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from modula.checks import listed
from modula.html_table import html_table
from modula.lift.residuals import ResidualSum

WIDTH = 120
"""Columns that a printed report takes at most."""

_HEADER = ("weight", "shape", "use", "norm", "mass", "S", "declared", "coefficient")
_WIDEST = (34, 14, 16, 28, 6, 9, 9, 11)  # of a cell; the first takes the rest of the line


@dataclass(frozen=True)
class Row:
    """One weight of a lifted network."""

    name: str
    shape: tuple[int, ...]
    uses: tuple[str, ...]
    """Each operation that reads the weight, with the path of its module: "linear in blocks.0"; none
    if the recorder does not see it."""

    group: str
    """By which masses are given, such as "attention"; two for a table that is also the head."""

    norm: str
    """In a few words; empty for a weight that the run did not use."""

    norm_claim: str
    """How the norm is known: "proved" if it bounds the weight's effect on the operations that use
    it, "given" by the user, "by default" if no rule is known, or "unused"."""

    mass_fraction: float
    sensitivity: float
    """S: by how much a change of norm 1 moves the output, in the root mean square over entries."""

    sensitivity_claim: str
    """How S is known: "measured at drawn weights" or "at the weights", "declared", "given", …"""

    declared_sensitivity: float
    """S by the bounds that operations declare, multiplied along all paths; an estimate where an
    operation has no proved bound, and far too large in deep residual networks."""

    coefficient: float
    """The norm of the weight's part of an update of norm 1: mass_fraction/S."""

    warning: str = ""

    @property
    def path(self) -> str:
        """The name of the weight, by which reports are looked up."""
        return self.name


@dataclass(frozen=True)
class LiftReport:
    """The weights of a lifted network, one row each; `report["blocks.0.weight"]` is one of them."""

    model: str
    """The class of the torch module."""

    rows: tuple[Row, ...]

    residuals: tuple[ResidualSum, ...] = ()
    """The residual sums of the run, with the number that each stream has in a row."""

    def __getitem__(self, name: str) -> Row:
        """Return the row of a weight.

        Raises:
            KeyError: there is no weight of that name.
        """
        found = next((row for row in self.rows if row.name == name), None)
        if found is None:
            raise KeyError(f"no weight {name!r} in the report of {self.model}")
        return found

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def streams(self) -> tuple[str, ...]:
        """One line for each number of residual sums in a row, with the factor of the branches."""
        found = dict.fromkeys(
            [
                f"{one.in_a_row} residual sums in a row, x + {one.factor:.3g}·f(x); with "
                f"{one.proposed:.3g}·f(x) one rate serves all depths"
                for one in self.residuals
                if abs(one.factor) > one.proposed
            ]
        )
        return tuple(found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each warning, with the weights that it is about."""
        by_text: dict[str, list[str]] = {}
        for row in self.rows:
            if row.warning:
                by_text.setdefault(row.warning, []).append(row.name)
        return tuple([f"{listed(names)}: {text}" for text, names in by_text.items()])

    def __str__(self) -> str:
        cells = [_HEADER, *[_cells(row) for row in self.rows]]
        widths = [max(len(line[k]) for line in cells) for k in range(len(_HEADER))]
        widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
        lines = ["  ".join(map(_fit, line, widths, range(len(widths)))).rstrip() for line in cells]
        notes = [*self.streams, *[f"! {warning}" for warning in self.warnings]]
        after = [line for note in notes for line in _wrapped(note)]
        return "\n".join([*_wrapped(self._summary()), *lines, *after])

    def _repr_html_(self) -> str:
        return html_table(
            _HEADER,
            map(_cells, self.rows),
            before=self._summary(),
            after=(*self.streams, *self.warnings),
        )

    def _summary(self) -> str:
        claims = list(dict.fromkeys([row.sensitivity_claim for row in self.rows]))
        parameters = sum(math.prod(row.shape) for row in self.rows)
        proved = sum(row.norm_claim == "proved" for row in self.rows)
        return (
            f"{self.model}: {len(self)} weights of {parameters:,} parameters, the norms of "
            f"{proved} proved, S "
            f"{', '.join(claims) or 'not measured'}; no bound on the whole"
        )


def _cells(row: Row) -> tuple[str, ...]:
    operations = list(dict.fromkeys([use.partition(" in ")[0] for use in row.uses]))
    use = ", ".join(operations) + (f" ×{len(row.uses)}" if len(row.uses) > len(operations) else "")
    mark = {"by default": " ?", "given": " (given)"}.get(row.norm_claim, "")
    cells = (
        row.name,
        "×".join(map(str, row.shape)) or "1",
        use or ("not seen" if row.norm_claim == "given" else "unused"),
        (row.norm or "—") + mark,
        f"{100 * row.mass_fraction:.1f}%",
        f"{row.sensitivity:.3g}",
        f"{row.declared_sensitivity:.3g}",
        f"{row.coefficient:.3g}",
    )
    return cells[:1] + tuple(
        [_short(cell, most) for cell, most in zip(cells, _WIDEST, strict=True)][1:]
    )


def _fit(cell: str, width: int, column: int) -> str:
    if len(cell) > width:
        return "…" + cell[len(cell) - width + 1 :]
    return cell.rjust(width) if column > 3 else cell.ljust(width)


def _short(cell: str, most: int) -> str:
    return cell if len(cell) <= most else cell[: most - 1] + "…"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
