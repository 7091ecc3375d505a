"""Values that flow through a network: tensors, and tuples of values. One recursion for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, TypeVar

from torch import Tensor

Value: TypeAlias = "Tensor | tuple[Value, ...]"
"""What a network maps: a tensor, or a tuple of values."""

T = TypeVar("T")


def leaves(value: Value) -> Iterator[Tensor]:
    """Yield the tensors of a value, in order."""
    if isinstance(value, tuple):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def map_leaves(f: Callable[[Tensor], Tensor], value: Value) -> Value:
    """Return the value with `f` applied to each of its tensors."""
    return rebuild(value, map(f, leaves(value)))


def rebuild(like: Value, tensors: Iterator[Tensor]) -> Value:
    """Return a value of the structure of `like` from tensors in order."""
    if isinstance(like, tuple):
        return tuple([rebuild(part, tensors) for part in like])
    return next(tensors)


def zip_leaves(f: Callable[[Tensor, Tensor], Tensor], one: Value, other: Value) -> Value:
    """Return the value of `f` on each tensor of `one` and its counterpart in `other`.

    Raises:
        ValueError: the values differ in structure.
    """
    return rebuild(one, iter([f(a, b) for a, b in zip(leaves(one), leaves(other), strict=True)]))
