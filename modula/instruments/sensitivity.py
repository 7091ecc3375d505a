"""`sensitivity`: the gain of every module for changes of its input, declared and measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from modula.instruments.derivative import (
    differentiable,
    holds_ids,
    in_input,
    largest,
    on_real_vectors,
    own_generator,
    random_direction,
    worst_in_value,
)
from modula.instruments.observing import observations, unknown_space
from modula.instruments.report import (
    Report,
    canvas,
    caption,
    name_rows,
    not_measured,
    number,
    prominent,
    scatter_rows,
    short,
    table,
)
from modula.network import Network, Observation
from modula.progress import progress
from modula.spaces import arrow
from modula.values import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Stretch:
    """The gains of one module for changes of its input, at the activations of one run."""

    path: str
    module: str
    spaces: str

    declared: float
    """The module's sensitivity s, which claims ‖∂f·Δx‖ ≤ s·‖Δx‖."""

    random: float | None
    """The largest ‖∂f·Δx‖ / ‖Δx‖ among random directions; None if nothing was measured."""

    worst: float | None
    """The largest ‖∂f·Δx‖ / ‖Δx‖ that the search found: a lower bound of the true maximum."""

    skipped: str = ""
    """Why nothing was measured."""

    @property
    def tightness(self) -> float | None:
        """worst / declared: 1 where the bound is attained, above 1 where it fails."""
        return None if self.worst is None else self.worst / self.declared


@dataclass(frozen=True)
class SensitivityReport(Report[Stretch]):
    """Gains of a network and all modules inside, one row a module."""

    def __str__(self) -> str:
        shown, left_out = prominent(self.named(), [row.tightness or 0.0 for row in self.rows])
        cells = [
            [
                name,
                short(row.module),
                number(row.declared),
                number(row.random),
                number(row.worst),
                number(row.tightness),
            ]
            for name, row in shown
        ]
        header = ["path", "module", "declared", "random", "worst", "worst/declared"]
        text = table(header, cells, left_out=left_out, reason="none nearer to its bound")
        return "\n".join([text, *not_measured(shown)])

    def scalars(self) -> dict[str, float]:
        return {
            f"sensitivity/{name}": row.worst for name, row in self.named() if row.worst is not None
        }

    def plot(self, axes: Axes | None = None) -> Axes:
        measured = [(name, row) for name, row in self.named() if row.worst is not None]
        shown, _ = prominent(measured, [row.tightness or 0.0 for _, row in measured])
        rows = [row for _, row in shown]
        axes = canvas(axes, height=1.2 + 0.22 * len(rows))
        scatter_rows(axes, [row.declared for row in rows], "declared", "black", bound=True)
        # a gain of 0 cannot be drawn on a logarithmic axis
        scatter_rows(axes, [row.random or None for row in rows], "random directions", "tab:blue")
        scatter_rows(axes, [row.worst or None for row in rows], "worst found", "tab:orange")
        name_rows(axes, [f"{name}  {row.module}" for name, row in shown])
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
    """Measure the gain ‖∂f·Δx‖ / ‖Δx‖ of a network and of each module inside.

    It is listed beside the declared sensitivity, which should bound it. Gains are measured in the
    spaces that the modules have in this network, at the present weights and the activations of
    `x`. The search finds a lower bound of the largest gain there: it can prove that a declaration
    is too small, never that it is large enough.

    Args:
        module: the network to measure.
        x: its input. Every row of a batch is searched; a few are enough to see the numbers, and
            cost less.
        steps: rounds of the search; more of them resolve singular values that lie close together.
        directions: how many random directions are tried.
        generator: of the random numbers; None starts one of its own, so that the run's random
            numbers are not touched.

    Returns:
        One row a module, with `declared`, `random`, `worst` and `tightness` = worst/declared.

    Raises:
        TypeError: `module` is not a network of modula's.
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
        parts = progress(list(observations(module, x)), "sensitivity", "module")
        return SensitivityReport(
            tuple([stretch(part, steps, directions, generator) for part in parts])
        )


def stretch(part: Observation, steps: int, directions: int, generator: torch.Generator) -> Stretch:
    """Measure the gains of one part of a network, at the activations of one run.

    Args:
        part: as it was observed.
        steps: rounds of the search.
        directions: how many random directions are tried.
        generator: of the random numbers.
    """
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
    part = on_real_vectors(part)
    derivative = in_input(part)
    random = largest(
        [
            derivative.gain(random_direction(part.domain, part.x, generator))
            for _ in range(directions)
        ]
    )
    found = worst_in_value(derivative, part.domain, part.x, part.y, steps, generator)
    return replace(row, random=random, worst=largest([random, found]))


def _obstacle(part: Observation) -> str:
    """Why the derivative in the input cannot be measured; empty if it can."""
    part = on_real_vectors(part)
    if holds_ids(part.x):
        return "token ids are discrete, so that the input has no direction"
    if holds_ids(part.y):
        return "ids and masks are discrete, so that the output has no change to measure"
    return unknown_space(*part.signature)
