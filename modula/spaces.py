"""Run-time spaces: norm types with their widths, and their unification.

A space may be known in part. Where two modules are composed, `meet` combines what each knows of
the space between them, and raises a `MismatchError` if no space satisfies both.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from modula.errors import MismatchError
from modula.norms import Dense, Norm
from modula.values import Value


@dataclass(frozen=True, slots=True)
class Space:
    """A norm type, and the length of its measured axis, or None if that is unknown."""

    norm: type[Norm]
    width: int | None = None

    def __str__(self) -> str:
        return self.norm.__name__ if self.width is None else f"{self.norm.__name__}({self.width})"


@dataclass(frozen=True, slots=True)
class Product:
    """A tuple of spaces. The norm of a value is the sum of its entries' norms."""

    parts: tuple[AnySpace, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.parts))})"


@dataclass(frozen=True, slots=True)
class Unknown:
    """The space of a bond that adopts its neighbour's space, before it has a neighbour."""

    dense: bool = False

    def __str__(self) -> str:
        return "any dense space" if self.dense else "any space"


AnySpace: TypeAlias = Space | Product | Unknown

Signature: TypeAlias = tuple[AnySpace, AnySpace]
"""The domain and the codomain of a map, as far as they are known."""

ANYTHING = Unknown()
ANY_DENSE = Unknown(dense=True)


def meet(one: AnySpace, other: AnySpace) -> AnySpace:
    """Return the space that satisfies both descriptions, as far as they determine it.

    Raises:
        MismatchError: no space satisfies both.

    Example:
        >>> from modula import RMS
        >>> from modula.spaces import ANYTHING, Space, meet
        >>> str(meet(Space(RMS), Space(RMS, 64))), str(meet(ANYTHING, Space(RMS)))
        ('RMS(64)', 'RMS')
    """
    if one == other:
        return one
    if isinstance(one, Unknown):
        return _narrow_unknown(one, other)
    if isinstance(other, Unknown):
        return _narrow_unknown(other, one)
    if (
        isinstance(one, Product)
        and isinstance(other, Product)
        and len(one.parts) == len(other.parts)
    ):
        return Product(tuple(meet(a, b) for a, b in zip(one.parts, other.parts, strict=True)))
    if (
        isinstance(one, Space)
        and isinstance(other, Space)
        and one.norm is other.norm
        and None in (one.width, other.width)
    ):
        return Space(one.norm, one.width if other.width is None else other.width)
    raise MismatchError(f"{one} is not {other}")


def _narrow_unknown(unknown: Unknown, known: AnySpace) -> AnySpace:
    if not unknown.dense:
        return known
    if isinstance(known, Unknown):
        return unknown
    if isinstance(known, Space) and issubclass(known.norm, Dense):
        return known
    raise MismatchError(f"{known} holds no real vectors")


def check_linear(space: AnySpace) -> None:
    """Raise if a space has values that can be neither added nor multiplied by numbers, such as ids.

    Raises:
        MismatchError: names the space.
    """
    if isinstance(space, Product):
        for part in space.parts:
            check_linear(part)
    elif isinstance(space, Space) and not issubclass(space.norm, Dense):
        raise MismatchError(f"{space} can be neither added nor multiplied by a number")


def space_of(annotation: object) -> AnySpace | None:
    """Return the space of a type argument, such as `RMS` or `tuple[RMS, RMS]`.

    Returns:
        None for a type variable, and for whatever is not a norm type.
    """
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return Space(annotation) if issubclass(annotation, Norm) else None
    if typing.get_origin(annotation) is tuple:
        parts = [space_of(part) for part in typing.get_args(annotation)]
        known = [part for part in parts if part is not None]
        return Product(tuple(known)) if len(known) == len(parts) else None
    return None


def measure(space: AnySpace, value: Value) -> Tensor:
    """Return the norm of a value, as a scalar tensor; for a product, the sum over its entries.

    Args:
        space: of the value, such as `module.codomain`.
        value: a tensor, or for a product a tuple of values.

    Raises:
        TypeError: `value` is a tuple and `space` is not a product of as many spaces, or the other
            way round; or the space is unknown.

    Example:
        >>> import torch
        >>> from modula import Linear
        >>> from modula.spaces import measure
        >>> measure(Linear(2, 3).domain, torch.ones(5, 3))
        tensor(1.)
    """
    if isinstance(space, Product) and isinstance(value, tuple) and len(value) == len(space.parts):
        return torch.stack([measure(s, v) for s, v in zip(space.parts, value, strict=True)]).sum()
    if isinstance(space, Space) and isinstance(value, Tensor):
        return space.norm.measure(value)
    got = "a tensor" if isinstance(value, Tensor) else f"a tuple of {len(value)}"
    raise TypeError(f"cannot measure {got} in the space {space}")


def arrow(signature: Signature) -> str:
    """Return a signature as text, as errors and the printed tree have it."""
    return f"{signature[0]} → {signature[1]}"
