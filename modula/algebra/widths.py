"""The widths of an atom: of its weight, its spaces and its input."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

from torch import Tensor

from modula.norms import Dense, Norm
from modula.spaces import AnySpace, Signature, Space, meet
from modula.tensors import check_tensor


def whole_numbers(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a weight in Python's integers.

    Args:
        name: of its class, for errors.
        shape: of the weight.

    Raises:
        ValueError: a width is not a whole number, or below 1.
    """
    try:
        widths = tuple([index(width) for width in shape if not isinstance(width, bool)])
    except TypeError:
        widths = ()
    if len(widths) != len(shape) or any(width < 1 for width in widths):
        raise ValueError(f"{name} takes widths of at least 1, got a weight of shape {list(shape)}")
    return widths


def atom_signature(
    name: str,
    declared: Signature,
    norms: tuple[type[Norm] | None, type[Norm] | None],
    widths: tuple[int | None, int | None],
) -> Signature:
    """Return the spaces of an atom, domain first.

    Args:
        name: of its class, for errors.
        declared: the spaces that the class names.
        norms: the norm types passed to the atom, or None where the class names them.
        widths: of its input and output, or None where they are not known.

    Raises:
        TypeError: a norm type is passed and another one named by the class.
    """
    if any(norm and isinstance(space, Space) for norm, space in zip(norms, declared, strict=True)):
        raise TypeError(
            f"{name} maps {declared[0]} to {declared[1]} by its class and takes no domain or "
            "codomain"
        )
    domain, codomain = map(_space, norms, declared, widths)
    return domain, codomain


def _space(norm: type[Norm] | None, declared: AnySpace, width: int | None) -> AnySpace:
    width = None if width is None else index(width)
    if norm is not None:
        return Space(norm, width)
    if not isinstance(declared, Space):
        return declared
    return meet(declared, Space(declared.norm, width))


def check_width(owner: object, space: AnySpace, x: Tensor) -> None:
    """Raise if the measured axis of an input is not as wide as the space.

    Raises:
        TypeError: `x` is not a tensor.
        ValueError: names the owner, its space and the shape of `x`.
    """
    if not (isinstance(space, Space) and issubclass(space.norm, Dense) and space.width is not None):
        return
    check_tensor(owner, x)
    if not _has_width(x, space.norm.axis, space.width):
        raise ValueError(
            f"{owner!r} takes {space}, the width on axis {space.norm.axis}; got a tensor of "
            f"shape {list(x.shape)}"
        )


def _has_width(x: Tensor, axis: int, width: int) -> bool:
    return -x.dim() <= axis < x.dim() and x.shape[axis] == width
