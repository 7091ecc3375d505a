"""`feature_learning`: how much of the output's change each module causes, beside its share of the
mass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.func import jvp

from modula.instruments.derivative import differentiable
from modula.instruments.observing import check_network, observations
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
from modula.network import Network, Observation, is_inside
from modula.spaces import measure
from modula.values import Value, zip_leaves
from modula.vector import Update, Weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Share:
    """What one module's part of an update does to the model's output."""

    path: str
    module: str

    mass_share: float
    """p = m_i/m, the part of the change that the module may cause."""

    change: float
    """‖∂f·Δw_i‖ in the output's norm: the linearised change that the module's part of the update
    causes by itself."""

    share: float
    """change / ‖Δw‖, at most `mass_share` where the model is well-normed."""


@dataclass(frozen=True)
class FeatureLearningReport(Report[Share]):
    """What `feature_learning` measured, one row a module that has mass."""

    norm: float
    """‖Δw‖, the modular norm of the update."""

    @property
    def telling(self) -> tuple[Share, ...]:
        """The rows less those of compounds in which a single part has all the mass, and so the same
        numbers.
        """
        following = [*self.rows[1:], None]
        return tuple(
            [
                row
                for row, after in zip(self.rows, following, strict=True)
                if not _repeats(row, after)
            ]
        )

    def __str__(self) -> str:
        rows, left_out = prominent(self.telling, [row.share for row in self.telling])
        header = ["path", "module", "mass share", "share of change", "‖∂f·Δw_i‖"]
        cells = [
            [
                where(row.path),
                short(row.module),
                f"{row.mass_share:.1%}",
                f"{row.share:.1%}",
                number(row.change),
            ]
            for row in rows
        ]
        shown = table(header, cells, left_out=left_out, reason="none with a larger share")
        return f"{shown}\nthe update's norm is {number(self.norm)}"

    def scalars(self) -> dict[str, float]:
        return {f"feature_learning/{where(row.path)}": row.share for row in self.rows}

    def plot(self, axes: Axes | None = None) -> Axes:
        rows, _ = prominent(self.telling, [row.mass_share for row in self.telling])
        axes = canvas(axes, height=1.2 + 0.22 * len(rows))
        axes.barh(
            range(len(rows)),
            [row.mass_share for row in rows],
            color="lightgray",
            label="share of the mass (the bound)",
        )
        axes.barh(
            range(len(rows)),
            [row.share for row in rows],
            height=0.4,
            color="tab:blue",
            label="‖∂f·Δw_i‖ / ‖Δw‖",
        )
        name_rows(axes, [f"{where(row.path)}  {row.module}" for row in rows])
        axes.set(xlabel="share")
        caption(axes, "Feature learning by module")
        return axes


def _repeats(outer: Share, inner: Share | None) -> bool:
    return (
        inner is not None
        and is_inside(inner.path, outer.path)
        and (inner.mass_share, inner.change) == (outer.mass_share, outer.change)
    )


def feature_learning(model: Network, update: Update, x: Value) -> FeatureLearningReport:
    """Measure how much each module's part of an update changes the output, to first order, beside
    its share of the mass.

    In a well-normed model the part of module i changes the output by at most (m_i/m)·‖Δw‖. Parts of
    the output's change may cancel, so that a compound's change is at most the sum of its parts'.

    Args:
        model: the model, at its present weights.
        update: such as `model.dualize` returns; its sign and size do not matter to the shares.
        x: an input; every atom costs one pass over it.

    Returns:
        One row a module that has mass.

    Raises:
        TypeError: `update` is no Update, or `model` no module of modula's.
        LayoutError: `update` belongs to another model.
        ValueError: the update is zero, or not finite, or moves a weight that has no mass.

    Example:
        >>> import torch
        >>> from modula import Linear, ReLU
        >>> from modula.instruments import feature_learning
        >>> model = Linear(2, 8) @ ReLU() @ Linear(8, 4, mass=3)
        >>> x = torch.randn(16, 4)
        >>> gradient = model.gradient(model(x).square().mean())
        >>> report = feature_learning(model, model.dualize(gradient), x)
        >>> report["0"].mass_share
        0.75

    Source: Large et al. 2024 (arXiv:2405.14813), proposition 3.
    """
    check_network(model)
    norm = float(model.norm(update))
    if not 0 < norm < float("inf"):
        raise ValueError(
            f"the shares of an update of norm {norm:g} are not defined: it is zero, not finite, or "
            "moves a weight of mass 0; take one from model.dualize or model.normalize"
        )
    with differentiable():
        parts = observations(model, x)
        survey = _Survey(parts, model.weights, update, norm)
        survey.enter(parts[0], parts)
    return FeatureLearningReport(
        tuple([survey.rows[part.path] for part in parts if part.path in survey.rows]), norm
    )


class _Survey:
    """The walk over the parts that fills the rows, inner ones first, so that few changes are kept.

    A weight that is used in several places has its row at the first.
    """

    def __init__(
        self, parts: Sequence[Observation], weights: Weights, update: Update, norm: float
    ) -> None:
        self.whole, self.norm = parts[0], norm
        self.weights, self.changes = dict(weights.items()), dict(update.items())
        self.mass = self.whole.part.mass
        self.rows: dict[str, Share] = {}
        self.seen: set[str] = set()

    def enter(self, part: Observation, inside: Sequence[Observation]) -> Value | None:
        """Enter a part and those inside; return the change that it causes, None without mass."""
        mass = part.part.mass
        if not mass or part.weight in self.seen:
            return None
        total = None
        if part.operation is not None and part.weight is not None:
            self.seen.add(part.weight)
            total = self.change(part.weight)
        for child in _children(part, inside):
            within = [other for other in inside if is_inside(other.path, child.path)]
            total = _plus(total, self.enter(child, within))
        if total is None:
            return None
        change = float(measure(self.whole.codomain, total))
        self.rows[part.path] = Share(
            part.path, part.label, mass / self.mass, change, change / self.norm
        )
        return total

    def change(self, name: str) -> Value:
        """∂f·Δw for one weight."""

        def output(moved: Tensor) -> Value:
            return self.whole.apply({name: moved}, self.whole.x)

        weight, change = self.weights[name].detach(), self.changes[name]
        return cast("Value", jvp(output, (weight,), (change,))[1])


def _children(part: Observation, inside: Sequence[Observation]) -> list[Observation]:
    """Those of the parts `inside` that are its own, and not parts of parts."""
    return [
        other
        for other in inside
        if other is not part and other.path and other.path.rpartition(".")[0] == part.path
    ]


def _plus(one: Value | None, other: Value | None) -> Value | None:
    """Their sum, where None is zero."""
    if one is None or other is None:
        return one if other is None else other
    return zip_leaves(torch.add, one, other)
