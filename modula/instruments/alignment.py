"""`alignment`: products ‖W·x‖ and ‖ΔW·x‖ as fractions of the bounds that the norms set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.func import jvp

from modula.instruments.derivative import differentiable
from modula.instruments.observing import check_network, is_atom, observations, unknown_space
from modula.instruments.report import (
    Report,
    canvas,
    caption,
    name_rows,
    not_measured,
    number,
    prominent,
    ratio,
    short,
    table,
)
from modula.network import Network, Observation
from modula.spaces import measure
from modula.values import Value
from modula.vector import Update

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Alignment:
    """One atom at the activations of one run.

    A ratio is 1 if input and weight are aligned as well as they can be, None if it is 0/0 or was
    not measured.
    """

    path: str
    module: str

    update: float | None
    """‖ΔW·x‖ / (‖ΔW‖·‖x‖)."""

    weights: float | None
    """‖W·x‖ / (‖W‖·‖x‖)."""

    input_norm: float | None
    """‖x‖; None if it was not measured."""

    weight_norm: float
    """‖W‖."""

    update_norm: float
    """‖ΔW‖."""

    skipped: str = ""
    """Why nothing was measured."""


@dataclass(frozen=True)
class AlignmentReport(Report[Alignment]):
    """The alignment of a network's atoms, one row an atom."""

    def __str__(self) -> str:
        shown, left_out = self._prominent()
        header = ["path", "module", "‖ΔW·x‖/‖ΔW‖‖x‖", "‖W·x‖/‖W‖‖x‖", "‖x‖", "‖W‖", "‖ΔW‖"]
        cells = [
            [
                name,
                short(row.module),
                *map(
                    number,
                    (row.update, row.weights, row.input_norm, row.weight_norm, row.update_norm),
                ),
            ]
            for name, row in shown
        ]
        text = table(header, cells, left_out=left_out, reason="none better aligned")
        return "\n".join([text, *not_measured(shown)])

    def scalars(self) -> dict[str, float]:
        update = {
            f"alignment/update/{name}": row.update
            for name, row in self.named()
            if row.update is not None
        }
        return update | {
            f"alignment/weights/{name}": row.weights
            for name, row in self.named()
            if row.weights is not None
        }

    def plot(self, axes: Axes | None = None) -> Axes:
        shown, _ = self._prominent()
        axes = canvas(axes, height=1.2 + 0.25 * len(shown))
        height = 0.4
        axes.barh(
            [i - height / 2 for i in range(len(shown))],
            [row.update or 0.0 for _, row in shown],
            height,
            label="‖ΔW·x‖ / ‖ΔW‖‖x‖",
        )
        axes.barh(
            [i + height / 2 for i in range(len(shown))],
            [row.weights or 0.0 for _, row in shown],
            height,
            label="‖W·x‖ / ‖W‖‖x‖",
        )
        axes.axvline(1.0, color="black", linewidth=1, label="the bound")
        name_rows(axes, [f"{name}  {row.module}" for name, row in shown])
        axes.set(xlabel="fraction of the bound")
        caption(axes, "Alignment")
        return axes

    def _prominent(self) -> tuple[list[tuple[str, Alignment]], int]:
        return prominent(self.named(), [row.update or 0.0 for row in self.rows])


def alignment(model: Network, x: Value, update: Update) -> AlignmentReport:
    """Measure the fraction of its bound that each atom uses, for the update and for the weights.

    The fractions are ‖ΔW·x‖ / (‖ΔW‖·‖x‖) and ‖W·x‖ / (‖W‖·‖x‖). Inputs come from a run at the
    present weights, and norms are those of the atoms and of their spaces, the largest over batch
    and positions. An atom that is not a multiple of its weight, such as Bias, is measured by
    ‖∂f·Δw‖/‖Δw‖.

    Args:
        model: the network, at its present weights.
        x: its input.
        update: as from `model.dualize`; its size does not matter.

    Returns:
        One row an atom.

    Raises:
        TypeError: `update` is not an Update, or `model` not a network of modula's.
        LayoutError: `update` belongs to another network.

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
    check_network(model)
    model.norm(update)  # which raises for anything but an update of this network
    with differentiable():
        atoms = [one for one in observations(model, x) if is_atom(one)]
        return AlignmentReport(tuple([_aligned(atom, update) for atom in atoms]))


def _aligned(atom: Observation, update: Update) -> Alignment:
    plan = atom.part.plan()
    name, weight, geometry = plan.names[0], plan.weights[0].detach(), plan.geometries[0]
    change = update[atom.weight or name]
    weight_norm, update_norm = (float(geometry.norm(w[None])) for w in (weight, change))
    row = Alignment(
        atom.path,
        atom.label,
        None,
        None,
        None,
        weight_norm,
        update_norm,
        unknown_space(*atom.signature),
    )
    if row.skipped:
        return row

    def output(moved: Tensor) -> Value:
        return atom.apply({name: moved}, atom.x)

    moved = float(measure(atom.codomain, cast("Value", jvp(output, (weight,), (change,))[1])))
    input_norm = float(measure(atom.domain, atom.x))
    is_multiple = not float(measure(atom.codomain, output(torch.zeros_like(weight))))
    of_weights = None
    if is_multiple:
        of_weights = ratio(float(measure(atom.codomain, atom.y)), weight_norm * input_norm)
    return replace(
        row,
        update=ratio(moved, update_norm * (input_norm if is_multiple else 1.0)),
        weights=of_weights,
        input_norm=input_norm,
    )
