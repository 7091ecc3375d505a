"""Weights, updates and gradients: three kinds of the same list of tensors, kept apart because they
live in different spaces.

Weights are a point. An update is a displacement, in the primal space. A gradient is a linear
function of displacements, in the dual space: it can be paired with an update (`gradient @ update`)
but not added to anything except gradients. `model.dualize` is the only way across.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, NoReturn, Self, TypeAlias, TypeVar, cast, overload

import torch
from torch import Tensor

from modula.checks import is_number, listed
from modula.errors import LayoutError
from modula.scaling import working_dtype
from modula.sharding import (
    all_to_local,
    all_to_local_like,
    dot,
    entrywise,
    from_local_like,
    to_full,
)

Scalar: TypeAlias = "int | float | Tensor"
"""A Python number or a tensor with no axes."""

Operator = TypeVar("Operator", bound=Callable[..., object])


class Vector:
    """Named tensors in the order of `model.parameters()`. The common part of `Weights`, `Update`
    and `Gradient`.

    Args:
        tensors: floating-point tensors by parameter name, in parameter order.

    Raises:
        TypeError: a tensor is not of floating-point dtype.
    """

    __slots__ = ("names", "tensors")
    __array_ufunc__ = None  # so that a NumPy scalar on the left leaves the product to __rmul__

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                got = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
                raise TypeError(
                    f"{type(self).__name__} holds floating-point tensors, got {got} for {name!r}"
                )
        self.names = tuple(tensors)
        self.tensors = tuple(tensors.values())

    @classmethod
    def from_tensors(cls, names: tuple[str, ...], tensors: Sequence[Tensor]) -> Self:
        """Return a vector of these tensors, which are not checked.

        Args:
            names: of the parameters, in parameter order.
            tensors: floating-point tensors, one for each name.
        """
        made = cls.__new__(cls)
        made.names, made.tensors = names, tuple(tensors)
        return made

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors with their parameters' names, in parameter order."""
        return zip(self.names, self.tensors, strict=True)

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of the parameter called `name`.

        Raises:
            KeyError: there is no such parameter.
        """
        try:
            return self.tensors[self.names.index(name)]
        except ValueError:
            raise KeyError(f"no parameter {name!r}; there are {listed(self.names)}") from None

    def __len__(self) -> int:
        return len(self.tensors)

    def clone(self) -> Self:
        """A copy that shares no memory with this one."""
        return self.from_tensors(self.names, [t.detach().clone() for t in self.tensors])

    def __repr__(self) -> str:
        lines = [
            f"  {name}: {list(t.shape)} {str(t.dtype).removeprefix('torch.')} {t.device}"
            for name, t in self.items()
        ]
        shown = (
            lines if len(lines) <= 12 else [*lines[:6], f"  … {len(lines) - 11} more", *lines[-5:]]
        )
        return "\n".join([f"{type(self).__name__} of {len(self)} tensors", *shown])

    # __eq__ stays identity: comparing tensors entry by entry under == would surprise either way.

    def _aligned(self, other: Vector, operation: str) -> None:
        """Refuse to combine two vectors unless they have the same names and shapes.

        Raises:
            LayoutError: they belong to different models.
        """
        if self.names != other.names:
            ours, theirs = set(self.names) - set(other.names), set(other.names) - set(self.names)
            difference = (
                f"only the first has {listed(sorted(ours))}; only the second has "
                f"{listed(sorted(theirs))}"
            )
            raise LayoutError(f"{operation}: these belong to different models: {difference}")
        for name, a, b in zip(self.names, self.tensors, other.tensors, strict=True):
            if a.shape != b.shape:
                raise LayoutError(
                    f"{operation}: these belong to different models: {name!r} is {list(a.shape)} "
                    f"in one and {list(b.shape)} in the other"
                )

    def _mixed(self, other: object, operation: str) -> NoReturn:
        """Raise the TypeError that says why `self operation other` has no meaning, and what to do
        instead.
        """
        mine, theirs = type(self).__name__, type(other).__name__
        raise TypeError(
            f"{mine} {operation} {theirs} has no meaning: {_advice(mine, theirs, operation)}"
        )


def _advice(mine: str, theirs: str, operation: str) -> str:
    kinds = {mine, theirs}
    if operation == "@":
        return "the pairing takes a gradient and an update, as gradient @ update"
    if kinds == {"Weights", "Gradient"}:
        return "a gradient is a dual vector; map it with model.dualize(grad) first"
    if kinds == {"Update", "Gradient"}:
        return "one is primal, the other dual; map the gradient with model.dualize(grad) first"
    if kinds == {"Weights"}:
        return (
            "weights are points, which have differences but no sum; to average two models take w1 "
            "+ 0.5 * (w2 - w1)"
        )
    if kinds == {"Weights", "Update"}:
        return "an update moves weights: write weights + update or weights - update"
    if "Weights" in kinds:
        return "weights are a point and have no multiples; scale the update that moves them"
    return f"{mine} can be added to {mine} and multiplied by a number"


def _without_grad(operator: Operator) -> Operator:
    """`torch.no_grad` for an operator: torch.compile (2.13) does not look through torch's own
    decorator there.
    """

    @wraps(operator)
    def run(left: object, right: object) -> object:
        with torch.no_grad():
            return operator(left, right)

    return cast("Operator", run)


def _is_scalar(value: object) -> bool:
    return value.dim() == 0 if isinstance(value, Tensor) else is_number(value)


class LinearVector(Vector):
    """A vector space: sums of its own kind, and multiples by a scalar, in place too. The common
    part of `Update` and `Gradient`.
    """

    __slots__ = ()

    def zeros_like(self) -> Self:
        """The zero vector of the same space."""
        return self.from_tensors(self.names, [torch.zeros_like(t) for t in self.tensors])

    @_without_grad
    def __add__(self, other: Self) -> Self:
        self._same_kind(other, "+")
        return self.from_tensors(
            self.names, entrywise(torch._foreach_add, self.tensors, other.tensors)
        )

    @_without_grad
    def __sub__(self, other: Self) -> Self:
        self._same_kind(other, "-")
        return self.from_tensors(
            self.names, entrywise(torch._foreach_sub, self.tensors, other.tensors)
        )

    @_without_grad
    def __iadd__(self, other: Self) -> Self:
        self._same_kind(other, "+=")
        torch._foreach_add_(
            all_to_local(self.tensors), all_to_local_like(other.tensors, self.tensors)
        )
        return self

    @_without_grad
    def __isub__(self, other: Self) -> Self:
        self._same_kind(other, "-=")
        torch._foreach_sub_(
            all_to_local(self.tensors), all_to_local_like(other.tensors, self.tensors)
        )
        return self

    @_without_grad
    def __mul__(self, scalar: Scalar) -> Self:
        factor = self._by_scalar(scalar, "*")
        return self.from_tensors(
            self.names,
            from_local_like(torch._foreach_mul(all_to_local(self.tensors), factor), self.tensors),
        )

    def __rmul__(self, scalar: Scalar) -> Self:
        return self * scalar

    @_without_grad
    def __imul__(self, scalar: Scalar) -> Self:
        factor = self._by_scalar(scalar, "*=")
        torch._foreach_mul_(all_to_local(self.tensors), factor)
        return self

    @_without_grad
    def __truediv__(self, scalar: Scalar) -> Self:
        factor = self._by_scalar(scalar, "/")
        return self.from_tensors(
            self.names,
            from_local_like(torch._foreach_div(all_to_local(self.tensors), factor), self.tensors),
        )

    @_without_grad
    def __itruediv__(self, scalar: Scalar) -> Self:
        factor = self._by_scalar(scalar, "/=")
        torch._foreach_div_(all_to_local(self.tensors), factor)
        return self

    def __neg__(self) -> Self:
        return self * -1.0

    def __pos__(self) -> Self:
        return self

    def _same_kind(self, other: object, operation: str) -> None:
        if type(other) is not type(self):
            self._mixed(other, operation)
        self._aligned(
            cast("Vector", other), f"{type(self).__name__} {operation} {type(self).__name__}"
        )

    def _by_scalar(self, scalar: Scalar, operation: str) -> float | Tensor:
        """The scalar as torch takes it."""
        if not _is_scalar(scalar):
            self._mixed(scalar, operation)
        return to_full(scalar) if isinstance(scalar, Tensor) else float(scalar)


class Update(LinearVector):
    """A displacement of the weights: what `model.dualize` returns, and what is subtracted from
    `model.weights`.
    """

    __slots__ = ()

    # to a checker an update has no pairing of its own; at run time the refusal says how it is
    # written
    if not TYPE_CHECKING:

        def __matmul__(self, other: object) -> NoReturn:
            self._mixed(other, "@")


class Gradient(LinearVector):
    """The derivative of a loss: a linear function of updates, in the dual of their space.

    Build one from tensors of your own with `Gradient({name: tensor, …})`, names and order as in
    `model.weights.items()`.
    """

    __slots__ = ()

    @_without_grad
    def __matmul__(self, update: Update) -> Tensor:
        """The pairing <g, u>: the first-order change of the loss under `update`, as a scalar tensor
        (float32 at least).
        """
        if not isinstance(update, Update):
            self._mixed(update, "@")
        self._aligned(update, "Gradient @ Update")
        if not self.tensors:
            return torch.zeros(())
        home = self.tensors[0].device
        return torch.stack(
            [total.to(home) for total in dot(self.tensors, update.tensors, _pair)]
        ).sum()


def _pair(g: Tensor, u: Tensor) -> Tensor:
    dtype = working_dtype(torch.promote_types(g.dtype, u.dtype))
    return (g.to(dtype) * u.to(dtype)).sum()


class Weights(Vector):
    """The weights of a model: a point in weight space. `model.weights` is a live view, whose
    tensors are the parameters.

    `weights ± update` is a new point, `weights - weights` is the update between two points, and
    `weights -= update` writes the parameters in place.
    """

    __slots__ = ()

    @_without_grad
    def __add__(self, update: Update) -> Weights:
        self._moved_by(update, "+")
        return Weights.from_tensors(
            self.names, entrywise(torch._foreach_add, self.tensors, update.tensors)
        )

    @overload
    def __sub__(self, other: Update) -> Weights: ...
    @overload
    def __sub__(self, other: Weights) -> Update: ...
    @_without_grad
    def __sub__(self, other: Update | Weights) -> Weights | Update:
        if isinstance(other, Weights):
            self._aligned(other, "Weights - Weights")
            return Update.from_tensors(
                self.names, entrywise(torch._foreach_sub, self.tensors, other.tensors)
            )
        self._moved_by(other, "-")
        return Weights.from_tensors(
            self.names, entrywise(torch._foreach_sub, self.tensors, other.tensors)
        )

    @_without_grad
    def __iadd__(self, update: Update) -> Self:
        self._moved_by(update, "+=")
        torch._foreach_add_(
            all_to_local(self.tensors), all_to_local_like(update.tensors, self.tensors)
        )
        return self

    @_without_grad
    def __isub__(self, update: Update) -> Self:
        self._moved_by(update, "-=")
        torch._foreach_sub_(
            all_to_local(self.tensors), all_to_local_like(update.tensors, self.tensors)
        )
        return self

    @torch.no_grad()
    def copy_(self, other: Weights) -> Self:
        """Write the values of `other` into these tensors.

        Raises:
            TypeError: `other` is no Weights.
            LayoutError: `other` belongs to another model. Nothing is written.
        """
        if not isinstance(other, Weights):
            self._mixed(other, ".copy_")
        self._aligned(other, "Weights.copy_")
        torch._foreach_copy_(
            all_to_local(self.tensors), all_to_local_like(other.tensors, self.tensors)
        )
        return self

    def _moved_by(self, update: object, operation: str) -> None:
        if not isinstance(update, Update):
            self._mixed(update, operation)
        self._aligned(update, f"Weights {operation} Update")

    # to a checker weights have no products; at run time the refusal says what to do
    if not TYPE_CHECKING:

        def __mul__(self, other: object) -> NoReturn:
            self._mixed(other, "*")

        def __rmul__(self, other: object) -> NoReturn:
            self._mixed(other, "*")

        def __truediv__(self, other: object) -> NoReturn:
            self._mixed(other, "/")

        def __matmul__(self, other: object) -> NoReturn:
            self._mixed(other, "@")
