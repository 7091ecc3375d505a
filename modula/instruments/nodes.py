"""The nodes of a network's graph that an observed part consists of, and their radii and claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from modula.checks import Claim
from modula.graph import Graph, Radius
from modula.network import Network, Observation, is_inside

WEAKEST_FIRST: tuple[Claim, ...] = ("estimate", "conditional", "proved")


@dataclass(frozen=True)
class Radii:
    """The radii of a network's nodes, for weights and an input of norm at most 1.

    Args:
        graph: of the network.
        values: R for each of its nodes.
    """

    graph: Graph
    values: tuple[Radius, ...]

    @classmethod
    def of(cls, network: Network) -> Self:
        """Return the radii that follow from the rules of a network's operations."""
        graph = network.graph()
        return cls(graph, tuple(graph.radii(network.input_radius())))

    def entering(self, path: str) -> Radius:
        """Return R of the value that the part at `path` reads."""
        return self.entering_nodes(nodes_inside(self.graph, path))

    def entering_nodes(self, nodes: Sequence[int]) -> Radius:
        """Return R of the value that a part of these nodes reads.

        Args:
            nodes: their positions in the graph, in order.

        Returns:
            R of the one value that comes from outside the part. If there are several, the R of
            each, as for a tuple.
        """
        if len(nodes) == 1:
            sources = list(self.graph.nodes[nodes[0]].inputs)  # one a slot: two may be the same
        else:
            inside = set(nodes)
            read = [j for i in nodes for j in self.graph.nodes[i].inputs if j not in inside]
            sources = list(dict.fromkeys(read))
        values = tuple([self.values[j] for j in sources or (0,)])
        return values[0] if len(values) == 1 else values


def nodes_inside(graph: Graph, path: str) -> tuple[int, ...]:
    """Return the positions of all nodes at the path, or inside of it, but the input's."""
    inside = range(1, len(graph.nodes))
    return tuple([i for i in inside if is_inside(graph.nodes[i].path, path)])


def locate(graph: Graph, parts: Sequence[Observation]) -> list[tuple[int, ...]]:
    """Return for each part of a network the positions of its nodes in the network's graph.

    A part of several operations consists of all nodes inside its path. A single operation is one of
    the nodes at its path: several operations at one path are told apart by weight, type and order.

    Args:
        graph: of the network.
        parts: as `observe` returns them.

    Returns:
        Positions in topological order; none for an operation that is not in the graph.
    """
    taken: set[int] = set()
    located = []
    for part in parts:
        if part.operation is None:
            located.append(nodes_inside(graph, part.path))
        else:
            i = next((i for i in _candidates(graph, part) if i not in taken), None)
            located.append(() if i is None else (i,))
            taken.update(located[-1])
    return located


def _candidates(graph: Graph, part: Observation) -> Iterable[int]:
    """The nodes that may be a single operation that was observed."""
    for i, node in enumerate(graph.nodes):
        if (
            i
            and (node.path, node.weight) == (part.path, part.weight)
            and type(node.operation) is type(part.operation)
        ):
            yield i


def weights_of(graph: Graph, nodes: Iterable[int]) -> list[str]:
    """Return the names of the weights that these nodes use, each once."""
    names = [graph.nodes[i].weight for i in nodes]
    return list(dict.fromkeys([name for name in names if name is not None]))


def weakest_claim(graph: Graph, nodes: Iterable[int]) -> Claim:
    """Return the least sure of the nodes' claims, on which the part's bounds rest."""
    claims: list[Claim] = [graph.nodes[i].operation.claim for i in nodes]
    return min(claims, key=WEAKEST_FIRST.index) if claims else "proved"
