"""`feature_learning`: how much of the output's change each module causes, beside its mass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.func import jvp

from modula.graph import Graph
from modula.instruments.derivative import differentiable
from modula.instruments.nodes import locate, weights_of
from modula.instruments.observing import (
    check_network,
    measured_norm,
    observations,
    unknown_space,
)
from modula.instruments.report import (
    Report,
    canvas,
    caption,
    name_rows,
    not_measured,
    number,
    prominent,
    short,
    table,
)
from modula.network import Network, Observation, is_inside
from modula.values import Value, zip_leaves
from modula.vector import Update

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Share:
    """The change of the network's output that one module's part of an update causes."""

    path: str
    module: str

    mass_share: float
    """The mass fraction p = m_i/m, a bound on `share` in a well-normed network."""

    change: float | None
    """‖∂f·Δw_i‖ in the output's norm: the linearised change that the module's part of the update
    causes by itself. None if it was not measured."""

    share: float | None
    """change / ‖Δw‖, at most `mass_share` in a well-normed network."""

    skipped: str = ""
    """Why the change was not measured."""


@dataclass(frozen=True)
class FeatureLearningReport(Report[Share]):
    """The changes that the modules of a network cause, one row a module that has mass."""

    norm: float
    """‖Δw‖, the modular norm of the update."""

    @property
    def telling(self) -> tuple[Share, ...]:
        """The rows without those of compounds of which one part has all the mass.

        Their numbers would be that part's.
        """
        return tuple([row for _, row in self._telling()])

    def _telling(self) -> list[tuple[str, Share]]:
        following = [*self.rows[1:], None]
        return [
            (name, row)
            for (name, row), after in zip(self.named(), following, strict=True)
            if not _repeats(row, after)
        ]

    def __str__(self) -> str:
        rows = self._telling()
        shown, left_out = prominent(rows, [row.share or 0.0 for _, row in rows])
        header = ["path", "module", "mass share", "share of change", "‖∂f·Δw_i‖"]
        cells = [
            [
                name,
                short(row.module),
                f"{row.mass_share:.1%}",
                "·" if row.share is None else f"{row.share:.1%}",
                number(row.change),
            ]
            for name, row in shown
        ]
        text = table(header, cells, left_out=left_out, reason="none with a larger share")
        norm = f"the update's norm is {number(self.norm)}"
        return "\n".join([text, *not_measured(shown), norm])

    def scalars(self) -> dict[str, float]:
        return {
            f"feature_learning/{name}": row.share
            for name, row in self.named()
            if row.share is not None
        }

    def plot(self, axes: Axes | None = None) -> Axes:
        rows = self._telling()
        shown, _ = prominent(rows, [row.mass_share for _, row in rows])
        axes = canvas(axes, height=1.2 + 0.22 * len(shown))
        axes.barh(
            range(len(shown)),
            [row.mass_share for _, row in shown],
            color="lightgray",
            label="mass fraction, the bound",
        )
        axes.barh(
            range(len(shown)),
            [row.share or 0.0 for _, row in shown],
            height=0.4,
            color="tab:blue",
            label="‖∂f·Δw_i‖ / ‖Δw‖",
        )
        name_rows(axes, [f"{name}  {row.module}" for name, row in shown])
        axes.set(xlabel="fraction")
        caption(axes, "Feature learning by module")
        return axes


def _repeats(outer: Share, inner: Share | None) -> bool:
    return (
        inner is not None
        and is_inside(inner.path, outer.path)
        and (inner.mass_share, inner.change) == (outer.mass_share, outer.change)
    )


def feature_learning(model: Network, update: Update, x: Value) -> FeatureLearningReport:
    """Measure how much each module's part of an update changes the output, to first order.

    It is listed beside the module's mass fraction: in a well-normed network the part of module i
    changes the output by at most (m_i/m)·‖Δw‖, in others by (m_i/m)·R_i·‖Δw‖ with the radius R_i of
    the module's input (`modula.instruments.radii`). The changes of a compound's parts may cancel,
    so that the compound's is at most their sum.

    Args:
        model: the network, at its present weights.
        update: as from `model.dualize`; its sign and size do not change the shares.
        x: an input; every weight costs one pass over it.

    Returns:
        One row a module that has mass. A weight that several operations use has its row at the
        first of them.

    Raises:
        TypeError: `update` is not an Update, or `model` not a network of modula's.
        LayoutError: `update` belongs to another network.
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
        graph = model.graph()
        weights = _trained_weights(graph, parts)
        changes = _changes(model, parts[0], update, weights)
    fractions = dict(zip(graph.weights, graph.mass_fractions(), strict=True))
    skipped = unknown_space(parts[0].codomain)
    rows = []
    for part, names, change in zip(parts, weights, changes, strict=True):
        if names:
            mass_share = math.fsum([fractions[name] for name in names])
            share = None if change is None else change / norm
            rows.append(Share(part.path, part.label, mass_share, change, share, skipped))
    return FeatureLearningReport(tuple(rows), norm)


def _trained_weights(graph: Graph, parts: Sequence[Observation]) -> list[list[str]]:
    """For each part the names of its weights of positive mass.

    A single operation has none if an earlier one uses the same weight.
    """
    taken: set[str] = set()
    found = []
    for part, nodes in zip(parts, locate(graph, parts), strict=True):
        names = [name for name in weights_of(graph, nodes) if graph.weights[name].mass]
        if part.operation is not None:
            names = [name for name in names if name not in taken]
            taken.update(names)
        found.append(names)
    return found


def _changes(
    model: Network, whole: Observation, update: Update, weights: Sequence[Sequence[str]]
) -> list[float | None]:
    """‖Σ ∂f·Δw_i‖ over each part's weights; None without any, or if the output has no norm.

    Weights are taken one by one, and the sum of a part is measured and dropped with its last
    weight, so that few changes of the output are in memory at once.
    """
    sums: dict[int, Value] = {}
    sizes: list[float | None] = [None] * len(weights)
    missing = [set(names) for names in weights]
    values = dict(model.weights)
    for name, change in update.items():
        users = [i for i, names in enumerate(missing) if name in names]
        if not users:
            continue
        moved = _change(whole, name, values[name].detach(), change)
        for i in users:
            sums[i] = zip_leaves(torch.add, sums[i], moved) if i in sums else moved
            missing[i].remove(name)
            if not missing[i]:
                sizes[i] = measured_norm(whole.codomain, sums.pop(i))
    return sizes


def _change(whole: Observation, name: str, weight: Tensor, change: Tensor) -> Value:
    """∂f·Δw for one weight."""

    def output(moved: Tensor) -> Value:
        return whole.apply({name: moved}, whole.x)

    return cast("Value", jvp(output, (weight,), (change,))[1])
