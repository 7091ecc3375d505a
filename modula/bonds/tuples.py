"""Bonds on tuples: `Select` takes an entry, `Keep` keeps one, `Unbind` makes a tuple of an axis."""

from __future__ import annotations

from typing import Literal, TypeVar, overload

from torch import Tensor

from modula.algebra.core import Bond, SpaceType
from modula.bonds.base import SameSpace
from modula.checks import Claim
from modula.errors import MismatchError
from modula.graph import GraphBuilder, Part, Radius, total_radius
from modula.norms import RMS, Norm
from modula.spaces import ANYTHING, AnySpace, Product, Signature, Space, meet
from modula.values import Value

X = TypeVar("X", bound=SpaceType)
Y = TypeVar("Y", bound=SpaceType)
N = TypeVar("N", bound=Norm)
M = TypeVar("M", bound=Norm)
A = TypeVar("A", bound=Norm)
B = TypeVar("B", bound=Norm)
C = TypeVar("C", bound=Norm)
E = TypeVar("E", bound=Norm)


class Select(Bond[X, Y]):
    """(x₀, …, x_k) ↦ xᵢ, one entry of a tuple.

    Sensitivity 1, radius Rᵢ: proved, since the norm of a tuple is the sum of its entries' norms.
    What other entries are computed from has no path to the output through it.

    Args:
        index: i, from 0.
        norms: the norm types of all entries, for a type checker and for the head of a network;
            none takes tuples of any length and spaces.

    Raises:
        TypeError: a norm that is not a norm type.
        ValueError: an index below 0, or beyond the norms.

    Example:
        >>> import torch
        >>> from modula import RMS, Linear, OneHot, Select
        >>> model = Linear(2, 4) @ Select(0, RMS, OneHot)
        >>> model((torch.randn(3, 4), torch.tensor([0, 1, 2]))).shape
        torch.Size([3, 2])
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    @overload
    def __init__(
        self: Select[tuple[A, B], A], index: Literal[0], a: type[A], b: type[B], /
    ) -> None: ...
    @overload
    def __init__(
        self: Select[tuple[A, B], B], index: Literal[1], a: type[A], b: type[B], /
    ) -> None: ...
    @overload
    def __init__(
        self: Select[tuple[A, B, C], A], index: Literal[0], a: type[A], b: type[B], c: type[C], /
    ) -> None: ...
    @overload
    def __init__(
        self: Select[tuple[A, B, C], B], index: Literal[1], a: type[A], b: type[B], c: type[C], /
    ) -> None: ...
    @overload
    def __init__(
        self: Select[tuple[A, B, C], C], index: Literal[2], a: type[A], b: type[B], c: type[C], /
    ) -> None: ...
    @overload
    def __init__(
        self: Select[tuple[A, B, C, E], A],
        index: Literal[0],
        a: type[A],
        b: type[B],
        c: type[C],
        e: type[E],
        /,
    ) -> None: ...
    @overload
    def __init__(
        self: Select[tuple[A, B, C, E], B],
        index: Literal[1],
        a: type[A],
        b: type[B],
        c: type[C],
        e: type[E],
        /,
    ) -> None: ...
    @overload
    def __init__(
        self: Select[tuple[A, B, C, E], C],
        index: Literal[2],
        a: type[A],
        b: type[B],
        c: type[C],
        e: type[E],
        /,
    ) -> None: ...
    @overload
    def __init__(
        self: Select[tuple[A, B, C, E], E],
        index: Literal[3],
        a: type[A],
        b: type[B],
        c: type[C],
        e: type[E],
        /,
    ) -> None: ...
    def __init__(self, index: int, /, *norms: type[Norm]) -> None:
        super().__init__()
        for norm in norms:
            _check_norm("Select", norm)
        if index < 0 or (norms and index >= len(norms)):
            raise ValueError(
                f"Select takes an index from 0 on, below the number of entries; got {index} for "
                f"{len(norms) or 'any number of'} entries"
            )
        self.index: int = index
        self.norms: tuple[type[Norm], ...] = norms

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        if self.norms:
            domain = meet(Product(tuple([Space(norm) for norm in self.norms])), domain)
        if domain == ANYTHING:
            return domain, codomain
        if not isinstance(domain, Product) or len(domain.parts) <= self.index:
            raise MismatchError(
                f"Select({self.index}) takes a tuple of at least {self.index + 1}, not {domain}"
            )
        parts = list(domain.parts)
        parts[self.index] = meet(parts[self.index], codomain)
        return Product(tuple(parts)), parts[self.index]

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        return builder.add(path, self.as_operation(), (source,), part=self.index)

    def radius(self, *inputs: Radius) -> Radius:
        return Part(self.index).radius(*inputs)

    def forward(self, x: tuple[Value, ...]) -> Value:
        if not isinstance(x, tuple) or len(x) <= self.index:
            got = f"a tuple of {len(x)}" if isinstance(x, tuple) else "a tensor"
            raise TypeError(f"{self!r} takes a tuple of at least {self.index + 1}, got {got}")
        return x[self.index]

    def extra_repr(self) -> str:
        return ", ".join([str(self.index), *[norm.__name__ for norm in self.norms]])


class Keep(SameSpace[N, N]):
    """The identity of a space that is named, as a part of a `Parallel` needs it for its type.

    Sensitivity 1, radius R: proved.

    Args:
        norm: the norm type of the space.

    Raises:
        TypeError: not a norm type.

    Example:
        >>> from modula import RMS, Keep, Linear, OneHot, Parallel
        >>> str(Parallel(Linear(2, 4), Keep(OneHot)).codomain)
        '(RMS(2), OneHot)'
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    @overload
    def __init__(self: Keep[RMS]) -> None: ...
    @overload
    def __init__(self, norm: type[N]) -> None: ...
    def __init__(self, norm: type[Norm] = RMS) -> None:
        super().__init__()
        _check_norm("Keep", norm)
        self.declared_signature: Signature = (Space(norm), Space(norm))

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]

    def forward(self, x: Value) -> Value:
        return x

    def extra_repr(self) -> str:
        return str(self.declared_signature[0])


class Unbind(Bond[RMS, Y]):
    """[..., n, d] -> n tensors [..., d], as a tuple.

    RMS takes the maximum over the axis, a tuple the sum over its entries.

    Sensitivity n, radius R for each entry: proved.

    Args:
        n: the length of the axis in front of the features.

    Raises:
        ValueError: n < 1; in the forward pass, an axis of another length.

    Example:
        >>> import torch
        >>> from modula import StackedLinear, Unbind
        >>> query, key, value = (Unbind(3) @ StackedLinear(3, 16, 8))(torch.randn(5, 8))
        >>> value.shape
        torch.Size([5, 16])
    """

    claim: Claim = "proved"

    @overload
    def __init__(self: Unbind[tuple[RMS, RMS]], n: Literal[2]) -> None: ...
    @overload
    def __init__(self: Unbind[tuple[RMS, RMS, RMS]], n: Literal[3]) -> None: ...
    @overload
    def __init__(self: Unbind[tuple[RMS, RMS, RMS, RMS]], n: Literal[4]) -> None: ...
    @overload
    def __init__(self: Unbind[tuple[RMS, ...]], n: int) -> None: ...
    def __init__(self, n: int) -> None:
        super().__init__()
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"Unbind makes a tuple of at least 1 entry, got {n}")
        self.n: int = n
        self.sensitivity: float = float(n)
        self.declared_signature: Signature = (Space(RMS), Product((Space(RMS),) * n))

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        whole, entries = super().unify(domain, codomain)
        for entry in entries.parts if isinstance(entries, Product) else ():
            whole = meet(whole, entry)
        return whole, Product((whole,) * self.n)

    def radius(self, *inputs: Radius) -> Radius:
        return (total_radius(inputs),) * self.n

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if x.dim() < 2 or x.shape[-2] != self.n:
            raise ValueError(
                f"{self!r} takes [..., {self.n}, d], got a tensor of shape {list(x.shape)}"
            )
        return x.unbind(-2)

    def extra_repr(self) -> str:
        return str(self.n)


def _check_norm(owner: str, norm: object) -> None:
    if not (isinstance(norm, type) and issubclass(norm, Norm)):
        raise TypeError(f"{owner} takes norm types, such as RMS; got {norm!r}")
