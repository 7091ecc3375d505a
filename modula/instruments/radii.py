"""`radii`: bounds on the norms of activations, and the bound on the network that follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modula.checks import Claim
from modula.graph import Graph, Tuple, total_radius
from modula.instruments.nodes import Radii, locate, weakest_claim
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
    scatter_rows,
    short,
    table,
)
from modula.network import Network, Observation
from modula.values import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUNDING = 1e-9
"""By how much a sum of mass fractions may exceed 1."""


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
    """The norm of the output in a run; None without one, or if the space is not known."""

    mass_fraction: float | None
    """p of the weight that the operation uses; None without one."""

    weight_sensitivity: float | None
    """r with ‖∂f·Δw‖ ≤ r·‖Δw‖ for the operation alone: R of its input if it is linear in the
    weight. None without a weight."""

    skipped: str = ""
    """Why `measured` is None although there was a run."""


@dataclass(frozen=True)
class RadiiReport(Report[Size]):
    """The radii of a network, one row an operation."""

    bound: float
    """Σ p·R, with ‖∂f·Δw‖ ≤ bound·‖Δw‖ for weights and an input of norm at most 1."""

    claim: Claim
    """How sure the bound is: the least sure of the operations' claims."""

    def __str__(self) -> str:
        shown, left_out = self._prominent()
        cells = [
            [
                name,
                short(row.module),
                row.claim,
                number(row.radius),
                number(row.measured),
                number(row.mass_fraction),
                number(row.weight_sensitivity),
            ]
            for name, row in shown
        ]
        header = ["path", "module", "claim", "R", "measured", "p", "R at the weight"]
        text = table(header, cells, left=(0, 1, 2), left_out=left_out, reason="none larger")
        return "\n".join([text, *not_measured(shown), self._verdict()])

    def _verdict(self) -> str:
        verdict = "well-normed" if self.bound <= 1 + ROUNDING else "not well-normed where R > 1"
        return f"Σ p·R = {number(self.bound)} ({self.claim}): {verdict}"

    def scalars(self) -> dict[str, float]:
        measured = {
            f"radii/measured/{name}": row.measured
            for name, row in self.named()
            if row.measured is not None
        }
        return {"radii/bound": self.bound} | measured

    def plot(self, axes: Axes | None = None) -> Axes:
        shown, _ = self._prominent()
        rows = [row for _, row in shown]
        axes = canvas(axes, height=1.2 + 0.22 * len(rows))
        scatter_rows(axes, [row.radius for row in rows], "R, the bound", "black", bound=True)
        # a norm of 0 cannot be drawn on a logarithmic axis
        scatter_rows(axes, [row.measured or None for row in rows], "measured", "tab:blue")
        axes.axvline(1.0, color="gray", linestyle=":", label="1, as the papers assume")
        name_rows(axes, [f"{name}  {row.module}" for name, row in shown])
        axes.set(xscale="log", xlabel="norm of the output")
        caption(axes, "Radii")
        return axes

    def _prominent(self) -> tuple[list[tuple[str, Size]], int]:
        return prominent(self.named(), [row.radius for row in self.rows])


def radii(model: Network, x: Value | None = None) -> RadiiReport:
    """Return a bound on the norm of every activation, and the bound on the network that follows.

    R is the largest norm that an operation's output can have while the input and all weights have
    norm at most 1, by the operations' own rules. The papers assume R ≤ 1 at the input of every
    weight, and conclude ‖∂f·Δw‖ ≤ ‖Δw‖. In general ‖∂f·Δw‖ ≤ (Σ p·R)·‖Δw‖, with the mass fraction p
    of each weight and R at its input.

    Args:
        model: the network.
        x: its input; with it, the norms in a run at the present weights are listed beside the
            radii.

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

    Source: Large et al. 2024 (arXiv:2405.14813), definition 2 and proposition 3, without their
    assumption that every input has norm at most 1.
    """
    check_network(model)
    radii = Radii.of(model)
    graph = radii.graph
    observed = {} if x is None else _by_node(graph, observations(model, x))
    rows = [_row(radii, i, observed.get(i), x is not None) for i in range(1, len(graph.nodes))]
    claim = weakest_claim(graph, range(1, len(graph.nodes)))
    return RadiiReport(tuple(rows), model.first_order_bound(), claim)


def _row(radii: Radii, i: int, part: Observation | None, was_run: bool) -> Size:
    """The row of one node; `part` is the operation as it was observed, if it was."""
    graph, node = radii.graph, radii.graph.nodes[i]
    fraction = reach = None
    if node.weight is not None:
        fraction = dict(zip(graph.weights, graph.mass_fractions(), strict=True))[node.weight]
        reach = node.operation.weight_sensitivity(*[radii.values[j] for j in node.inputs])
    is_tuple = isinstance(node.operation, Tuple)
    return Size(
        node.path,
        f"tuple of {len(node.inputs)}" if is_tuple else repr(node.operation),
        node.operation.claim,
        total_radius(radii.values[i]),
        None if part is None else measured_norm(part.codomain, part.y),
        fraction,
        reach,
        _obstacle(part) if was_run and not is_tuple else "",
    )


def _by_node(graph: Graph, parts: list[Observation]) -> dict[int, Observation]:
    """The single operations that were observed, by their positions in the graph."""
    located = zip(parts, locate(graph, parts), strict=True)
    return {nodes[0]: part for part, nodes in located if part.operation is not None and nodes}


def _obstacle(part: Observation | None) -> str:
    """Why the norm of an output was not measured; empty if it was."""
    return "the run did not reach it" if part is None else unknown_space(part.codomain)
