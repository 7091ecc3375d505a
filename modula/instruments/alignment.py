"""`alignment`: how close activations and updates come to what the norms allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.func import jvp

from modula.instruments.derivative import differentiable
from modula.instruments.observing import is_atom, observations
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
from modula.spaces import measure
from modula.values import Value
from modula.vector import Update

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Alignment:
    """One atom at what flowed through it. A ratio is 1 where input and weight line up as far as
    they can, None where it is 0/0.
    """

    path: str
    module: str

    update: float | None
    """‖ΔW·x‖ / (‖ΔW‖·‖x‖)."""

    weights: float | None
    """‖W·x‖ / (‖W‖·‖x‖)."""

    input_norm: float
    """‖x‖."""

    weight_norm: float
    """‖W‖."""

    update_norm: float
    """‖ΔW‖."""


@dataclass(frozen=True)
class AlignmentReport(Report[Alignment]):
    """What `alignment` measured, one row an atom."""

    def __str__(self) -> str:
        rows, left_out = prominent(self.rows, [row.update or 0.0 for row in self.rows])
        header = ["path", "module", "‖ΔW·x‖/‖ΔW‖‖x‖", "‖W·x‖/‖W‖‖x‖", "‖x‖", "‖W‖", "‖ΔW‖"]
        cells = [
            [
                where(row.path),
                short(row.module),
                *map(
                    number,
                    (row.update, row.weights, row.input_norm, row.weight_norm, row.update_norm),
                ),
            ]
            for row in rows
        ]
        return table(header, cells, left_out=left_out, reason="none better aligned")

    def scalars(self) -> dict[str, float]:
        update = {
            f"alignment/update/{where(row.path)}": row.update
            for row in self.rows
            if row.update is not None
        }
        return update | {
            f"alignment/weights/{where(row.path)}": row.weights
            for row in self.rows
            if row.weights is not None
        }

    def plot(self, axes: Axes | None = None) -> Axes:
        rows, _ = prominent(self.rows, [row.update or 0.0 for row in self.rows])
        axes = canvas(axes, height=1.2 + 0.25 * len(rows))
        height = 0.4
        axes.barh(
            [i - height / 2 for i in range(len(rows))],
            [row.update or 0.0 for row in rows],
            height,
            label="‖ΔW·x‖ / ‖ΔW‖‖x‖",
        )
        axes.barh(
            [i + height / 2 for i in range(len(rows))],
            [row.weights or 0.0 for row in rows],
            height,
            label="‖W·x‖ / ‖W‖‖x‖",
        )
        axes.axvline(1.0, color="black", linewidth=1, label="the bound")
        name_rows(axes, [f"{where(row.path)}  {row.module}" for row in rows])
        axes.set(xlabel="share of the bound")
        caption(axes, "Alignment")
        return axes


def alignment(model: Network, x: Value, update: Update) -> AlignmentReport:
    """Measure how much of its bound each atom uses: ‖ΔW·x‖ over ‖ΔW‖·‖x‖ for the update, and the
    same for the weights.

    Inputs come from the present weights, and norms are those of the atoms and of their spaces, the
    largest over batch and positions. An atom that is no multiple of its weight, such as Bias, is
    measured by ‖∂f·Δw‖/‖Δw‖.

    Args:
        model: the model, at its present weights.
        x: its input.
        update: such as `model.dualize` returns; its size does not matter.

    Returns:
        One row an atom.

    Raises:
        TypeError: `update` is no Update, or `model` no module of modula's.
        LayoutError: `update` belongs to another model.

    Example:
        >>> import torch
        >>> from modula import Linear, ReLU
        >>> from modula.instruments import alignment
        >>> model = Linear(2, 8) @ ReLU() @ Linear(8, 4)
        >>> x = torch.randn(1, 4)  # with a single example, an update lines up with it entirely
        >>> gradient = model.gradient(model(x).sum())
        >>> report = alignment(model, x, model.dualize(gradient, method="svd"))
        >>> round(report["0"].update, 3)
        1.0

    Source: Yang et al. 2023 (arXiv:2310.17813), claim 1 and condition 1.
    """
    model.norm(update)  # which refuses what is no update of this model
    with differentiable():
        atoms = [one for one in observations(model, x) if is_atom(one)]
        return AlignmentReport(tuple([_aligned(atom, update) for atom in atoms]))


def _aligned(atom: Observation, update: Update) -> Alignment:
    plan = atom.part.plan()
    name, weight, geometry = plan.names[0], plan.weights[0].detach(), plan.geometries[0]
    change = update[atom.weight or name]

    def output(moved: Tensor) -> Value:
        return atom.apply({name: moved}, atom.x)

    moved = float(measure(atom.codomain, cast("Value", jvp(output, (weight,), (change,))[1])))
    input_norm = float(measure(atom.domain, atom.x))
    weight_norm, update_norm = (float(geometry.norm(w[None])) for w in (weight, change))
    is_multiple = not float(measure(atom.codomain, output(torch.zeros_like(weight))))
    return Alignment(
        atom.path,
        atom.label,
        _ratio(moved, update_norm * (input_norm if is_multiple else 1.0)),
        _ratio(float(measure(atom.codomain, atom.y)), weight_norm * input_norm)
        if is_multiple
        else None,
        input_norm,
        weight_norm,
        update_norm,
    )


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
