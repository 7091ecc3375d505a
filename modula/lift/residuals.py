"""Residual sums, x + f(x), in a traced run: how many a stream has in a row, and their writers.

A residual sum adds to a tensor, the stream, what operations with weights make of that same tensor,
the branch. The sums of a stream follow each other with no weight and no normalisation between them.
The last weights of a branch write into the stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from modula.lift.trace import IDENTITIES, LAYOUTS, Source, Trace
from modula.lift.uses import Measured

_PASSED = LAYOUTS | IDENTITIES | frozenset(["relu"])
"""Operations between one sum of a stream and the next."""

_GATES = frozenset(["softmax", "sigmoid", "topk"])
"""Operations whose output has a size of its own, as the gates of experts have."""

_ENDS = frozenset(["matrix", "table", "gain"])
"""Kinds of weights with which a branch ends; biases are added after them."""


@dataclass(frozen=True)
class ResidualSum:
    """One sum x + a·f(x) of a run.

    Args:
        path: of the module whose forward method adds.
        factor: a, a number by which the model multiplies the branch.
        writers: the last weights of the branch.
        in_a_row: the number of sums that the stream has.
    """

    path: str
    factor: float
    writers: tuple[str, ...]
    in_a_row: int

    @property
    def proposed(self) -> float:
        """The factor with which one rate serves all depths: 2/N for N > 2 sums in a row.

        A network of blocks of two sums has 1 over the number of its blocks.
        """
        return min(1.0, 2 / self.in_a_row)


def residual_sums(trace: Trace, norms: Mapping[str, Measured]) -> tuple[ResidualSum, ...]:
    """Return the residual sums of a run, in the order in which they happen.

    A sum whose stream is multiplied too, as the average (1 − a)·x + a·f(x) is, is none of these.

    Args:
        trace: of the run.
        norms: the weights with their uses.
    """
    finder = _Finder(trace, norms)
    found: dict[int, ResidualSum] = {}
    first: dict[int, int] = {}
    for index in trace.reached():
        for stream, branch in finder.operands(index):
            one = finder.residual(index, stream, branch)
            if one is None:
                continue
            before = [call for call in finder.passed(stream).calls if call in found]
            first[index] = first[before[0]] if before else index
            found[index] = one
            break
    rows = list(first.values())
    return tuple([replace(one, in_a_row=rows.count(first[i])) for i, one in found.items()])


@dataclass(frozen=True)
class _Passed:
    """The tensors that are one up to arrangement and a factor, from a source backwards.

    Args:
        values: the numbers of the tensors.
        calls: that made them; -1 for an input.
        factor: the product of the numbers by which they are multiplied.
    """

    values: tuple[int, ...]
    calls: tuple[int, ...]
    factor: float


class _Finder:
    def __init__(self, trace: Trace, norms: Mapping[str, Measured]) -> None:
        self._calls = trace.calls
        self._ends: dict[int, list[str]] = {}
        for name, one in norms.items():
            for use in one.uses:
                if _ENDS.intersection(one.kinds):
                    self._ends.setdefault(use.call.index, []).append(name)

    def operands(self, index: int) -> Iterator[tuple[Source, Source]]:
        """Both orders of the two tensors that a call adds; none for another call."""
        call = self._calls[index]
        added = [a for a in call.arguments if a.is_floating and " " not in a.slot]
        if call.operation != "add" or len(added) != 2 or added[0].shape != added[1].shape:
            return
        first, second = added[0].source, added[1].source
        if {first.kind, second.kind} <= {"call", "input"}:
            yield first, second
            yield second, first

    def residual(self, index: int, stream: Source, branch: Source) -> ResidualSum | None:
        """The sum of these, if the branch has weights and depends on the stream."""
        before, after = self.passed(stream), self.passed(branch)
        if before.factor != 1.0 or after.values[-1] in before.values:
            return None
        writers = self._last_weights(after.calls[-1], before)
        if not writers or not self._depends(branch, before):
            return None
        return ResidualSum(self._calls[index].path, after.factor, writers, 1)

    def passed(self, source: Source) -> _Passed:
        values, calls, factor = [source.value], [source.call], 1.0
        while source.kind == "call":
            call = self._calls[source.call]
            tensors = [a.source for a in call.arguments if a.is_floating]
            number = call.factor()
            if len(tensors) != 1 or not (call.operation in _PASSED or number is not None):
                break
            source, factor = tensors[0], factor * (1.0 if number is None else number)
            values.append(source.value)
            calls.append(source.call)
        return _Passed(tuple(values), tuple(calls), factor)

    def _depends(self, branch: Source, stream: _Passed) -> bool:
        return any(True for call in self._between(branch.call, stream) if call < 0)

    def _last_weights(self, last: int, stream: _Passed) -> tuple[str, ...]:
        """The weights nearest to the end of a branch on each path to it."""
        found: dict[str, None] = {}
        for call in self._between(last, stream, through_weights=False):
            found |= dict.fromkeys(self._ends.get(call, ()))
        return tuple(found)

    def _between(
        self, last: int, stream: _Passed, *, through_weights: bool = True
    ) -> Iterator[int]:
        """The calls from the end of a branch back to the stream, and -1 where it is met."""
        least = min(stream.calls)
        seen: set[int] = set()
        waiting = [last]
        while waiting:
            index = waiting.pop()
            if index in seen or index < 0:
                continue
            seen.add(index)
            yield index
            call = self._calls[index]
            if not through_weights and (index in self._ends or call.operation in _GATES):
                continue
            for source in [a.source for a in call.arguments if a.is_floating]:
                if source.value in stream.values:
                    yield -1
                elif source.kind == "call" and source.call > least:
                    waiting.append(source.call)
