"""A network as a graph of operations, and the two accumulations over it.

Compositions and concatenations (Large et al. 2024, arXiv:2405.14813, definitions 3 and 4) are
directed acyclic graphs of operations, some of which carry a weight. The modular norm and the bound
on a network follow from one accumulation backwards and one forwards:

    S(output) = 1,  S(node) = Σ over its readers r of s(r, slot)·S(r)      sensitivities
    R(input) = 1,   R(node) = radius(node; R of its inputs)                radii

Of readers that depend on different entries of a tuple, the largest counts and not the sum, since
the norm of a tuple is the sum of its entries' norms. S is the sum over all paths to the output of
the products of sensitivities, computed as in reverse-mode differentiation. R bounds the norm of a
node's output if all weights have norm at most 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from modula.checks import Acts, Claim, mass_shares
from modula.errors import NormPairError, ParameterError
from modula.geometry import Geometry, intersection

Radius: TypeAlias = "float | tuple[Radius, ...]"
"""A bound on the norm of a value; for a tuple of values, one bound for each entry."""


class Operation(Protocol):
    """One operation with its constants. Atoms and bonds are operations.

    Inputs are called slots. An operation with one slot that takes a tuple, as `Add` does, gets one
    radius, which is itself a tuple.
    """

    @property
    def claim(self) -> Claim:
        """The validity of the constants: proved, conditional, or an estimate."""
        ...

    @property
    def acts(self) -> Acts:
        """How the operation acts on features, for tensor parallelism."""
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
    """One trained tensor with its norm and its mass.

    A graph refers to weights, and reads these numbers each time that it is asked.
    """

    @property
    def mass(self) -> float:
        """The share of feature learning, m ≥ 0, which can be set."""
        ...

    @mass.setter
    def mass(self, value: float) -> None: ...

    @property
    def tensor(self) -> Tensor:
        """The parameter of the torch module."""
        ...

    @property
    def geometry(self) -> Geometry:
        """The norm of the tensor."""
        ...

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Fill the tensor with a random value of norm 1."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """One use of an operation in a network.

    Args:
        path: of the module that it belongs to, as in `model.get_submodule`.
        operation: with its constants, which are read each time that the graph is asked.
        inputs: the positions of the earlier nodes that it reads, one for each slot.
        weight: the name of the weight that it uses, or None.
        part: the position of the one entry on which it depends, if it reads a tuple; None for the
            whole value.
    """

    path: str
    operation: Operation
    inputs: tuple[int, ...]
    weight: str | None = None
    part: int | None = None


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
    """The operation that joins values into a tuple, whose norm is the sum of their norms."""

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
class Part:
    """The projection of a tuple onto one of its entries."""

    index: int
    claim: Claim = "proved"
    acts: Acts = "otherwise"

    def sensitivities(self) -> tuple[float, ...]:
        return (1.0,)

    def radius(self, *inputs: Radius) -> Radius:
        (whole,) = inputs
        return whole[self.index] if isinstance(whole, tuple) else whole

    def weight_sensitivity(self, *inputs: Radius) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class _Accumulated:
    """The result of the backward accumulation.

    Args:
        declared: the sensitivities of each node, from which the others follow.
        sensitivities: S for each node.
        by_weight: the sum of S over the uses of each weight.
    """

    declared: Sequence[tuple[float, ...]]
    sensitivities: Sequence[float]
    by_weight: Mapping[str, float]


@dataclass(frozen=True)
class Graph:
    """The operations of a network in topological order, and its weights.

    Args:
        nodes: each after those that it reads; the first is the input, the last the output.
        weights: by name, in the order of `parameters()`.

    Example:
        >>> from modula import Linear, ReLU
        >>> graph = (Linear(10, 256) @ (2.0 * ReLU()) @ Linear(256, 784)).graph()
        >>> list(graph.weights), graph.sensitivities()
        (['0.weight', '3.weight'], [2.0, 2.0, 2.0, 1.0, 1.0])
    """

    nodes: tuple[Node, ...]
    weights: Mapping[str, Weight]
    _accumulated: dict[str, _Accumulated] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def sensitivities(self) -> list[float]:
        """Return S for each node: the sum over paths to the output of products of sensitivities."""
        return list(self._accumulate().sensitivities)

    def _accumulate(self) -> _Accumulated:
        """The backward accumulation, cached until an operation declares another sensitivity."""
        declared = [node.operation.sensitivities() for node in self.nodes]
        known = self._accumulated.get("last")
        if known is not None and known.declared == declared:
            return known
        S = self._sensitivities(declared)
        by_weight = dict.fromkeys(self.weights, 0.0)
        for i, name in self.uses():
            by_weight[name] += S[i]
        self._accumulated["last"] = found = _Accumulated(declared, S, by_weight)
        return found

    def _sensitivities(self, declared: Sequence[tuple[float, ...]]) -> list[float]:
        """S for each node, from the sensitivities that each declares.

        The norm of a tuple is the sum of its entries' norms. So where readers depend on single
        entries, S is the largest of the sums over the readers of one entry, and a node that is
        joined into a tuple is reached by the readers of its own entry alone.
        """
        S = [0.0] * len(self.nodes)
        S[-1] = 1.0
        of_entries: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        for i in reversed(range(len(self.nodes))):
            node, of_whole, entries = self.nodes[i], S[i], of_entries.get(i, {})
            S[i] += max([0.0, *entries.values()])  # torch.compile before 2.12 knows no default
            for slot, (j, s) in enumerate(zip(node.inputs, declared[i], strict=True)):
                is_tuple = isinstance(node.operation, Tuple)
                reached = of_whole + entries.get(slot, 0.0) if is_tuple else S[i]
                if node.part is None:
                    S[j] += s * reached
                else:
                    of_entries[j][node.part] += s * reached
        return S

    def radii(self, entering: Radius = 1.0) -> list[Radius]:
        """Return R for each node: a bound on its output's norm for weights of norm at most 1.

        Args:
            entering: R of the input.

        Example:
            >>> from modula import Bias, Linear
            >>> (Linear(2, 2) @ Bias(2) @ Linear(2, 2)).graph().radii()
            [1.0, 1.0, 2.0, 2.0]
        """
        R: list[Radius] = [entering]
        for node in self.nodes[1:]:
            R.append(node.operation.radius(*[R[j] for j in node.inputs]))
        return R

    def weight_sensitivities(self, radii: Sequence[Radius] | None = None) -> dict[str, float]:
        """Return for each weight the sum over its uses of S·R, so that ‖∂f·Δw‖ ≤ (Σ S·R)·‖Δw‖.

        Args:
            radii: R for each node; None takes R = 1 everywhere, as the papers do.

        Example:
            >>> from modula import Linear, ReLU
            >>> layer = Linear(2, 2)
            >>> (2.0 * layer @ ReLU() @ layer).graph().weight_sensitivities()
            {'0.weight': 4.0}
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
        """Yield the position of each node that uses a weight, with the name of the weight."""
        return ((i, node.weight) for i, node in enumerate(self.nodes) if node.weight is not None)

    def mass_fractions(self) -> list[float]:
        """Return m_i/Σm for each weight; 0 where all masses are 0."""
        return mass_shares([weight.mass for weight in self.weights.values()])


@dataclass(eq=False)
class SharedWeight:
    """One tensor that several atoms use. Its mass counts once.

    Args:
        name: of the tensor.
        users: the tensor as each atom declares it, at least two.
    """

    name: str
    users: tuple[Weight, ...]

    def check(self) -> None:
        """Raise if the users disagree.

        Raises:
            ParameterError: no duality map is known for the users' norms together, or their masses
                differ, or they no longer use one tensor.
        """
        _ = self.tensor, self.geometry, self.mass

    @property
    def tensor(self) -> Tensor:
        """The parameter that all users share."""
        first = self.users[0].tensor
        if any(user.tensor is not first for user in self.users):
            raise ParameterError(
                f"{self.name!r} was one Parameter of several atoms when the graph was made, and is "
                f"not any more: assign one Parameter to {_listed(self.users)}"
            )
        return first

    @property
    def geometry(self) -> Geometry:
        """The norm whose unit ball is the intersection of those of the users' norms."""
        try:
            return intersection([user.geometry for user in self.users])
        except NormPairError as error:
            raise ParameterError(
                f"{self.name!r} is shared by {_listed(self.users)}, which measure it by different "
                f"norms: {error}. Give each a weight of its own"
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
    """A builder of graphs, to which nodes are added in topological order.

    It starts with the input, at position 0.

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

    def add(
        self, path: str, operation: Operation, inputs: tuple[int, ...], part: int | None = None
    ) -> int:
        """Add an operation without a weight and return its position.

        Args:
            path, operation, inputs, part: as in `Node`.
        """
        return self._append(Node(path, operation, inputs, part=part))

    def add_weighted(
        self,
        path: str,
        operation: Operation,
        inputs: tuple[int, ...],
        name: str,
        user: Weight,
        part: int | None = None,
    ) -> int:
        """Add an operation that uses a weight and return its position.

        Args:
            path, operation, inputs, part: as in `Node`.
            name: of the weight. A tensor that another operation uses already keeps its first name.
            user: the weight as this operation declares it: the tensor, its norm, its mass.

        Raises:
            ParameterError: there is no tensor.
        """
        if user.tensor is None:
            raise ParameterError(
                f"{name!r} is None and must be a Parameter: to stop training a weight, freeze it "
                "with requires_grad_(False) or give it the mass 0"
            )
        name = self._names.setdefault(id(user.tensor), name)
        users = self._users.setdefault(name, [])
        if not any(user is other for other in users):
            users.append(user)
        return self._append(Node(path, operation, inputs, name, part))

    def finish(self) -> Graph:
        """Return the graph, whose output is the node that was added last.

        Raises:
            ParameterError: operations share a tensor under norms for which no common duality map
                is known, or with different masses.
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
    """Return the bound on the norm of a whole value: for a tuple, the sum over its entries."""
    return sum(map(total_radius, radius)) if isinstance(radius, tuple) else radius


def _listed(users: Sequence[object]) -> str:
    return " and ".join(map(repr, users))
