"""`well_normed`: the two inequalities that the theory rests on, measured in every atom, bond and
compound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from modula.checks import Claim
from modula.graph import total_radius
from modula.instruments.derivative import differentiable, draw, in_weights, own_generator, targets
from modula.instruments.observing import observations
from modula.instruments.radii import Radii
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
from modula.instruments.sensitivity import stretch
from modula.network import Network, Observation, is_inside
from modula.spaces import measure
from modula.values import Value, leaves
from modula.vector import Gradient

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUNDING = 1e-4
"""By how much a ratio measured in float32 or finer may exceed 1."""

STEPS_OF_ROUNDING = 8
"""The same for coarser dtypes, in units of their precision."""

TINY = 1e-300

WEAKEST_FIRST: tuple[Claim, ...] = ("estimate", "conditional", "proved")


@dataclass(frozen=True)
class Bounds:
    """The two inequalities in one module."""

    path: str
    module: str

    claim: Claim
    """How sure the module says they are; for a compound, the least sure of what is inside."""

    weights: float | None
    """The largest ‖∂f·Δw‖ / ‖Δw‖ that was found, at most `bound`; None without mass."""

    bound: float
    """Σ p_i·R_i over the weights inside, from `modula.instruments.radii`: 1 if all radii are 1, in
    which case the module is well-normed."""

    input: float | None
    """The largest ‖∂f·Δx‖ / (s·‖Δx‖) that was found, at most 1 if well-normed; None where the input
    has no direction."""

    outside: str
    """Why no proof covers these weights and inputs; empty if one does."""

    rounding: float
    """By how much arithmetic in the dtype of the weights and inputs may exceed a bound."""

    @property
    def worst(self) -> float:
        """The larger of the two ratios, each over its bound."""
        weights = None if self.weights is None else self.weights / max(self.bound, TINY)
        return max([ratio for ratio in (weights, self.input) if ratio is not None], default=0.0)

    @property
    def verdict(self) -> str:
        """holds, exceeded where nothing is proved, or VIOLATED where something is."""
        if self.worst <= 1 + self.rounding:
            return "holds"
        return f"exceeded: {self.outside}" if self.outside else "VIOLATED"


@dataclass(frozen=True)
class WellNormedReport(Report[Bounds]):
    """What `well_normed` measured, one row a module."""

    @property
    def violated(self) -> tuple[Bounds, ...]:
        """The modules in which a bound fails although it is proved: a wrong geometry, or a wrong
        sensitivity.
        """
        return tuple([row for row in self.rows if row.verdict == "VIOLATED"])

    @property
    def exceeded(self) -> tuple[Bounds, ...]:
        """The modules in which a bound fails where none is proved, the worst first."""
        rows = [row for row in self.rows if row.verdict.startswith("exceeded")]
        return tuple(sorted(rows, key=lambda row: -row.worst))

    @property
    def holds(self) -> bool:
        """Whether no proved bound fails."""
        return not self.violated

    def __str__(self) -> str:
        rows, left_out = prominent(self.rows, [row.worst for row in self.rows])
        header = [
            "path",
            "module",
            "claim",
            "‖∂f·Δw‖/‖Δw‖",
            "Σ p·R",
            "‖∂f·Δx‖/s‖Δx‖",
            "verdict",
        ]
        cells = [
            [
                where(row.path),
                short(row.module),
                row.claim,
                number(row.weights),
                number(row.bound if row.weights is not None else None),
                number(row.input),
                short(row.verdict, 48),
            ]
            for row in rows
        ]
        counts = Counter(row.verdict.partition(":")[0] for row in self.rows)
        summary = ", ".join(
            [
                f"{kind} in {counts[kind]}"
                for kind in ("holds", "exceeded", "VIOLATED")
                if counts[kind]
            ]
        )
        shown = table(
            header, cells, left=(0, 1, 2, 6), left_out=left_out, reason="none nearer to its bound"
        )
        return f"{shown}\nof {len(self)} modules: {summary}"

    def scalars(self) -> dict[str, float]:
        weights = {
            f"well_normed/weights/{where(row.path)}": row.weights
            for row in self.rows
            if row.weights is not None
        }
        return weights | {
            f"well_normed/input/{where(row.path)}": row.input
            for row in self.rows
            if row.input is not None
        }

    def plot(self, axes: Axes | None = None) -> Axes:
        rows, _ = prominent(self.rows, [row.worst for row in self.rows])
        axes = canvas(axes, height=1.2 + 0.22 * len(rows))
        for label, color, ratios in (
            ("‖∂f·Δw‖ / ‖Δw‖", "tab:blue", [row.weights for row in rows]),
            ("‖∂f·Δx‖ / s‖Δx‖", "tab:orange", [row.input for row in rows]),
        ):
            measured = [(ratio, i) for i, ratio in enumerate(ratios) if ratio]
            axes.scatter(
                [ratio for ratio, _ in measured],
                [i for _, i in measured],
                s=18,
                color=color,
                label=label,
            )
        axes.axvline(1.0, color="black", linewidth=1, label="the bound")
        name_rows(axes, [f"{where(row.path)}  {row.module}" for row in rows])
        axes.set(xscale="log", xlabel="worst ratio found")
        caption(axes, "How tight the bounds are")
        return axes


def well_normed(
    model: Network, x: Value, *, steps: int = 20, generator: torch.Generator | None = None
) -> WellNormedReport:
    """Search every atom, bond and compound for a change that breaks ‖∂f·Δw‖ ≤ ‖Δw‖ or ‖∂f·Δx‖ ≤
    s·‖Δx‖.

    A module claims its bounds as proved, conditional on its inputs, or an estimate, in its
    attribute `claim`. Even a proof speaks of weights and inputs of norm at most 1. Where a bound is
    exceeded the report says whether a proof covers the place, which would be a mistake in the
    module, or what lies outside.

    Args:
        model: what to measure, at its present weights.
        x: its input. Every row of a batch is searched; a few are enough.
        steps: rounds of each search.
        generator: where random numbers come from; None starts one of its own.

    Returns:
        One row a module, with the worst ratios found and a verdict; `.holds` is False if a proved
        bound fails anywhere.

    Raises:
        TypeError: `model` is no module of modula's.
        ValueError: fewer than one step.

    Example:
        >>> import torch
        >>> from modula import Linear, ReLU
        >>> from modula.instruments import well_normed
        >>> model = Linear(2, 8) @ ReLU() @ Linear(8, 4)
        >>> x = torch.nn.functional.normalize(torch.randn(16, 4)) * 2  # of RMS 1
        >>> well_normed(model, x).holds
        True

    Source: Large et al. 2024 (arXiv:2405.14813), definition 2.
    """
    if steps < 1:
        raise ValueError(f"well_normed takes at least 1 step, got steps={steps}")
    generator = own_generator() if generator is None else generator
    with differentiable():
        parts = observations(model, x)
        radii = Radii.of(model)
        return WellNormedReport(
            tuple([_bounds(part, parts, radii, steps, generator) for part in parts])
        )


def _bounds(
    part: Observation,
    parts: Sequence[Observation],
    radii: Radii,
    steps: int,
    generator: torch.Generator,
) -> Bounds:
    inside = [other for other in parts if is_inside(other.path, part.path)]
    tightness = stretch(part, steps, 1, generator).tightness
    gain = _weight_gain(part, steps, generator) if part.part.mass else None
    rounding = _rounding(part)
    shortcomings = (_shortcoming(other, radii, rounding) for other in inside)
    return Bounds(
        part.path,
        part.label,
        min([_claim(other) for other in inside], key=WEAKEST_FIRST.index),
        gain,
        part.part.first_order_bound(radii.entering(part.path)),
        tightness,
        next(filter(None, shortcomings), ""),
        rounding,
    )


def _weight_gain(part: Observation, steps: int, generator: torch.Generator) -> float:
    """The largest ‖∂f·Δw‖ / ‖Δw‖ found."""
    network = part.part
    start = Gradient({name: draw(weight, generator) for name, weight in network.weights.items()})
    return in_weights(part).worst(
        [network.dualize(start, method="svd")], targets(part.codomain, part.y, generator), steps
    )


def _rounding(part: Observation) -> float:
    tensors = [*part.part.weights.tensors, *leaves(part.x), *leaves(part.y)]
    eps = max([torch.finfo(t.dtype).eps for t in tensors if t.is_floating_point()], default=0.0)
    return ROUNDING if eps <= torch.finfo(torch.float32).eps else STEPS_OF_ROUNDING * eps


def _claim(part: Observation) -> Claim:
    """The claim of a single operation; a part of several claims nothing of its own."""
    return "proved" if part.operation is None else part.operation.claim


def _shortcoming(part: Observation, radii: Radii, rounding: float) -> str:
    """Why the proof of a single operation does not cover it at its input; empty if it does."""
    if part.operation is None:
        return ""
    path = where(part.path)
    if part.operation.claim != "proved":
        return f"{part.label} at {path} is {_article(part.operation.claim)}"
    if part.weight is None:
        return ""
    plan = part.part.plan()
    weight = float(plan.geometries[0].norm(plan.weights[0].detach()[None]))
    entering = float(measure(part.domain, part.x))
    if not weight <= 1 + rounding:
        return f"‖w‖ = {weight:.3g} at {path}"
    if not entering <= total_radius(radii.entering(part.path)) * (1 + rounding):
        return f"‖x‖ = {entering:.3g} at {path}"
    return ""


def _article(claim: Claim) -> str:
    return "an estimate" if claim == "estimate" else claim
