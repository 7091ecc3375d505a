"""`well_normed`: the two inequalities that the theory rests on, measured in every atom, bond and
compound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from modula.algebra.core import Atom, Bond, SpaceType
from modula.checks import Claim
from modula.instruments.derivative import differentiable, draw, in_weights, own_generator, targets
from modula.instruments.places import Visit, is_inside, visits
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
from modula.network import AnyModule
from modula.spaces import Value, measure
from modula.vector import Gradient

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUNDING = 1e-4
"""What a measured bound may exceed 1 by in float32 arithmetic."""

WEAKEST_FIRST: tuple[Claim, ...] = ("estimate", "conditional", "proved")


@dataclass(frozen=True)
class Bounds:
    """The two inequalities in one module."""

    path: str
    module: str

    claim: Claim
    """How sure the module says they are; for a compound, the least sure of what is inside."""

    weights: float | None
    """The largest ‖∂f·Δw‖ / ‖Δw‖ that was found, at most 1 if well-normed; None without mass."""

    input: float | None
    """The largest ‖∂f·Δx‖ / (s·‖Δx‖) that was found, at most 1 if well-normed; None where the input
    has no direction."""

    outside: str
    """Why no proof covers these weights and inputs; empty if one does."""

    @property
    def worst(self) -> float:
        """The larger of the two ratios."""
        return max(
            [ratio for ratio in (self.weights, self.input) if ratio is not None], default=0.0
        )

    @property
    def verdict(self) -> str:
        """holds, exceeded where nothing is proved, or VIOLATED where something is."""
        if self.worst <= 1 + ROUNDING:
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
        header = ["path", "module", "claim", "‖∂f·Δw‖/‖Δw‖", "‖∂f·Δx‖/s‖Δx‖", "verdict"]
        cells = [
            [
                where(row.path),
                short(row.module),
                row.claim,
                number(row.weights),
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
            header, cells, left=(0, 1, 2, 5), left_out=left_out, reason="none nearer to its bound"
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
    model: AnyModule, x: Value, *, steps: int = 20, generator: torch.Generator | None = None
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
        seen = visits(model, x)
        return WellNormedReport(tuple([_bounds(visit, seen, steps, generator) for visit in seen]))


def _bounds(visit: Visit, seen: Sequence[Visit], steps: int, generator: torch.Generator) -> Bounds:
    place = visit.place
    inside = [other for other in seen if is_inside(other.place.path, place.path)]
    tightness = stretch(visit, steps, 1, generator).tightness
    gain = _weight_gain(visit, steps, generator) if place.module.mass else None
    outside = next(filter(None, map(_shortcoming, inside)), "")
    return Bounds(
        place.path,
        place.label,
        min([_claim(other) for other in inside], key=WEAKEST_FIRST.index),
        gain,
        tightness,
        outside,
    )


def _weight_gain(visit: Visit, steps: int, generator: torch.Generator) -> float:
    """The largest ‖∂f·Δw‖ / ‖Δw‖ found."""
    module = visit.place.module
    start = Gradient({name: draw(weight, generator) for name, weight in module.weights.items()})
    return in_weights(visit).worst(
        [module.dualize(start, method="svd")],
        targets(visit.place.signature[1], visit.y, generator),
        steps,
    )


def _claim(visit: Visit) -> Claim:
    """What an atom or bond claims; a compound claims nothing of its own."""
    module = visit.place.module
    return module.claim if isinstance(module, (Atom, Bond)) else "proved"


def _shortcoming(visit: Visit) -> str:
    """Why an atom's or bond's proof does not cover what flowed through it; empty if it does, and
    for compounds.
    """
    module, path = visit.place.module, visit.place.path
    if isinstance(module, Bond) and module.claim != "proved":
        return f"{module!r} at {where(path)} is {_article(module.claim)}"
    if isinstance(module, Atom):
        return _shortcoming_of_atom(module, visit)
    return ""


def _shortcoming_of_atom(atom: Atom[SpaceType, SpaceType], visit: Visit) -> str:
    path = where(visit.place.path)
    if atom.claim != "proved":
        return f"{atom!r} at {path} is {_article(atom.claim)}"
    weight, entering = (
        float(atom.geometry.norm(atom.weight[None])),
        float(measure(visit.place.signature[0], visit.x)),
    )
    if not weight <= 1 + ROUNDING:
        return f"‖w‖ = {weight:.3g} at {path}"
    if not entering <= 1 + ROUNDING:
        return f"‖x‖ = {entering:.3g} at {path}"
    return ""


def _article(claim: Claim) -> str:
    return "an estimate" if claim == "estimate" else claim
