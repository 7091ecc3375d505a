"""`logits`: the largest attention logit of each head, and the bound that the norms imply."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import torch
from einops import reduce
from torch import Tensor

from modula.checks import Claim
from modula.graph import Graph, Radius, total_radius
from modula.instruments.nodes import locate, weakest_claim
from modula.instruments.observing import is_known, measured_radius, observations
from modula.instruments.report import (
    Report,
    canvas,
    caption,
    name_rows,
    number,
    prominent,
    ratio,
    scatter_rows,
    short,
    table,
)
from modula.network import Network, Observation
from modula.values import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADS_AND_PAIRS = 4
"""The axes of attention logits: batch, head, query, key."""


@runtime_checkable
class HasLogits(Protocol):
    """An operation with a softmax inside, such as `FunctionalAttention` and `Softmax`."""

    def logits(self, x: Value) -> Tensor:
        """Return the arguments of the softmax, [batch, head, query, key]; −∞ for hidden keys."""
        ...

    def logit_bound(self, *inputs: Radius) -> float:
        """Return a bound on their magnitudes, by bounds on the norms of the inputs."""
        ...


@dataclass(frozen=True)
class Logit:
    """The logits of one head of attention."""

    path: str
    module: str

    head: int
    """The number of the head, from 0."""

    claim: Claim
    """How sure the bound is: the least sure of the claims that it follows from."""

    largest: float
    """The largest magnitude of a logit in the run, of keys that are not hidden."""

    bound: float
    """|scale|·‖query‖·‖key‖, with the norms that the present weights allow."""


@dataclass(frozen=True)
class LogitsReport(Report[Logit]):
    """The logits of a network, one row a head."""

    def __str__(self) -> str:
        rows, left_out = prominent(self.rows, [row.largest for row in self.rows])
        header = ["path", "module", "head", "claim", "largest", "bound", "of the bound"]
        cells = [
            [
                row.path,
                short(row.module),
                str(row.head),
                row.claim,
                number(row.largest),
                number(row.bound),
                number(ratio(row.largest, row.bound)),
            ]
            for row in rows
        ]
        return table(header, cells, left=(0, 1, 3), left_out=left_out, reason="none larger")

    def scalars(self) -> dict[str, float]:
        return {f"logits/{name}": row.largest for name, row in self.named()}

    def plot(self, axes: Axes | None = None) -> Axes:
        rows, _ = prominent(self.rows, [row.largest for row in self.rows])
        axes = canvas(axes, height=1.2 + 0.22 * len(rows))
        scatter_rows(axes, [row.bound for row in rows], "the bound", "black", bound=True)
        scatter_rows(axes, [row.largest or None for row in rows], "measured", "tab:blue")
        name_rows(axes, [f"{row.path}  head {row.head}" for row in rows])
        axes.set(xscale="log", xlabel="largest magnitude of a logit")
        caption(axes, "Attention logits")
        return axes


@torch.no_grad()
def logits(model: Network, x: Value) -> LogitsReport:
    """Return the largest attention logit of each head on a batch, beside its bound.

    A logit is scale·query·key/d_head, at most |scale|·‖query‖·‖key‖. The norms of queries and keys
    are bounded as by `radii`, with the present norm of each weight in place of 1. So logits cannot
    grow unless the norms of weights do, or unless `QKNorm` bounds them by |scale|.

    Args:
        model: a network with attention.
        x: its input; the longer, the more logits are seen.

    Returns:
        One row a head, in the order in which data meets them; none for a network without attention.

    Raises:
        TypeError: `model` is not a network of modula's.

    Example:
        >>> import torch
        >>> from modula import Attention, HeadLinear
        >>> from modula.instruments import logits
        >>> report = logits(Attention(8, 2, projection=HeadLinear), torch.ones(1, 4, 8))
        >>> [(row.head, round(row.bound, 4)) for row in report]
        [(0, 1.0), (1, 1.0)]
        >>> all(row.largest <= row.bound * (1 + 1e-5) for row in report)
        True

    Source: Dehghani et al. 2023 (arXiv:2302.05442), section 2, on the growth of attention logits.
    """
    parts = observations(model, x)
    graph = model.graph()
    radii = _radii(graph, _entering(model, parts[0]))
    rows: list[Logit] = []
    for part, nodes in zip(parts, locate(graph, parts), strict=True):
        if isinstance(part.operation, HasLogits) and nodes:
            rows += _rows(part, part.operation, graph, nodes[0], radii)
    return LogitsReport(tuple(rows))


def _rows(
    part: Observation, operation: HasLogits, graph: Graph, i: int, radii: Sequence[Radius]
) -> list[Logit]:
    """One row for each head of an operation, at node i of the graph."""
    found = operation.logits(part.x)
    if found.dim() != HEADS_AND_PAIRS:
        return []  # a softmax over other things, such as experts
    magnitudes = torch.where(found == -math.inf, 0, found).abs()
    by_head = reduce(magnitudes, "batch head query key -> head", "max")
    bound = operation.logit_bound(*[radii[j] for j in graph.nodes[i].inputs])
    claim = weakest_claim(graph, _before(graph, i))
    return [
        Logit(part.path, part.label, head, claim, largest, bound)
        for head, largest in enumerate(cast("list[float]", by_head.tolist()))
    ]


def _before(graph: Graph, i: int) -> list[int]:
    """The nodes that node i reads, directly or through others."""
    found, waiting = set[int](), list(graph.nodes[i].inputs)
    while waiting:
        j = waiting.pop()
        if j not in found:
            found.add(j)
            waiting += graph.nodes[j].inputs
    return sorted(found)


def _entering(model: Network, whole: Observation) -> Radius:
    """A bound on the input's norm: the norm that it has, if that can be measured."""
    return (
        measured_radius(whole.domain, whole.x) if is_known(whole.domain) else model.input_radius()
    )


def _radii(graph: Graph, entering: Radius) -> list[Radius]:
    """R for each node, with the present norm of each weight in place of 1."""
    norms = {
        name: float(weight.geometry.norm(weight.tensor.detach()[None]))
        for name, weight in graph.weights.items()
    }
    radii: list[Radius] = [entering]
    for node in graph.nodes[1:]:
        inputs = [radii[j] for j in node.inputs]
        radii.append(_radius_at(node.operation.radius(*inputs), node.weight, norms))
    return radii


def _radius_at(radius: Radius, weight: str | None, norms: Mapping[str, float]) -> Radius:
    """R of a node whose weight has another norm than 1.

    An operation that is linear in its weight scales with it, and one that has a part without the
    weight, as a bias has, by less. So a norm below 1 lowers nothing.
    """
    return radius if weight is None else _scaled(max(1.0, norms[weight]), radius)


def _scaled(factor: float, radius: Radius) -> Radius:
    if isinstance(radius, tuple):
        return tuple([_scaled(factor, part) for part in radius])
    return factor * total_radius(radius)
