"""The nodes of a lifted network's graph: one for each traced call and weight that it uses.

Operations declare the sensitivities that are known for them, and 1 as an estimate for all others.
The coefficients of a lifted network do not follow from these: its sensitivities are measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modula.checks import Acts, Claim
from modula.graph import Graph, Input, Node, Radius, Weight, total_radius
from modula.lift.trace import LAYOUTS, Call, Trace
from modula.lift.uses import Measured

_LIPSCHITZ = {
    "relu": 1.0,
    "leaky_relu": 1.0,
    "tanh": 1.0,
    "sigmoid": 0.25,
    "gelu": 1.1290,
    "silu": 1.0999,
    "neg": 1.0,
    "abs": 1.0,
    "add": 1.0,
    "sub": 1.0,
    "mean": 1.0,
}
"""Lipschitz constants in RMS, for each slot."""

_NORMALIZES = frozenset(["layer_norm", "rms_norm", "group_norm", "batch_norm", "instance_norm"])


@dataclass(frozen=True)
class Traced:
    """One traced call, or a weight that it uses beside its first.

    Args:
        operation: the name of torch's function.
        slots: the number of earlier nodes that it reads.
        is_weighted: whether it uses a weight.
        claim: whether its constants are proved.
    """

    operation: str
    slots: int
    is_weighted: bool = False
    claim: Claim = "estimate"
    acts: Acts = "otherwise"

    def sensitivities(self) -> tuple[float, ...]:
        return (_LIPSCHITZ.get(self.operation, 1.0),) * self.slots

    def radius(self, *inputs: Radius) -> Radius:
        sizes = [total_radius(one) for one in inputs]
        if self.operation in _NORMALIZES or not sizes:
            return 1.0
        return sum(sizes) if self.operation in ("add", "sub") else max(sizes)

    def weight_sensitivity(self, *inputs: Radius) -> float:
        if not self.is_weighted:
            return 0.0
        return max([total_radius(one) for one in inputs], default=1.0)

    def __repr__(self) -> str:
        return self.operation


def graph_of(trace: Trace, found: Mapping[str, Measured], weights: Mapping[str, Weight]) -> Graph:
    """Return the graph of a traced run.

    Args:
        trace: of the run.
        found: the weights with their uses.
        weights: what the graph's nodes refer to, by name.
    """
    builder = _Builder(trace, found)
    return Graph(tuple(builder.nodes()), weights)


class _Builder:
    def __init__(self, trace: Trace, found: Mapping[str, Measured]) -> None:
        self._trace = trace
        self._position: dict[int, int] = {}
        self._used: dict[int, list[str]] = {}
        for name, one in found.items():
            for use in one.uses:
                names = self._used.setdefault(use.call.index, [])
                if name not in names:
                    names.append(name)

    def nodes(self) -> list[Node]:
        """One node for each call that the output depends on, and one more for the output."""
        nodes = [Node("", Input(), ())]
        for index in self._trace.reached():
            call = self._trace.calls[index]
            used = self._used.get(index, [])
            first, others = (used[0] if used else None), used[1:]
            inputs = tuple([at for at in map(self._at, _sources(call)) if at is not None])
            nodes.append(Node(call.path, _operation(call, inputs, first), inputs, first))
            for name in others:
                before = (len(nodes) - 1,)
                nodes.append(Node(call.path, _operation(call, before, name), before, name))
            self._position[index] = len(nodes) - 1
        outputs = [self._at((o.kind, o.call)) for o in self._trace.outputs]
        last = tuple(dict.fromkeys([at for at in outputs if at is not None]))
        if last != (len(nodes) - 1,):
            nodes.append(Node("", Traced("output", len(last)), last))
        return nodes

    def _at(self, source: tuple[str, int]) -> int | None:
        """The position of the node that a call reads; None for parameters and constants."""
        kind, call = source
        return 0 if kind == "input" else self._position.get(call)


def _sources(call: Call) -> Sequence[tuple[str, int]]:
    return [(a.source.kind, a.source.call) for a in call.arguments]


def _operation(call: Call, inputs: tuple[int, ...], weight: str | None) -> Traced:
    is_proved = call.operation in _LIPSCHITZ or call.operation in LAYOUTS
    claim: Claim = "proved" if is_proved and weight is None else "estimate"
    return Traced(call.operation, len(inputs), weight is not None, claim)
