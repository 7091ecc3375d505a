"""`radii`: how large activations can be, and the bound on the network that follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from modula.checks import Claim
from modula.graph import Graph, Radius, total_radius
from modula.instruments.derivative import is_known
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
from modula.network import Network, is_inside
from modula.spaces import AnySpace, measure
from modula.values import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Radii:
    """The radii of a network's nodes, for weights of norm at most 1 and an input of norm 1."""

    graph: Graph
    values: tuple[Radius, ...]

    @classmethod
    def of(cls, network: Network) -> Self:
        """Return those that a network's operations declare."""
        graph = network.graph()
        return cls(graph, tuple(graph.radii(network.input_radius())))

    def entering(self, path: str) -> Radius:
        """Return R of the value that the part at `path` reads."""
        for node in self.graph.nodes[1:]:
            if node.inputs and is_inside(node.path, path):
                return self.values[node.inputs[0]]
        return self.values[0]


@dataclass(frozen=True)
class Size:
    """The norm of one operation's output."""

    path: str
    module: str

    claim: Claim
    """How sure the radius is."""

    radius: float
    """R: the largest norm of the output, for weights and a network input of norm at most 1."""

    measured: float | None
    """The norm of the output in a run; None without one, or where the space is not known."""

    mass_fraction: float | None
    """p of the weight that the operation uses; None without one."""

    weight_sensitivity: float | None
    """r with ‖∂f·Δw‖ ≤ r·‖Δw‖ for the operation alone, at its input's radius; for maps linear in
    the weight, that radius."""


@dataclass(frozen=True)
class RadiiReport(Report[Size]):
    """The radii of a network, one row an operation."""

    bound: float
    """Σ p_i·R_i, with ‖∂f·Δw‖ ≤ bound·‖Δw‖ for weights and an input of norm at most 1."""

    def __str__(self) -> str:
        rows, left_out = prominent(self.rows, [row.radius for row in self.rows])
        cells = [
            [
                where(row.path),
                short(row.module),
                row.claim,
                number(row.radius),
                number(row.measured),
                number(row.mass_fraction),
                number(row.weight_sensitivity),
            ]
            for row in rows
        ]
        header = ["path", "module", "claim", "R", "measured", "p", "R at the weight"]
        shown = table(header, cells, left=(0, 1, 2), left_out=left_out, reason="none larger")
        verdict = "well-normed" if self.bound <= 1 + 1e-9 else "not well-normed where R > 1"
        return f"{shown}\nΣ p·R = {number(self.bound)}: {verdict}"

    def scalars(self) -> dict[str, float]:
        measured = {
            f"radii/measured/{where(row.path)}": row.measured
            for row in self.rows
            if row.measured is not None
        }
        return {"radii/bound": self.bound} | measured

    def plot(self, axes: Axes | None = None) -> Axes:
        rows, _ = prominent(self.rows, [row.radius for row in self.rows])
        axes = canvas(axes, height=1.2 + 0.22 * len(rows))
        axes.scatter(
            [row.radius for row in rows],
            range(len(rows)),
            marker="|",
            s=120,
            color="black",
            label="R, the bound",
        )
        seen = [(row.measured, i) for i, row in enumerate(rows) if row.measured]
        axes.scatter(
            [size for size, _ in seen],
            [i for _, i in seen],
            s=18,
            color="tab:blue",
            label="measured",
        )
        axes.axvline(1.0, color="gray", linewidth=1, label="1, the papers' hypothesis")
        name_rows(axes, [f"{where(row.path)}  {row.module}" for row in rows])
        axes.set(xscale="log", xlabel="norm of the output")
        caption(axes, "Radii")
        return axes


def radii(model: Network, x: Value | None = None) -> RadiiReport:
    """Return how large every activation can be, and the bound on the network that follows.

    R is the largest norm that an operation's output can have while the input and all weights have
    norm at most 1, by the operations' own rules. If every R at a weight is at most 1, which is the
    papers' hypothesis, a network is well-normed: ‖∂f·Δw‖ ≤ ‖Δw‖. In general the first-order bound
    is ‖∂f·Δw‖ ≤ (Σ p_i·R_i)·‖Δw‖, with the weights' mass fractions p_i.

    Args:
        model: the network.
        x: its input; with it the norms of a run at the present weights stand beside the radii.

    Returns:
        One row an operation, and the bound.

    Raises:
        TypeError: `model` is not a network of modula's.

    Example:
        >>> from modula import Identity, Linear
        >>> from modula.instruments import radii
        >>> report = radii(Linear(2, 2) @ (Identity() + Linear(2, 2)))
        >>> report["1"].radius, report.bound
        (2.0, 1.5)

    Source: Large et al. 2024 (arXiv:2405.14813), definition 2 and proposition 3, without the
    hypothesis that every input has norm at most 1.
    """
    check_network(model)
    found = Radii.of(model)
    fractions = dict(zip(found.graph.weights, found.graph.mass_fractions(), strict=True))
    measured: dict[str, list[float | None]] = {}
    for part in observations(model, x) if x is not None else ():
        if part.operation is not None:
            measured.setdefault(part.path, []).append(_size(part.codomain, part.y))
    rows = []
    for node, R in zip(found.graph.nodes[1:], found.values[1:], strict=True):
        seen = measured.get(node.path, [])
        inputs = [found.values[i] for i in node.inputs]
        rows.append(
            Size(
                node.path,
                repr(node.operation),
                node.operation.claim,
                total_radius(R),
                seen.pop(0) if seen else None,
                None if node.weight is None else fractions[node.weight],
                None if node.weight is None else node.operation.weight_sensitivity(*inputs),
            )
        )
    return RadiiReport(tuple(rows), model.first_order_bound())


def _size(space: AnySpace, value: Value) -> float | None:
    return float(measure(space, value)) if is_known(space) else None
