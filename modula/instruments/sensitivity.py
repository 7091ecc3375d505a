"""`sensitivity`: how much every module stretches a change of its input, declared and measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from modula.instruments.derivative import (
    differentiable,
    holds_ids,
    in_input,
    is_known,
    largest,
    own_generator,
    random_direction,
    starts,
    targets,
)
from modula.instruments.observing import observations
from modula.instruments.report import (
    Report,
    canvas,
    caption,
    name_rows,
    number,
    prominent,
    short,
    table,
    where,
)
from modula.network import Network, Observation
from modula.spaces import arrow
from modula.values import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Stretch:
    """How much one module stretches a change of its input, at the activations that flowed through
    it.
    """

    path: str
    module: str
    spaces: str

    declared: float
    """The module's sensitivity s, which claims ‖∂f·Δx‖ ≤ s·‖Δx‖."""

    random: float | None
    """The largest ‖∂f·Δx‖ / ‖Δx‖ among random directions; None where nothing was measured."""

    worst: float | None
    """The largest ‖∂f·Δx‖ / ‖Δx‖ that the search found: a lower bound of the largest there is."""

    skipped: str = ""
    """Why nothing was measured."""

    @property
    def tightness(self) -> float | None:
        """worst / declared: 1 where the bound is attained, above 1 where it fails."""
        return None if self.worst is None else self.worst / self.declared


@dataclass(frozen=True)
class SensitivityReport(Report[Stretch]):
    """What `sensitivity` measured, one row a module."""

    def __str__(self) -> str:
        rows, left_out = prominent(self.rows, [row.tightness or 0.0 for row in self.rows])
        cells = [
            [
                where(row.path),
                short(row.module),
                number(row.declared),
                number(row.random),
                number(row.worst),
                number(row.tightness),
            ]
            for row in rows
        ]
        reasons = sorted({f"{row.skipped} ({where(row.path)})" for row in rows if row.skipped})
        header = ["path", "module", "declared", "random", "worst", "worst/declared"]
        shown = table(header, cells, left_out=left_out, reason="none nearer to its bound")
        return "\n".join([shown, *[f"not measured: {reason}" for reason in reasons]])

    def scalars(self) -> dict[str, float]:
        return {
            f"sensitivity/{where(row.path)}": row.worst
            for row in self.rows
            if row.worst is not None
        }

    def plot(self, axes: Axes | None = None) -> Axes:
        measured = [row for row in self.rows if row.worst is not None]
        rows, _ = prominent(measured, [row.tightness or 0.0 for row in measured])
        axes = canvas(axes, height=1.2 + 0.22 * len(rows))
        places = range(len(rows))
        axes.scatter(
            [row.declared for row in rows],
            places,
            marker="|",
            s=120,
            color="black",
            label="declared",
        )
        axes.scatter(
            [row.random or 0.0 for row in rows],
            places,
            s=18,
            color="tab:blue",
            label="random directions",
        )
        axes.scatter(
            [row.worst or 0.0 for row in rows],
            places,
            s=18,
            color="tab:orange",
            label="worst found",
        )
        name_rows(axes, [f"{where(row.path)}  {row.module}" for row in rows])
        axes.set(xscale="log", xlabel="‖∂f·Δx‖ / ‖Δx‖")
        caption(axes, "Sensitivity")
        return axes


def sensitivity(
    module: Network,
    x: Value,
    *,
    steps: int = 30,
    directions: int = 4,
    generator: torch.Generator | None = None,
) -> SensitivityReport:
    """Measure how much the module, and each module inside, stretches a change of its input, beside
    the sensitivity that it declares.

    Everything is measured in the modules' own spaces, where they stand, at the activations that `x`
    leads to and at the present weights. What a search finds is a lower bound of the true
    sensitivity there: it proves a declaration too small, never large enough.

    Args:
        module: what to measure.
        x: its input. Every row of a batch is searched; a few are enough to see the numbers, and
            cost less.
        steps: rounds of the search; more of them resolve singular values that lie close together.
        directions: how many random directions are tried.
        generator: where random numbers come from; None starts one of its own, so that the run's
            random numbers are not touched.

    Returns:
        One row a module, with `declared`, `random`, `worst` and `tightness` = worst/declared.

    Raises:
        TypeError: `module` is no module of modula's.
        ValueError: fewer than one step or direction.

    Example:
        >>> import torch
        >>> from modula import Linear, ReLU
        >>> from modula.instruments import sensitivity
        >>> model = Linear(2, 8) @ ReLU() @ Linear(8, 4)
        >>> report = sensitivity(model, torch.randn(16, 4))
        >>> report["0"].declared, round(report["0"].worst, 3)
        (1.0, 1.0)

    Source: Large et al. 2024 (arXiv:2405.14813), definition 2; the search is Boyd's power method
    for two norms (1974).
    """
    if steps < 1 or directions < 1:
        raise ValueError(
            f"sensitivity takes at least 1 step and 1 direction, got steps={steps}, "
            f"directions={directions}"
        )
    generator = own_generator() if generator is None else generator
    with differentiable():
        return SensitivityReport(
            tuple([stretch(part, steps, directions, generator) for part in observations(module, x)])
        )


def stretch(part: Observation, steps: int, directions: int, generator: torch.Generator) -> Stretch:
    """Measure one part at what flowed through it."""
    row = Stretch(
        part.path,
        part.label,
        arrow(part.signature),
        part.part.sensitivity,
        None,
        None,
        skipped=_obstacle(part),
    )
    if row.skipped:
        return row
    derivative = in_input(part)
    random = largest(
        [
            derivative.gain(random_direction(part.domain, part.x, generator))
            for _ in range(directions)
        ]
    )
    found = derivative.worst(
        starts(part.domain, part.x, generator), targets(part.codomain, part.y, generator), steps
    )
    return replace(row, random=random, worst=largest([random, found]))


def _obstacle(part: Observation) -> str:
    """Why the derivative in the input cannot be measured; empty if it can."""
    if holds_ids(part.x):
        return "token ids are discrete, so that the input has no direction"
    if not all(map(is_known, part.signature)):
        return "no neighbour says which space it maps"
    return ""
