"""`feature_learning`: how much of the output's change each module causes, beside its share of the
mass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from torch import Tensor
from torch.func import functional_call, jvp

from modula.algebra.core import Atom
from modula.instruments.derivative import differentiable
from modula.instruments.places import Place, is_inside, parts, places
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
from modula.network import AnyModule
from modula.spaces import Value, measure
from modula.vector import Update

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


def feature_learning(model: AnyModule, update: Update, x: Value) -> FeatureLearningReport:
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
    tall = list(places(model))
    norm = float(model.norm(update))
    if not 0 < norm < float("inf"):
        raise ValueError(
            f"the shares of an update of norm {norm:g} are not defined: it is zero, not finite, or "
            "moves a weight of mass 0; take one from model.dualize or model.normalize"
        )
    survey = _Survey(model, update, x, norm)
    with differentiable():
        survey.enter(tall[0], tall)
    return FeatureLearningReport(
        tuple([survey.rows[place.path] for place in tall if place.path in survey.rows]), norm
    )


class _Survey:
    """The walk over the tree that fills the rows, children before parents, so that few changes are
    held at a time.
    """

    def __init__(self, model: AnyModule, update: Update, x: Value, norm: float) -> None:
        self.model, self.x, self.norm = model, x, norm
        self.weights, self.changes = dict(model.weights.items()), dict(update.items())
        self.mass = model.mass
        self.rows: dict[str, Share] = {}

    def enter(self, place: Place, inside: list[Place]) -> Value | None:
        """Enter what has mass at `place` and `inside` it, and return the change that it causes;
        None without mass.
        """
        mass = place.module.mass
        if not mass:
            return None
        total = (
            self.change(f"{place.path}.weight".lstrip("."))
            if isinstance(place.module, Atom)
            else None
        )
        for part in parts(place, inside):
            total = _plus(
                total,
                self.enter(part, [other for other in inside if is_inside(other.path, part.path)]),
            )
        change = float(measure(self.model.codomain, cast("Value", total)))
        self.rows[place.path] = Share(
            place.path, place.label, mass / self.mass, change, change / self.norm
        )
        return total

    def change(self, name: str) -> Value:
        """∂f·Δw_i for the parameter called `name`."""

        def output(moved: Tensor) -> Value:
            return cast("Value", functional_call(self.model, {name: moved}, (self.x,)))

        return cast("Value", jvp(output, (self.weights[name].detach(),), (self.changes[name],))[1])


def _plus(one: Value | None, other: Value | None) -> Value | None:
    """Their sum, where None is zero."""
    if one is None or other is None:
        return one if other is None else other
    if isinstance(one, tuple) and isinstance(other, tuple):
        return tuple([cast("Value", _plus(a, b)) for a, b in zip(one, other, strict=True)])
    return cast("Tensor", one) + cast("Tensor", other)
