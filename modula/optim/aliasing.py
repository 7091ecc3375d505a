"""Gradients and updates that share memory with what a step writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from modula.sharding import all_to_local


def apart(tensors: Sequence[Tensor], written: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors, with a copy in place of each that shares memory with a written one.

    A rule scales its average before it adds the gradient. If someone has set `.grad` to the average
    itself, or to a view of it, the scaled average would be added in place of the gradient. So it is
    with the weights and an update that a rule has not made anew.

    A compiled step makes no copies, since torch.compile does not trace where memory lies.

    Args:
        tensors: dense tensors or DTensors.
        written: what the step changes in place before it has read the tensors for the last time, or
            what it must not change when it changes the tensors.
    """
    if torch.compiler.is_compiling():
        return list(tensors)
    memory = {_memory_of(t) for t in all_to_local(list(written))}
    return [
        t.clone() if _memory_of(local) in memory else t
        for t, local in zip(tensors, all_to_local(tensors), strict=True)
    ]


def _memory_of(t: Tensor) -> int:
    """Return a number for the memory that a tensor is a view of, a fake tensor's too.

    It holds while the tensor lives.
    """
    return int(t.untyped_storage()._cdata)
