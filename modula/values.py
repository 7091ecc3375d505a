"""Values that flow through a network: tensors, and tuples of values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, TypeVar

from torch import Tensor

Value: TypeAlias = "Tensor | tuple[Value, ...]"
"""An input or output of a network: a tensor, or a tuple of values."""

T = TypeVar("T")


def leaves(value: Value) -> Iterator[Tensor]:
    """Yield the tensors of a value, in order."""
    if isinstance(value, tuple):
        for entry in value:
            yield from leaves(entry)
    else:
        yield value


def map_leaves(f: Callable[[Tensor], Tensor], value: Value) -> Value:
    """Return the value with `f` applied to each of its tensors."""
    return rebuild(value, map(f, leaves(value)))


def rebuild(like: Value, tensors: Iterator[Tensor]) -> Value:
    """Return a value with the structure of `like`, from its tensors in order."""
    if isinstance(like, tuple):
        return tuple([rebuild(entry, tensors) for entry in like])
    return next(tensors)


def zip_leaves(f: Callable[[Tensor, Tensor], Tensor], one: Value, other: Value) -> Value:
    """Return the value of `f` on each pair of corresponding tensors of two values.

    Raises:
        ValueError: the values differ in structure.
    """
    return rebuild(one, iter([f(a, b) for a, b in zip(leaves(one), leaves(other), strict=True)]))
