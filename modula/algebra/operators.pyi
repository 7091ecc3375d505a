"""The types of the algebra's operators. Only type checkers read this file; Python never does.

Python has no way to write "a tuple of modules, one for each space of a tuple", so each length of
tuple is an overload of its own. Each class here stands, in a checker's view, between a class of
`modula.algebra.core` and the base that it has at run time.
"""

# A self type names the class of `core` that derives from the class here, since mypy compares the
# bounds of type variables only where both are one class; it reports the derived class as misc.
# Bonds that adopt a space answer more operands than the operators of `Module` let them, hence the
# overrides.
# mypy: disable-error-code="override,misc"
# pyright: reportIncompatibleMethodOverride=false

from collections.abc import Callable, Iterator
from typing import Generic, Never, Protocol, TypeVar, TypeVarTuple, overload

from torch import Tensor

from modula.algebra.core import (
    Add,
    AnyModule,
    Bond,
    Concatenation,
    Elementwise,
    Module,
    Neighbour,
    Transparent,
)
from modula.algebra.parallel import Parallel
from modula.norms import Dense, Norm
from modula.values import Value

X = TypeVar("X")
Y = TypeVar("Y")
Z = TypeVar("Z")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
E = TypeVar("E")
A2 = TypeVar("A2")
B2 = TypeVar("B2")
C2 = TypeVar("C2")
E2 = TypeVar("E2")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
J = TypeVar("J")
Space = TypeVar("Space", contravariant=True)
Rest = TypeVarTuple("Rest")
D = TypeVar("D", bound=Dense)
N1 = TypeVar("N1", bound=Norm)
N2 = TypeVar("N2", bound=Norm)
N3 = TypeVar("N3", bound=Norm)
N4 = TypeVar("N4", bound=Norm)
N5 = TypeVar("N5", bound=Norm)
N6 = TypeVar("N6", bound=Norm)
N7 = TypeVar("N7", bound=Norm)
N8 = TypeVar("N8", bound=Norm)
V = TypeVar("V", bound=Value)

class Exactly(Generic[X]):
    """One space. Invariant: a norm type is not accepted in place of its base class."""

    def _is(self, space: X) -> X: ...

class Maps(Protocol[X, Y]):
    """A map, asked for the space that is not known yet.

    A bond that adopts its neighbour's space answers with a type variable. The protocols constrain
    the operand, because mypy accepts a self-typed operator whatever `self` is.
    """

    def _maps(self, taken: Exactly[X]) -> Exactly[Y]: ...

class Adopts(Protocol[Space]):
    """A bond that adopts a known space.

    It has no type variable, whose solution would vary from run to run of Zuban.
    """

    def _adopts(self, space: Space) -> None: ...

class Starts(Protocol[X]):
    """A map, asked for its domain alone."""

    def _starts(self, taken: Exactly[X]) -> None: ...

class Last(Protocol[X, Y, A, B]):
    """The last map of a tuple, asked also whether A, made of type variables, is B.

    Where a bond makes one of two type variables, Pyrefly does not compare the spaces for which they
    stand (https://github.com/facebook/pyrefly/issues/3270) until it meets one of them again.
    """

    def _maps(self, taken: Exactly[X]) -> Exactly[Y]: ...
    def _equals(self, space: Exactly[A]) -> Exactly[B]: ...

class SameDomainAndCodomain:
    """A type without values, for checkers to name where a module has no powers."""

class Power:
    """`**` for modules from a space to itself.

    A descriptor, because mypy accepts a self-typed operator whatever `self` is. The last overload
    is for ty, which accepts an operator whose descriptor it cannot call.
    """

    @overload
    def __get__(self, instance: Transparent, owner: object) -> Callable[[int], Transparent]: ...
    @overload
    def __get__(self, instance: Elementwise, owner: object) -> Callable[[int], Elementwise]: ...
    @overload
    def __get__(self, instance: Module[Z, Z], owner: object) -> Callable[[int], Module[Z, Z]]: ...
    @overload
    def __get__(
        self, instance: object, owner: object
    ) -> Callable[[SameDomainAndCodomain], None]: ...

class ModuleOperators(AnyModule, Generic[X, Y]):
    """The operators of `Module`."""

    def _maps(self, taken: Exactly[X]) -> Exactly[Y]: ...
    def _starts(self, taken: Exactly[X]) -> None: ...
    def _equals(self, space: Exactly[Z]) -> Exactly[Z]: ...
    @overload
    def __call__(
        self: Module[X, tuple[tuple[N1, N2], N3]], x: Value, /
    ) -> tuple[tuple[Tensor, Tensor], Tensor]: ...
    @overload
    def __call__(
        self: Module[X, tuple[N1, tuple[N2, N3]]], x: Value, /
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]: ...
    @overload
    def __call__(
        self: Module[X, tuple[tuple[N1, N2], tuple[N3, N4]]], x: Value, /
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]: ...
    @overload
    def __call__(self: Module[X, tuple[N1]], x: Value, /) -> tuple[Tensor]: ...
    @overload
    def __call__(self: Module[X, tuple[N1, N2]], x: Value, /) -> tuple[Tensor, Tensor]: ...
    @overload
    def __call__(
        self: Module[X, tuple[N1, N2, N3]], x: Value, /
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    @overload
    def __call__(
        self: Module[X, tuple[N1, N2, N3, N4]], x: Value, /
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...
    @overload
    def __call__(
        self: Module[X, tuple[N1, N2, N3, N4, N5]], x: Value, /
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    @overload
    def __call__(
        self: Module[X, tuple[N1, N2, N3, N4, N5, N6]], x: Value, /
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    @overload
    def __call__(
        self: Module[X, tuple[N1, N2, N3, N4, N5, N6, N7]], x: Value, /
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    @overload
    def __call__(
        self: Module[X, tuple[N1, N2, N3, N4, N5, N6, N7, N8]], x: Value, /
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]: ...
    @overload
    def __call__(self: Module[X, tuple[N1, ...]], x: Value, /) -> tuple[Tensor, ...]: ...
    @overload
    def __call__(self: Module[X, N1], x: Value, /) -> Tensor: ...
    @overload
    def __call__(self, x: Value, /) -> Value: ...
    @overload
    def __matmul__(self, other: Add) -> OfSum[X, Y]: ...
    @overload
    def __matmul__(self, other: OfTuple[A, X]) -> OfTuple[A, Y]: ...
    @overload
    def __matmul__(self, other: OfSum[A, X]) -> OfSum[A, Y]: ...
    @overload
    def __matmul__(self, other: Adopts[X]) -> Module[X, Y]: ...
    @overload
    def __matmul__(self, other: Maps[Z, X]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self: Module[tuple[A], Y], other: tuple[Maps[Z, A]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B], Y], other: tuple[Maps[Z, A], Last[Z, B, tuple[A, B], X]]
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C], Y],
        other: tuple[Maps[Z, A], Maps[Z, B], Last[Z, C, tuple[A, B, C], X]],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E], Y],
        other: tuple[Maps[Z, A], Maps[Z, B], Maps[Z, C], Last[Z, E, tuple[A, B, C, E], X]],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F], Y],
        other: tuple[
            Maps[Z, A], Maps[Z, B], Maps[Z, C], Maps[Z, E], Last[Z, F, tuple[A, B, C, E, F], X]
        ],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F, G], Y],
        other: tuple[
            Maps[Z, A],
            Maps[Z, B],
            Maps[Z, C],
            Maps[Z, E],
            Maps[Z, F],
            Last[Z, G, tuple[A, B, C, E, F, G], X],
        ],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F, G, H], Y],
        other: tuple[
            Maps[Z, A],
            Maps[Z, B],
            Maps[Z, C],
            Maps[Z, E],
            Maps[Z, F],
            Maps[Z, G],
            Last[Z, H, tuple[A, B, C, E, F, G, H], X],
        ],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F, G, H, J], Y],
        other: tuple[
            Maps[Z, A],
            Maps[Z, B],
            Maps[Z, C],
            Maps[Z, E],
            Maps[Z, F],
            Maps[Z, G],
            Maps[Z, H],
            Last[Z, J, tuple[A, B, C, E, F, G, H, J], X],
        ],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[tuple[A, B], C], Y],
        other: tuple[tuple[Maps[Z, A], Maps[Z, B]], Last[Z, C, tuple[tuple[A, B], C], X]],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, tuple[B, C]], Y],
        other: tuple[Maps[Z, A], tuple[Maps[Z, B], Last[Z, C, tuple[A, tuple[B, C]], X]]],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[tuple[A, B], tuple[C, E]], Y],
        other: tuple[
            tuple[Maps[Z, A], Maps[Z, B]],
            tuple[Maps[Z, C], Last[Z, E, tuple[tuple[A, B], tuple[C, E]], X]],
        ],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F, G, H, J, *Rest], Y],
        other: tuple[
            Maps[Z, A],
            Maps[Z, B],
            Maps[Z, C],
            Maps[Z, E],
            Maps[Z, F],
            Maps[Z, G],
            Maps[Z, H],
            Last[Z, J, tuple[A, B, C, E, F, G, H, J, *Rest], X],
            *tuple[Starts[Z], ...],
        ],
    ) -> Module[Z, Y]: ...
    @overload
    def __rmatmul__(self, other: tuple[Maps[Y, A]]) -> Module[X, tuple[A]]: ...
    @overload
    def __rmatmul__(self, other: tuple[Maps[Y, A], Maps[Y, B]]) -> Module[X, tuple[A, B]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Maps[Y, A], Maps[Y, B], Maps[Y, C]]
    ) -> Module[X, tuple[A, B, C]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Maps[Y, A], Maps[Y, B], Maps[Y, C], Maps[Y, E]]
    ) -> Module[X, tuple[A, B, C, E]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Maps[Y, A], Maps[Y, B], Maps[Y, C], Maps[Y, E], Maps[Y, F]]
    ) -> Module[X, tuple[A, B, C, E, F]]: ...
    @overload
    def __rmatmul__(
        self,
        other: tuple[Maps[Y, A], Maps[Y, B], Maps[Y, C], Maps[Y, E], Maps[Y, F], Maps[Y, G]],
    ) -> Module[X, tuple[A, B, C, E, F, G]]: ...
    @overload
    def __rmatmul__(
        self,
        other: tuple[
            Maps[Y, A],
            Maps[Y, B],
            Maps[Y, C],
            Maps[Y, E],
            Maps[Y, F],
            Maps[Y, G],
            Maps[Y, H],
        ],
    ) -> Module[X, tuple[A, B, C, E, F, G, H]]: ...
    @overload
    def __rmatmul__(
        self,
        other: tuple[
            Maps[Y, A],
            Maps[Y, B],
            Maps[Y, C],
            Maps[Y, E],
            Maps[Y, F],
            Maps[Y, G],
            Maps[Y, H],
            Maps[Y, J],
        ],
    ) -> Module[X, tuple[A, B, C, E, F, G, H, J]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[tuple[Maps[Y, A], Maps[Y, B]], Maps[Y, C]]
    ) -> Module[X, tuple[tuple[A, B], C]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Maps[Y, A], tuple[Maps[Y, B], Maps[Y, C]]]
    ) -> Module[X, tuple[A, tuple[B, C]]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[tuple[Maps[Y, A], Maps[Y, B]], tuple[Maps[Y, C], Maps[Y, E]]]
    ) -> Module[X, tuple[tuple[A, B], tuple[C, E]]]: ...
    @overload
    def __rmatmul__(self, other: tuple[Maps[Y, A], ...]) -> Module[X, tuple[A, ...]]: ...
    @overload
    def __add__(self, other: Module[X, Y]) -> Module[X, Y]: ...
    @overload
    def __add__(
        self: Module[X, tuple[A, B]], other: tuple[Maps[X, A], Maps[X, B]]
    ) -> Module[X, tuple[A, B]]: ...
    @overload
    def __add__(
        self: Module[X, tuple[A, B, C]],
        other: tuple[Maps[X, A], Maps[X, B], Maps[X, C]],
    ) -> Module[X, tuple[A, B, C]]: ...
    # Zuban binds the class in place of `self` when it asks for a reflected operator, so one
    # overload must not name a self type. No tuple matches this one.
    @overload
    def __radd__(self, other: tuple[Never]) -> Module[X, Y]: ...
    @overload
    def __radd__(
        self: Module[X, tuple[A, B]], other: tuple[Maps[X, A], Maps[X, B]]
    ) -> Module[X, tuple[A, B]]: ...
    @overload
    def __radd__(
        self: Module[X, tuple[A, B, C]],
        other: tuple[Maps[X, A], Maps[X, B], Maps[X, C]],
    ) -> Module[X, tuple[A, B, C]]: ...
    __pow__: Power
    # The components of a network. An atom and a bond have none, which their types do not say.
    def __iter__(self) -> Iterator[AnyModule]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> AnyModule: ...
    def __setitem__(self, index: int, module: AnyModule) -> None: ...

class ElementwiseOperators(Bond[Neighbour, Neighbour]):
    """The operators of `Elementwise`."""

    def _maps(self, taken: Exactly[D]) -> Exactly[D]: ...
    def _starts(self, taken: Exactly[D]) -> None: ...
    def _adopts(self, space: Dense) -> None: ...
    @overload
    def __matmul__(self, other: Elementwise) -> Elementwise: ...
    @overload
    def __matmul__(self, other: Add) -> Add: ...
    @overload
    def __matmul__(self, other: OfTuple[A, D]) -> OfTuple[A, D]: ...
    @overload
    def __matmul__(self, other: Module[Z, D]) -> Module[Z, D]: ...
    @overload
    def __rmatmul__(self, other: tuple[Maps[D, A], Maps[D, B]]) -> Module[D, tuple[A, B]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Maps[D, A], Maps[D, B], Maps[D, C]]
    ) -> Module[D, tuple[A, B, C]]: ...
    @overload
    def __rmatmul__(self, other: tuple[Maps[D, A], ...]) -> Module[D, tuple[A, ...]]: ...
    @overload
    def __add__(self, other: Elementwise) -> Elementwise: ...
    @overload
    def __add__(self, other: Module[D, D]) -> Module[D, D]: ...
    def __radd__(self, other: Module[D, D]) -> Module[D, D]: ...
    def __mul__(self, scalar: float) -> Elementwise: ...
    def __rmul__(self, scalar: float) -> Elementwise: ...
    def __truediv__(self, scalar: float) -> Elementwise: ...

class TransparentOperators(Elementwise):
    """The operators of `Transparent`."""

    def _maps(self, taken: Exactly[Z]) -> Exactly[Z]: ...
    def _starts(self, taken: Exactly[Z]) -> None: ...
    def _adopts(self, space: object) -> None: ...
    @overload
    def __call__(self, x: Tensor, /) -> Tensor: ...
    @overload
    def __call__(self, x: V, /) -> V: ...
    @overload
    def __matmul__(self, other: Transparent) -> Transparent: ...
    @overload
    def __matmul__(self, other: Elementwise) -> Elementwise: ...
    @overload
    def __matmul__(self, other: Add) -> Add: ...
    @overload
    def __matmul__(self, other: OfTuple[A, B]) -> OfTuple[A, B]: ...
    @overload
    def __matmul__(self, other: Module[Z, A]) -> Module[Z, A]: ...
    @overload
    def __matmul__(self, other: tuple[Maps[Z, A], Maps[Z, B]]) -> Module[Z, tuple[A, B]]: ...
    @overload
    def __matmul__(
        self, other: tuple[Maps[Z, A], Maps[Z, B], Maps[Z, C]]
    ) -> Module[Z, tuple[A, B, C]]: ...
    @overload
    def __matmul__(self, other: tuple[Maps[Z, A], ...]) -> Module[Z, tuple[A, ...]]: ...
    @overload
    def __rmatmul__(self, other: tuple[Maps[Z, A], Maps[Z, B]]) -> Module[Z, tuple[A, B]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Maps[Z, A], Maps[Z, B], Maps[Z, C]]
    ) -> Module[Z, tuple[A, B, C]]: ...
    @overload
    def __rmatmul__(self, other: tuple[Maps[Z, A], ...]) -> Module[Z, tuple[A, ...]]: ...
    @overload
    def __add__(self, other: Transparent) -> Transparent: ...
    @overload
    def __add__(self, other: Elementwise) -> Elementwise: ...
    @overload
    def __add__(self, other: Module[Z, Z]) -> Module[Z, Z]: ...
    # The interpreter asks the reflected operator of a subclass before the operator of its base.
    @overload
    def __radd__(self, other: Elementwise) -> Elementwise: ...
    @overload
    def __radd__(self, other: Module[Z, Z]) -> Module[Z, Z]: ...
    def __mul__(self, scalar: float) -> Transparent: ...
    def __rmul__(self, scalar: float) -> Transparent: ...
    def __truediv__(self, scalar: float) -> Transparent: ...

class AddOperators(Bond[Neighbour, Neighbour]):
    """The operators of `Add`."""

    def _maps(self, taken: Exactly[tuple[Z, ...]]) -> Exactly[Z]: ...
    def _starts(self, taken: Exactly[tuple[Z, ...]]) -> None: ...
    @overload
    def __matmul__(self, other: Transparent) -> Add: ...
    @overload
    def __matmul__(self, other: tuple[Transparent, ...]) -> Transparent: ...
    @overload
    def __matmul__(self, other: tuple[Elementwise, ...]) -> Elementwise: ...
    @overload
    def __matmul__(self, other: tuple[Module[Z, A], ...]) -> Module[Z, A]: ...
    @overload
    def __matmul__(self, other: tuple[Maps[Z, Z], ...]) -> Module[Z, Z]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[A]]) -> Module[Z, A]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[A, A]]) -> Module[Z, A]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[A, A, A]]) -> Module[Z, A]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[A, A, A, A]]) -> Module[Z, A]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[A, A, A, A, A]]) -> Module[Z, A]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[A, A, A, A, A, A]]) -> Module[Z, A]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[A, A, A, A, A, A, A]]) -> Module[Z, A]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[A, A, A, A, A, A, A, A]]) -> Module[Z, A]: ...
    @overload
    def __matmul__(self, other: Maps[Z, tuple[A, ...]]) -> Module[Z, A]: ...
    @overload
    def __rmatmul__(self, other: tuple[Maps[Z, A], Maps[Z, B]]) -> OfSum[Z, tuple[A, B]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Maps[Z, A], Maps[Z, B], Maps[Z, C]]
    ) -> OfSum[Z, tuple[A, B, C]]: ...
    @overload
    def __rmatmul__(self, other: tuple[Maps[Z, A], ...]) -> OfSum[Z, tuple[A, ...]]: ...
    def __mul__(self, scalar: float) -> Add: ...
    def __rmul__(self, scalar: float) -> Add: ...
    def __truediv__(self, scalar: float) -> Add: ...

class OfSum(Module[tuple[X, ...], Y]):
    """The type of `f @ Add()`: a module on tuples of any length, also of a known one.

    A class, because mypy accepts a self-typed overload of `Module` whatever `self` is.
    """

    @overload
    def __matmul__(self, other: tuple[Maps[Z, X], ...]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[X]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[X, X]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[X, X, X]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[X, X, X, X]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self, other: Maps[Z, tuple[X, ...]]) -> Module[Z, Y]: ...

class OfTuple(Module[tuple[X, ...], Y]):
    """The type of `f @ Concat()`: a module on tuples of any length, also of a known one."""

    @overload
    def __matmul__(self, other: tuple[Maps[Z, X], ...]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[X]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[X, X]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[X, X, X]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self, other: Module[Z, tuple[X, X, X, X]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self, other: Maps[Z, tuple[X, ...]]) -> Module[Z, Y]: ...
    def __mul__(self, scalar: float) -> OfTuple[X, Y]: ...
    def __rmul__(self, scalar: float) -> OfTuple[X, Y]: ...
    def __truediv__(self, scalar: float) -> OfTuple[X, Y]: ...

class ConcatOperators(OfTuple[N1, N1], Bond[tuple[N1, ...], N1]):
    """The operators of `Concat`."""

class ConcatenationOperators(Module[X, Y]):
    """The constructor of `Concatenation`."""

    @overload
    def __init__(self: Concatenation[Z, tuple[A]], first: Maps[Z, A], /) -> None: ...
    @overload
    def __init__(
        self: Concatenation[Z, tuple[A, B]], first: Maps[Z, A], second: Maps[Z, B], /
    ) -> None: ...
    @overload
    def __init__(
        self: Concatenation[Z, tuple[A, B, C]],
        first: Maps[Z, A],
        second: Maps[Z, B],
        third: Maps[Z, C],
        /,
    ) -> None: ...
    @overload
    def __init__(
        self: Concatenation[Z, tuple[A, B, C, E]],
        first: Maps[Z, A],
        second: Maps[Z, B],
        third: Maps[Z, C],
        fourth: Maps[Z, E],
        /,
    ) -> None: ...
    @overload
    def __init__(
        self: Concatenation[Z, tuple[A, B, C, E, F]],
        first: Maps[Z, A],
        second: Maps[Z, B],
        third: Maps[Z, C],
        fourth: Maps[Z, E],
        fifth: Maps[Z, F],
        /,
    ) -> None: ...
    @overload
    def __init__(
        self: Concatenation[Z, tuple[A, B, C, E, F, G]],
        first: Maps[Z, A],
        second: Maps[Z, B],
        third: Maps[Z, C],
        fourth: Maps[Z, E],
        fifth: Maps[Z, F],
        sixth: Maps[Z, G],
        /,
    ) -> None: ...
    @overload
    def __init__(
        self: Concatenation[Z, tuple[A, B, C, E, F, G, H]],
        first: Maps[Z, A],
        second: Maps[Z, B],
        third: Maps[Z, C],
        fourth: Maps[Z, E],
        fifth: Maps[Z, F],
        sixth: Maps[Z, G],
        seventh: Maps[Z, H],
        /,
    ) -> None: ...
    @overload
    def __init__(
        self: Concatenation[Z, tuple[A, B, C, E, F, G, H, J]],
        first: Maps[Z, A],
        second: Maps[Z, B],
        third: Maps[Z, C],
        fourth: Maps[Z, E],
        fifth: Maps[Z, F],
        sixth: Maps[Z, G],
        seventh: Maps[Z, H],
        eighth: Maps[Z, J],
        /,
    ) -> None: ...
    @overload
    def __init__(
        self: Concatenation[Z, tuple[A, ...]], first: Maps[Z, A], /, *modules: Maps[Z, A]
    ) -> None: ...

class ParallelOperators(Module[X, Y]):
    """The constructor of `Parallel`."""

    @overload
    def __init__(
        self: Parallel[tuple[A], tuple[A2]],
        first: Module[A, A2],
        /,
    ) -> None: ...
    @overload
    def __init__(
        self: Parallel[tuple[A, B], tuple[A2, B2]],
        first: Module[A, A2],
        second: Module[B, B2],
        /,
    ) -> None: ...
    @overload
    def __init__(
        self: Parallel[tuple[A, B, C], tuple[A2, B2, C2]],
        first: Module[A, A2],
        second: Module[B, B2],
        third: Module[C, C2],
        /,
    ) -> None: ...
    @overload
    def __init__(
        self: Parallel[tuple[A, B, C, E], tuple[A2, B2, C2, E2]],
        first: Module[A, A2],
        second: Module[B, B2],
        third: Module[C, C2],
        fourth: Module[E, E2],
        /,
    ) -> None: ...
