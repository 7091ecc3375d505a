"""Weights, updates and gradients: lists of tensors of one layout and of three types.

Weights are a point. An update is a displacement, in the primal space. A gradient is a linear
function of displacements, in the dual space: it can be paired with an update (`gradient @ update`)
and added to gradients, and nothing else. `model.dualize` maps the dual space to the primal one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, NoReturn, Self, TypeAlias, TypeVar, cast, overload

import torch
from torch import Tensor
from torch.masked import MaskedTensor

from modula.checks import LARGEST, is_number, listed
from modula.errors import LayoutError
from modula.scaling import working_dtype
from modula.sharding import (
    Pairwise,
    all_to_local,
    all_to_local_like,
    dot,
    entrywise,
    from_local_like,
    to_full,
)

Scalar: TypeAlias = "int | float | Tensor"
"""A Python number or a tensor with no axes."""

Addend = TypeVar("Addend", bound="Vector")

TRAINABLE = frozenset({torch.float32, torch.bfloat16, torch.float16, torch.float64})
"""The dtypes for which there is a duality map."""


class Vector:
    """Named tensors in the order of `model.parameters()`, the base of all three types.

    Args:
        tensors: floating-point tensors by parameter name, in parameter order.

    Raises:
        TypeError: not a mapping, such as another vector, or a tensor is not a dense one of
            floating-point numbers of 16 bits or more.
    """

    __slots__ = ("names", "tensors")
    __array_ufunc__ = None  # so that a NumPy scalar on the left leaves the product to __rmul__

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        if not isinstance(tensors, Mapping):
            _refuse_content(type(self).__name__, tensors)
        for name, tensor in tensors.items():
            check_kind(type(self).__name__, name, tensor)
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
        """Return pairs of name and tensor, in parameter order."""
        return zip(self.names, self.tensors, strict=True)

    def __getitem__(self, name: str) -> Tensor:
        """Return the tensor of the parameter `name`.

        Raises:
            KeyError: there is no such parameter.
        """
        try:
            return self.tensors[self.names.index(name)]
        except ValueError:
            raise KeyError(f"no parameter {name!r}; there are {listed(self.names)}") from None

    def __len__(self) -> int:
        return len(self.tensors)

    def __iter__(self) -> Iterator[str]:
        """Return the names of the parameters, in parameter order."""
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def keys(self) -> Iterator[str]:
        """Return the names, so that `dict(vector)` holds the tensors by name."""
        return iter(self)

    def clone(self) -> Self:
        """Return a copy that shares no memory with this vector."""
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

    # == compares identity: there is no entrywise comparison of vectors.

    def _check_layout(self, other: Vector, operation: str) -> None:
        """Raise if two vectors differ in names or shapes, or one has no entries.

        Raises:
            LayoutError: they belong to different models, or to a model and its copy on "meta".
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
            if a.is_meta != b.is_meta:  # torch would add nothing, without a word
                raise LayoutError(
                    f"{operation}: {name!r} is on {a.device} in one and on {b.device} in the "
                    "other, and tensors on the meta device have no entries"
                )

    def _refuse(self, other: object, operation: str) -> NoReturn:
        """Raise since `self operation other` has no meaning, with an expression that has one."""
        mine, theirs = type(self).__name__, type(other).__name__
        raise TypeError(
            f"{mine} {operation} {theirs} has no meaning: {_advice(mine, theirs, operation)}"
        )


def is_trainable(t: Tensor) -> bool:
    """Return whether this is a dense tensor of floating-point numbers of 16 bits or more."""
    return (
        t.dtype in TRAINABLE
        and not t.is_nested
        and t.layout is torch.strided
        and not isinstance(t, MaskedTensor)
    )


def kind_of(value: object) -> tuple[str, str]:
    """Return the kind of a value that is not trainable, and what to do about it, as text."""
    if not isinstance(value, Tensor):
        return type(value).__name__, "make a tensor of it"
    if isinstance(value, MaskedTensor):
        return "a MaskedTensor", "fill it, as in value.to_tensor(0)"
    if value.is_nested:
        return "a nested tensor", "pad it, as in value.to_padded_tensor(0)"
    if value.layout is not torch.strided:
        return f"a tensor of layout {value.layout}", "take its .to_dense()"
    return f"a tensor of dtype {value.dtype}", "convert it with .float()"


def _refuse_content(kind: str, content: object) -> NoReturn:
    """Raise a TypeError that says how to name the tensors of a vector."""
    advice = "such as dict(model.named_parameters())"
    if isinstance(content, Vector):
        advice = f"and {kind}(dict(...)) takes the tensors of another kind as they are"
    raise TypeError(
        f"{kind} takes a mapping of parameter names to tensors, got {type(content).__name__}: give "
        f"a dict, {advice}"
    )


def check_kind(owner: str, name: str, value: object) -> None:
    """Raise if an entry of a vector is not a dense tensor of floating-point numbers.

    Args:
        owner: the vector, as text.
        name: of the entry.
        value: any value.

    Raises:
        TypeError: names the entry and its kind.
    """
    if isinstance(value, Tensor) and is_trainable(value):
        return
    got, way_out = kind_of(value)
    raise TypeError(
        f"{owner} takes floating-point tensors, got {got} for {name!r}: {way_out}; the tensors are "
        "dense, of 16 bits or more"
    )


def check_length(name: str, value: object) -> None:
    """Raise if this is not a norm that an update can have. The value of a tensor is not read.

    Args:
        name: of the argument.
        value: any value.

    Raises:
        TypeError: neither a number nor a tensor.
        ValueError: a number beyond the range of float32, or a tensor with axes.
    """
    if isinstance(value, Tensor):
        if value.dim():
            raise ValueError(
                f"{name} as a tensor has no axes, got the shape {list(value.shape)}: write "
                "torch.tensor(0.1)"
            )
    elif not is_number(value):
        raise TypeError(f"{name} is a number or a tensor without axes, got {type(value).__name__}")
    elif not abs(value) <= LARGEST:
        raise ValueError(f"{name} is a number of at most {LARGEST:.1e}, got {value!s:.40}")


def dense(gradient: Tensor) -> Tensor:
    """Return a gradient as a dense tensor: that of `Embedding(sparse=True)` is a sparse one."""
    return gradient.to_dense() if gradient.layout is torch.sparse_coo else gradient


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


def _foreach(
    operation: Callable[..., Sequence[Tensor] | None], tensors: list[Tensor], other: object
) -> Sequence[Tensor]:
    """The result of one of torch's foreach operations, which refuse an empty list."""
    if not tensors:
        return ()
    return operation(tensors, other) or ()


# A block, since torch.compile (2.13) does not trace through torch.no_grad as a decorator.


def _paired(operation: Pairwise, left: Vector, right: Vector) -> Sequence[Tensor]:
    """The entries of a sum or a difference."""
    with torch.no_grad():
        return entrywise(operation, left.tensors, right.tensors)


def _pair_in_place(operation: Callable[..., None], left: Vector, right: Vector) -> None:
    with torch.no_grad():
        _foreach(
            operation,
            all_to_local(left.tensors),
            all_to_local_like(right.tensors, left.tensors),
        )


def _scaled(
    operation: Callable[..., Sequence[Tensor]], vector: Vector, factor: float | Tensor
) -> Sequence[Tensor]:
    """The entries of a multiple."""
    with torch.no_grad():
        shards = _foreach(operation, all_to_local(vector.tensors), factor)
        return from_local_like(shards, vector.tensors)


def _scale_in_place(operation: Callable[..., None], vector: Vector, factor: float | Tensor) -> None:
    with torch.no_grad():
        _foreach(operation, all_to_local(vector.tensors), factor)


def _is_scalar(value: object) -> bool:
    return value.dim() == 0 if isinstance(value, Tensor) else is_number(value)


class LinearVector(Vector, Generic[Addend]):
    """A vector with sums and multiples, in place too: the base of `Update` and `Gradient`.

    Its type argument is the class that it is added to: its own.
    """

    __slots__ = ()

    def zeros_like(self) -> Self:
        """Return the zero vector of the same space."""
        return self.from_tensors(self.names, [torch.zeros_like(t) for t in self.tensors])

    def __add__(self, other: Addend) -> Self:
        self._check_kind(other, "+")
        return self.from_tensors(self.names, _paired(torch._foreach_add, self, other))

    def __sub__(self, other: Addend) -> Self:
        self._check_kind(other, "-")
        return self.from_tensors(self.names, _paired(torch._foreach_sub, self, other))

    def __iadd__(self, other: Addend) -> Self:
        self._check_kind(other, "+=")
        _pair_in_place(torch._foreach_add_, self, other)
        return self

    def __isub__(self, other: Addend) -> Self:
        self._check_kind(other, "-=")
        _pair_in_place(torch._foreach_sub_, self, other)
        return self

    def __mul__(self, scalar: Scalar) -> Self:
        factor = self._factor(scalar, "*")
        return self.from_tensors(self.names, _scaled(torch._foreach_mul, self, factor))

    def __rmul__(self, scalar: Scalar) -> Self:
        return self * scalar

    def __imul__(self, scalar: Scalar) -> Self:
        _scale_in_place(torch._foreach_mul_, self, self._factor(scalar, "*="))
        return self

    def __truediv__(self, scalar: Scalar) -> Self:
        factor = self._factor(scalar, "/")
        return self.from_tensors(self.names, _scaled(torch._foreach_div, self, factor))

    def __itruediv__(self, scalar: Scalar) -> Self:
        _scale_in_place(torch._foreach_div_, self, self._factor(scalar, "/="))
        return self

    def __neg__(self) -> Self:
        return self * -1.0

    def __pos__(self) -> Self:
        return self

    def _check_kind(self, other: object, operation: str) -> None:
        if type(other) is not type(self):
            self._refuse(other, operation)
        self._check_layout(
            cast("Vector", other), f"{type(self).__name__} {operation} {type(self).__name__}"
        )

    def _factor(self, scalar: Scalar, operation: str) -> float | Tensor:
        """The scalar as torch takes it."""
        if not _is_scalar(scalar):
            self._refuse(scalar, operation)
        return to_full(scalar) if isinstance(scalar, Tensor) else float(scalar)


class Update(LinearVector["Update"]):
    """A displacement of the weights, as `model.dualize` returns it.

    Subtract it from `model.weights` to descend.

    Example:
        >>> import torch
        >>> from modula import Update
        >>> (0.5 * Update({"weight": torch.ones(2)}))["weight"]
        tensor([0.5000, 0.5000])
    """

    __slots__ = ()

    # A checker must see no pairing here. At run time the error names gradient @ update.
    if not TYPE_CHECKING:

        def __matmul__(self, other: object) -> NoReturn:
            self._refuse(other, "@")


class Gradient(LinearVector["Gradient"]):
    """The derivative of a loss: a linear function of updates, in the dual of their space.

    Build one from tensors of your own with `Gradient({name: tensor, …})`, with names and order as
    in `model.weights.items()`.

    Example:
        >>> import torch
        >>> from modula import Gradient, Update
        >>> Gradient({"weight": torch.ones(2)}) @ Update({"weight": torch.tensor([1.0, 2.0])})
        tensor(3.)
    """

    __slots__ = ()

    def __matmul__(self, update: Update) -> Tensor:
        """Return <g, u>, the first-order change of the loss under `update`.

        Returns:
            A scalar tensor, in float32 at least.
        """
        if not isinstance(update, Update):
            self._refuse(update, "@")
        self._check_layout(update, "Gradient @ Update")
        if not self.tensors:
            return torch.zeros((), device="cpu")
        home = self.tensors[0].device
        with torch.no_grad():
            totals = dot(self.tensors, update.tensors, _pair)
            return torch.stack([total.to(home) for total in totals]).sum()


def _pair(g: Tensor, u: Tensor) -> Tensor:
    dtype = working_dtype(torch.promote_types(g.dtype, u.dtype))
    return (g.to(dtype) * u.to(dtype)).sum()


class Weights(Vector):
    """The weights of a model: a point in weight space.

    `weights ± update` is a new point, `weights - weights` is the update between two points, and
    `weights -= update` writes the parameters in place. `model.weights` is a live view, whose
    tensors are the parameters.

    Example:
        >>> import torch
        >>> from modula import Update, Weights
        >>> weights = Weights({"weight": torch.ones(2)})
        >>> (weights - Update({"weight": torch.tensor([1.0, 2.0])}))["weight"]
        tensor([ 0., -1.])
    """

    __slots__ = ()

    def __add__(self, update: Update) -> Weights:
        self._check_update(update, "+")
        return Weights.from_tensors(self.names, _paired(torch._foreach_add, self, update))

    @overload
    def __sub__(self, other: Update) -> Weights: ...
    @overload
    def __sub__(self, other: Weights) -> Update: ...
    def __sub__(self, other: Update | Weights) -> Weights | Update:
        if isinstance(other, Weights):
            self._check_layout(other, "Weights - Weights")
            return Update.from_tensors(self.names, _paired(torch._foreach_sub, self, other))
        self._check_update(other, "-")
        return Weights.from_tensors(self.names, _paired(torch._foreach_sub, self, other))

    def __iadd__(self, update: Update) -> Self:
        self._check_update(update, "+=")
        _pair_in_place(torch._foreach_add_, self, update)
        return self

    def __isub__(self, update: Update) -> Self:  # type: ignore[misc] # not of weights, as `-` is
        self._check_update(update, "-=")
        _pair_in_place(torch._foreach_sub_, self, update)
        return self

    def copy_(self, other: Weights) -> Self:
        """Write the values of `other` into these tensors.

        Raises:
            TypeError: `other` is not of type Weights.
            LayoutError: `other` belongs to another model. Nothing is written.
        """
        if not isinstance(other, Weights):
            self._refuse(other, ".copy_")
        self._check_layout(other, "Weights.copy_")
        _pair_in_place(torch._foreach_copy_, self, other)
        return self

    def _check_update(self, update: object, operation: str) -> None:
        if not isinstance(update, Update):
            self._refuse(update, operation)
        self._check_layout(update, f"Weights {operation} Update")

    # A checker must see no products here. At run time the error says what to write instead.
    if not TYPE_CHECKING:

        def __mul__(self, other: object) -> NoReturn:
            self._refuse(other, "*")

        def __rmul__(self, other: object) -> NoReturn:
            self._refuse(other, "*")

        def __truediv__(self, other: object) -> NoReturn:
            self._refuse(other, "/")

        def __matmul__(self, other: object) -> NoReturn:
            self._refuse(other, "@")
