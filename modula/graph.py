"""A network as a graph of operations, and the two accumulations over it.

Composition and concatenation (Large et al. 2024, arXiv:2405.14813, definitions 3 and 4) are two
shapes of one thing: a directed acyclic graph of operations, some of which carry a weight. One
accumulation backwards and one forwards say all that duality needs:

    S(output) = 1,  S(node) = Σ over its readers r of s(r, slot)·S(r)      sensitivities
    R(input) = 1,   R(node) = radius(node; R of its inputs)                radii

S is the sum over all paths to the output of the products of sensitivities, reverse mode exactly; R
is the largest norm that a node's output can have while all weights have norm at most 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from modula.checks import Acts, Claim
from modula.errors import NormPairError, ParameterError
from modula.geometry import Geometry, intersection

Radius: TypeAlias = "float | tuple[Radius, ...]"
"""A bound on the norm of a value; for a tuple of values, one of each part."""


class Operation(Protocol):
    """One operation with its constants. Atoms and bonds are operations."""

    @property
    def claim(self) -> Claim:
        """How sure the constants are."""
        ...

    @property
    def acts(self) -> Acts:
        """How the operation acts on features."""
        ...

    def sensitivities(self) -> tuple[float, ...]:
        """Return s for each slot: ‖∂f·Δx‖ ≤ s·‖Δx‖ for a change of that input alone."""
        ...

    def radius(self, *inputs: Radius) -> Radius:
        """Return a bound on the output's norm, from bounds on the inputs' norms."""
        ...

    def weight_sensitivity(self, *inputs: Radius) -> float:
        """Return r with ‖∂f·Δw‖ ≤ r·‖Δw‖ for inputs within these bounds; 0 without a weight."""
        ...


class Weight(Protocol):
    """One trained tensor with its norm and its mass. All three are read anew at each use."""

    mass: float

    @property
    def weight(self) -> Tensor:
        """The parameter."""
        ...

    @property
    def geometry(self) -> Geometry:
        """Its norm."""
        ...

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Draw the weight anew, of norm 1."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """One operation at one place of a network.

    Args:
        path: of the module that it belongs to, as in `model.get_submodule`.
        operation: its constants, read anew at each use.
        inputs: the nodes before it that it reads, one a slot.
        weight: the name of the weight that it uses, or None.
    """

    path: str
    operation: Operation
    inputs: tuple[int, ...]
    weight: str | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """The operation of the first node, which reads nothing."""

    claim: Claim = "proved"
    acts: Acts = "otherwise"

    def sensitivities(self) -> tuple[float, ...]:
        return ()

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0

    def weight_sensitivity(self, *inputs: Radius) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class Tuple:
    """The operation that puts values side by side. The norm of a tuple is the sum of its parts'."""

    slots: int
    claim: Claim = "proved"
    acts: Acts = "otherwise"

    def sensitivities(self) -> tuple[float, ...]:
        return (1.0,) * self.slots

    def radius(self, *inputs: Radius) -> Radius:
        return inputs

    def weight_sensitivity(self, *inputs: Radius) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class _Accumulated:
    """The sums that follow from what a graph's operations declared."""

    declared: Sequence[tuple[float, ...]]
    sensitivities: Sequence[float]
    by_weight: Mapping[str, float]


@dataclass(frozen=True)
class Graph:
    """A network's operations in the order in which data meets them, and its weights.

    Args:
        nodes: in topological order; the first is the input, the last the output.
        weights: by name, in the order of `parameters()`.

    Example:
        >>> from modula import Linear, ReLU
        >>> graph = (Linear(10, 256) @ (2.0 * ReLU()) @ Linear(256, 784)).graph()
        >>> list(graph.weights), graph.sensitivities()
        (['0.weight', '3.weight'], [2.0, 2.0, 2.0, 1.0, 1.0])
    """

    nodes: tuple[Node, ...]
    weights: Mapping[str, Weight]
    _accumulated: dict[str, _Accumulated] = field(default_factory=dict, repr=False, compare=False)

    def sensitivities(self) -> list[float]:
        """Return S for each node: the sum over all paths to the output of their sensitivities."""
        return list(self._accumulate().sensitivities)

    def _accumulate(self) -> _Accumulated:
        """Both sums of S for what the operations declare now; kept while they declare the same."""
        declared = [node.operation.sensitivities() for node in self.nodes]
        known = self._accumulated.get("last")
        if known is not None and known.declared == declared:
            return known
        S = [0.0] * len(self.nodes)
        S[-1] = 1.0
        for i in reversed(range(len(self.nodes))):
            for j, s in zip(self.nodes[i].inputs, declared[i], strict=True):
                S[j] += s * S[i]
        by_weight = dict.fromkeys(self.weights, 0.0)
        for i, name in self.uses():
            by_weight[name] += S[i]
        self._accumulated["last"] = found = _Accumulated(declared, S, by_weight)
        return found

    def radii(self, entering: Radius = 1.0) -> list[Radius]:
        """Return R for each node: the largest norm of its output for weights of norm at most 1.

        Args:
            entering: R of the input.
        """
        R: list[Radius] = [entering]
        for node in self.nodes[1:]:
            R.append(node.operation.radius(*[R[j] for j in node.inputs]))
        return R

    def weight_sensitivities(self, radii: Sequence[Radius] | None = None) -> dict[str, float]:
        """Return for each weight the sum over its uses of S·R, with ‖∂f·Δw‖ ≤ (Σ S·R)·‖Δw‖.

        Args:
            radii: R for each node; None takes R = 1 everywhere, as the papers do.
        """
        if radii is None:
            return dict(self._accumulate().by_weight)
        total = dict.fromkeys(self.weights, 0.0)
        S = self.sensitivities()
        for i, name in self.uses():
            node = self.nodes[i]
            entering = [radii[j] for j in node.inputs]
            total[name] += S[i] * node.operation.weight_sensitivity(*entering)
        return total

    def uses(self) -> Iterator[tuple[int, str]]:
        """Yield the position of each node that uses a weight, and the weight's name."""
        return ((i, node.weight) for i, node in enumerate(self.nodes) if node.weight is not None)

    def mass_fractions(self) -> list[float]:
        """Return m_i/Σm for each weight; 0 where all masses are 0."""
        masses = [weight.mass for weight in self.weights.values()]
        total = math.fsum(masses)
        return [mass / total if total else 0.0 for mass in masses]


@dataclass(eq=False)
class SharedWeight:
    """One tensor that several atoms use. Its mass counts once.

    Args:
        name: of the tensor.
        users: the atoms, at least two.
    """

    name: str
    users: tuple[Weight, ...]

    def check(self) -> None:
        """Raise if there is no norm for the tensor.

        Raises:
            ParameterError: the users' norms cannot both hold, or their masses differ, or they no
                longer use one tensor.
        """
        _ = self.weight, self.geometry, self.mass

    @property
    def weight(self) -> Tensor:
        """The one parameter of all users."""
        first = self.users[0].weight
        if any(user.weight is not first for user in self.users):
            raise ParameterError(
                f"{self.name!r} was shared and is no longer: assign one Parameter to "
                f"{_listed(self.users)}"
            )
        return first

    @property
    def geometry(self) -> Geometry:
        """The norm whose unit ball lies in those of all users' norms."""
        try:
            return intersection([user.geometry for user in self.users])
        except NormPairError as error:
            raise ParameterError(
                f"{self.name!r} is shared by {_listed(self.users)}, and no norm serves both: "
                f"{error}. Give each a weight of its own"
            ) from None

    @property
    def mass(self) -> float:
        """The mass that all users declare."""
        first = self.users[0].mass
        if any(user.mass != first for user in self.users):
            raise ParameterError(
                f"{self.name!r} is shared by {_listed(self.users)}, which declare different "
                "masses: a weight has one mass, so give all of them the same"
            )
        return first

    @mass.setter
    def mass(self, value: float) -> None:
        for user in self.users:
            user.mass = value

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Draw the tensor anew, as its first user does."""
        self.users[0].initialize_weight(generator)


class GraphBuilder:
    """A graph in the making. A producer adds nodes to it in topological order.

    The first node, the input, is there from the start, at position 0.

    Example:
        >>> from modula import ReLU
        >>> from modula.graph import GraphBuilder
        >>> builder = GraphBuilder()
        >>> builder.add("0", ReLU(), (0,))
        1
        >>> builder.finish().sensitivities()
        [1.0, 1.0]
    """

    def __init__(self) -> None:
        self._nodes: list[Node] = [Node("", Input(), ())]
        self._users: dict[str, list[Weight]] = {}
        self._names: dict[int, str] = {}

    def add(self, path: str, operation: Operation, inputs: tuple[int, ...]) -> int:
        """Add an operation without a weight and return its position."""
        return self._append(Node(path, operation, inputs))

    def add_weighted(
        self, path: str, operation: Operation, inputs: tuple[int, ...], name: str, user: Weight
    ) -> int:
        """Add an operation that uses a weight and return its position.

        Args:
            path, operation, inputs: of the node.
            name: of the weight. A tensor that is there already keeps its first name.
            user: the weight as this operation sees it: the tensor, its norm, its mass.
        """
        name = self._names.setdefault(id(user.weight), name)
        users = self._users.setdefault(name, [])
        if not any(user is other for other in users):
            users.append(user)
        return self._append(Node(path, operation, inputs, name))

    def finish(self) -> Graph:
        """Return the graph, whose output is the node that was added last.

        Raises:
            ParameterError: a tensor is shared by operations for which there is no common norm.
        """
        weights: dict[str, Weight] = {}
        for name, users in self._users.items():
            if len(users) == 1:
                weights[name] = users[0]
            else:
                weights[name] = shared = SharedWeight(name, tuple(users))
                shared.check()
        return Graph(tuple(self._nodes), weights)

    def _append(self, node: Node) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1


def total_radius(radius: Radius) -> float:
    """Return the bound on the norm of a whole value: for a tuple, the sum over its parts."""
    return sum(map(total_radius, radius)) if isinstance(radius, tuple) else radius


def _listed(users: Sequence[object]) -> str:
    return " and ".join(map(repr, users))
