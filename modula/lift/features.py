"""Which features of a fused projection are read apart, found by replaying the run on labels.

A projection to query, key and value is one matrix whose output is cut into three. The operations
between that output and its first readers only rearrange entries. Run again on integers that number
the features, they show which features each reader gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import torch
from torch import Tensor

from modula.errors import LiftError
from modula.lift.trace import IDENTITIES, Argument, Call, Trace

LARGEST = 2**27
"""The most entries of an output whose features are followed."""

_WITH_CONSTANT = IDENTITIES | frozenset(["add", "sub", "mul", "div"])
"""Operations that keep features apart if their other arguments are parameters or constants."""

Labels = Mapping[int, Tensor]


class Features:
    """The features of the outputs of a run's calls."""

    def __init__(self, trace: Trace) -> None:
        self._readers = trace.readers()

    def cuts(self, call: Call, axis: int) -> tuple[int, ...]:
        """Return the positions at which readers cut the features of a call's output.

        Args:
            call: with one output.
            axis: of the output, along which its features extend.

        Returns:
            Positions in ascending order, without 0 and the width; none if a reader gets all
            features. Features of readers that share some are not cut apart.

        Raises:
            LiftError: the output has more than `LARGEST` entries.
        """
        groups: list[set[int]] = []
        width = call.shapes[0][axis]
        for read in self._reads(call, axis):
            group = set(torch.unique(read).tolist())
            apart = [other for other in groups if other.isdisjoint(group)]
            shared = [other for other in groups if not other.isdisjoint(group)]
            groups = [*apart, group.union(*shared)]
            if len(group) == width:
                return ()
        return tuple(sorted({edge for group in groups for edge in _edges(group)} - {0, width}))

    def _reads(self, call: Call, axis: int) -> list[Tensor]:
        """The labels that each reader gets which does more than rearrange them."""
        shape, value = call.shapes[0], call.outputs[0]
        readers = self._readers.get(value, [])
        if not any(_passes_on(r, a) or r.operation == "glu" for r, a in readers):
            return []
        if torch.Size(shape).numel() > LARGEST:
            raise LiftError(
                f"the output of {call.operation} in {call.path!r} has shape {list(shape)}, too "
                "large to follow which features are read apart: lift with a shorter example input"
            )
        at = [1] * len(shape)
        at[axis] = shape[axis]
        numbers = torch.arange(shape[axis], dtype=torch.int32, device="cpu").view(at)
        labels = {value: numbers.expand(shape).contiguous()}
        reads: list[Tensor] = []
        waiting = list(readers)  # each after the calls that made what it reads
        while waiting:
            reader, argument = waiting.pop(0)
            made = _replayed(reader, argument, labels)
            if made is None:
                reads += _read_by(reader, labels[argument.source.value])
                continue
            for output, label in zip(reader.outputs, made, strict=True):
                labels[output] = label
                waiting += self._readers.get(output, [])
        return reads


def _passes_on(reader: Call, argument: Argument) -> bool:
    """Whether a reader may hand on entries as they are."""
    if reader.again is not None:
        return True
    others = [a for a in reader.arguments if a is not argument]
    return (
        reader.operation in _WITH_CONSTANT
        and reader.shapes[0] == argument.shape
        and all(other.source.kind in ("parameter", "constant") for other in others)
    )


def _replayed(reader: Call, argument: Argument, labels: Labels) -> list[Tensor] | None:
    """The labels of a reader's outputs; None if it does more than rearrange entries."""
    if not _passes_on(reader, argument):
        return None
    if reader.again is None:
        return [labels[argument.source.value]]
    if any(a.source.value not in labels for a in reader.arguments):
        return None
    try:
        made = reader.again.on(labels)
    except RuntimeError:  # a view that the strides of the labels do not allow
        return None
    if len(made) != len(reader.outputs):
        return None
    before = labels[argument.source.value]
    if made[0].dtype == before.dtype:
        return made
    # A cast, which would round the labels.
    return [before] if made[0].shape == before.shape else None


def _read_by(reader: Call, labels: Tensor) -> Sequence[Tensor]:
    """The labels that a reader treats alike: a gated linear unit reads two halves."""
    if reader.operation == "glu":
        return labels.chunk(2, reader.number("dim", reader.number("1", -1)))
    return [labels]


def _edges(group: Set[int]) -> list[int]:
    """The first of each run of consecutive numbers, and the one after its last."""
    return [n for n in group if n - 1 not in group] + [n + 1 for n in group if n + 1 not in group]
