"""The nodes of a lifted network's graph: one for each traced call and weight that it uses.

A call that is one of modula's bonds is that bond in the graph, with the constants that it declares
(`modula.lift.bonds`), and so is a module of modula's own inside the torch module. Of all others the
graph states the constants that are known, and 1 as an estimate. A calibration that measures does
not use these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from modula.algebra.primitive import Primitive
from modula.checks import Acts, Claim
from modula.graph import Graph, Input, Node, Operation, Radius, Tuple, Weight, total_radius
from modula.lift.bonds import Bonded, bond_of
from modula.lift.trace import Call, Source, Trace
from modula.lift.uses import Measured


@dataclass(frozen=True)
class Traced:
    """One traced call, or a weight that it uses beside its first.

    Args:
        operation: the name of torch's function.
        slots: the number of earlier nodes that it reads.
        is_weighted: whether it uses a weight.
        claim: whether its constants are proved.
        constant: the sensitivity in each slot.
    """

    operation: str
    slots: int
    is_weighted: bool = False
    claim: Claim = "estimate"
    acts: Acts = "otherwise"
    constant: float = 1.0

    def sensitivities(self) -> tuple[float, ...]:
        return (self.constant,) * self.slots

    def radius(self, *inputs: Radius) -> Radius:
        return self.constant * max([total_radius(one) for one in inputs], default=1.0)

    def weight_sensitivity(self, *inputs: Radius) -> float:
        if not self.is_weighted:
            return 0.0
        return max([total_radius(one) for one in inputs], default=1.0)

    def __repr__(self) -> str:
        return self.operation


def graph_of(
    trace: Trace, found: Mapping[str, Measured], weights: Mapping[str, Weight], model: nn.Module
) -> Graph:
    """Return the graph of a traced run.

    Args:
        trace: of the run.
        found: the weights with their uses.
        weights: what the graph's nodes refer to, by name.
        model: the module that ran.
    """
    builder = _Builder(trace, found, model)
    return Graph(tuple(builder.nodes()), weights)


class _Builder:
    def __init__(self, trace: Trace, found: Mapping[str, Measured], model: nn.Module) -> None:
        self._trace, self._model = trace, model
        self._nodes: list[Node] = [Node("", Input(), ())]
        self._position: dict[int, int] = {}
        self._of_entry: dict[int, int] = {}
        self._used: dict[int, list[str]] = {}
        self._proved = {name for name, one in found.items() if one.proved}
        self._found = found
        for name, one in found.items():
            for use in one.uses:
                names = self._used.setdefault(use.call.index, [])
                if name not in names:
                    names.append(name)

    def nodes(self) -> list[Node]:
        """One node for each call that the output depends on, and one more for the output."""
        for index in self._trace.reached():
            call = self._trace.calls[index]
            entry = self._trace.entries.get(call.entry)
            if entry is None:
                self._position[index] = self._add_call(call)
                continue
            if call.entry not in self._of_entry:
                self._of_entry[call.entry] = self._add_module(entry.path, entry.inputs)
            self._position[index] = self._of_entry[call.entry]
        last = tuple(dict.fromkeys(self._read(self._trace.outputs)))
        if last != (len(self._nodes) - 1,):
            self._add("", Traced("output", len(last)), last)
        return self._nodes

    def _add_call(self, call: Call) -> int:
        used = self._used.get(call.index, [])
        inputs = tuple(self._read([a.source for a in call.arguments]))
        if not used:
            return self._add_bond(call, inputs)
        for name in used:
            claim: Claim = "proved" if name in self._proved else "estimate"
            operation = Traced(call.operation, len(inputs), True, claim)
            inputs = (self._add(call.path, operation, inputs, name),)
        return inputs[0]

    def _add_bond(self, call: Call, inputs: tuple[int, ...]) -> int:
        bonded = bond_of(call, len(inputs))
        if not isinstance(bonded, Bonded):
            return self._add(
                call.path,
                Traced(call.operation, len(inputs), claim=bonded.claim, constant=bonded.constant),
                inputs,
            )
        return self._add_joined(call.path, bonded.bond.as_operation(), inputs, None)

    def _add_module(self, path: str, inputs: Sequence[Source]) -> int:
        """A module of modula's own, which is one operation."""
        module = self._model.get_submodule(path)
        if not isinstance(module, Primitive):
            raise TypeError(f"{path!r} is no primitive")
        name = self._trace.names.get(f"{path}.weight" if path else "weight")
        weight = name if name in self._found else None
        return self._add_joined(
            path, module.as_operation(), tuple(self._read(self._distinct(inputs))), weight
        )

    def _distinct(self, inputs: Sequence[Source]) -> list[Source]:
        """The inputs of a module, in which the parts of a tuple from one other module are one."""
        kept: dict[tuple[int, int], Source] = {}
        for i, source in enumerate(inputs):
            entry = self._trace.calls[source.call].entry if source.kind == "call" else -1
            is_part = entry >= 0 and all(
                other.value != source.value for other in kept.values() if other.call >= 0
            )
            kept.setdefault((entry, -1) if is_part else (i, 0), source)
        return list(kept.values())

    def _add_joined(
        self, path: str, operation: Operation, inputs: tuple[int, ...], weight: str | None
    ) -> int:
        """A node whose operation takes one value, a tuple of several inputs."""
        if len(inputs) != len(operation.sensitivities()):
            inputs = (self._add(path, Tuple(len(inputs)), inputs),)
        return self._add(path, operation, inputs, weight)

    def _add(
        self, path: str, operation: Operation, inputs: tuple[int, ...], weight: str | None = None
    ) -> int:
        self._nodes.append(Node(path, operation, inputs, weight))
        return len(self._nodes) - 1

    def _read(self, sources: Sequence[Source]) -> Iterator[int]:
        """The positions of the nodes that are read; parameters and constants are none."""
        for source in sources:
            position = 0 if source.kind == "input" else self._position.get(source.call)
            if position is not None:
                yield position
