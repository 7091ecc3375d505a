"""Modules and their algebra: atoms, bonds, composition, concatenation.

A module is a forward map with a mass, a sensitivity and a norm on its weights (Large et al. 2024,
arXiv:2405.14813, definition 2). Atoms declare the three, bonds carry no weights, compounds derive
them; duality follows from the same tree (Bernstein & Newhouse 2025, arXiv:2410.21265, section 3).
"""

from __future__ import annotations

import copy
import math
import typing
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import (
    TYPE_CHECKING,
    Generic,
    NoReturn,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    overload,
)

import torch
from torch import Tensor, nn

from modula.algebra.hints import suggest_fix
from modula.algebra.render import Node
from modula.checks import Claim, check_mass, is_number
from modula.geometry import Geometry
from modula.network import AnyModule, Roster, Signature, arrow, refuse_repeated
from modula.norms import Dense, Norm
from modula.sharding import fill
from modula.spaces import ANY_DENSE, ANYTHING, AnySpace, MismatchError, Product, Space, Value, meet

SpaceType: TypeAlias = Norm | tuple[object, ...]
"""What a space is, to a checker: a norm type, or a tuple of spaces."""

X = TypeVar("X")
Y = TypeVar("Y")
Z = TypeVar("Z")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
J = TypeVar("J")
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
# Bounded where a class names its spaces, which is where a mistake would enter. The others are free:
# mypy infers Any for a bond next to an operand whose type variable is bounded by a union.
S = TypeVar("S", bound=SpaceType)
T = TypeVar("T", bound=SpaceType)
V = TypeVar("V", bound=Value)


class CompositionError(TypeError):
    """Modules that do not fit together: their types differ, or their widths."""


class Exactly(Generic[X]):
    """A checker's view of one space: invariant, so that a norm type never stands in for one that it
    inherits from.
    """

    def _is(self, space: X) -> X: ...  # type: ignore[empty-body] # for checkers only


class Gives(Protocol[X, Y]):
    """A checker's view of a map, asked forwards: its codomain, once the domain is known.

    A bond that adopts its neighbour's space answers with a type variable. These are protocols on
    the operand, because mypy lets a self-typed operator through whatever `self` is.
    """

    def _gives(self, taken: Exactly[X]) -> Exactly[Y]: ...


class Starts(Protocol[X]):
    """A checker's view of the domain of a map alone."""

    def _starts(self, taken: Exactly[X]) -> None: ...


class Takes(Protocol[X, Y]):
    """A checker's view of a map, asked backwards: its domain, once the codomain is known."""

    def _takes(self, given: Exactly[Y]) -> Exactly[X]: ...


if TYPE_CHECKING:

    class _Power:
        """`**` for modules from a space to itself. A self-typed method would do, but mypy lets
        those through in operators.
        """

        @overload
        def __get__(self, instance: Transparent, owner: object) -> Callable[[int], Transparent]: ...
        @overload
        def __get__(self, instance: Elementwise, owner: object) -> Callable[[int], Elementwise]: ...
        @overload
        def __get__(
            self, instance: Module[Z, Z], owner: object
        ) -> Callable[[int], Module[Z, Z]]: ...
        def __get__(self, instance: object, owner: object) -> Callable[[int], AnyModule]: ...


class Module(AnyModule, Generic[X, Y]):
    """A map from space `X` to space `Y` with a mass, a sensitivity and a norm on its weights.

    Modules are made by subclassing `Atom` or `Bond`, and by the algebra: `f @ g` composes (g is
    applied first), `(f, g)` applies both to one input, `f + g` adds their outputs, `a * f` and
    `f / a` scale, `f**n` composes n fresh copies.

    Example:
        >>> from modula import Linear, ReLU
        >>> model = Linear(10, 256) @ ReLU() @ Linear(256, 784)
        >>> model.mass, model.sensitivity
        (2.0, 1.0)
        >>> str(model.domain), str(model.codomain)
        ('RMS(784)', 'RMS(10)')
    """

    if TYPE_CHECKING:

        def _gives(self, taken: Exactly[X]) -> Exactly[Y]: ...
        def _takes(self, given: Exactly[Y]) -> Exactly[X]: ...
        def _starts(self, taken: Exactly[X]) -> None: ...

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
        def __call__(self, x: Value, /) -> Value: ...

    @overload
    def __matmul__(self, other: Add) -> OfSum[X, Y]: ...
    @overload
    def __matmul__(self, other: OfSum[A, X]) -> OfSum[A, Y]: ...
    @overload
    def __matmul__(self, other: Takes[Z, X]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self: Module[tuple[A], Y], other: tuple[Takes[Z, A]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B], Y], other: tuple[Takes[Z, A], Takes[Z, B]]
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C], Y], other: tuple[Takes[Z, A], Takes[Z, B], Takes[Z, C]]
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E], Y],
        other: tuple[Takes[Z, A], Takes[Z, B], Takes[Z, C], Takes[Z, E]],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F], Y],
        other: tuple[Takes[Z, A], Takes[Z, B], Takes[Z, C], Takes[Z, E], Takes[Z, F]],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F, G], Y],
        other: tuple[Takes[Z, A], Takes[Z, B], Takes[Z, C], Takes[Z, E], Takes[Z, F], Takes[Z, G]],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F, G, H], Y],
        other: tuple[
            Takes[Z, A],
            Takes[Z, B],
            Takes[Z, C],
            Takes[Z, E],
            Takes[Z, F],
            Takes[Z, G],
            Takes[Z, H],
        ],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F, G, H, J], Y],
        other: tuple[
            Takes[Z, A],
            Takes[Z, B],
            Takes[Z, C],
            Takes[Z, E],
            Takes[Z, F],
            Takes[Z, G],
            Takes[Z, H],
            Takes[Z, J],
        ],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[tuple[A, B], C], Y],
        other: tuple[tuple[Takes[Z, A], Takes[Z, B]], Takes[Z, C]],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, tuple[B, C]], Y],
        other: tuple[Takes[Z, A], tuple[Takes[Z, B], Takes[Z, C]]],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[tuple[A, B], tuple[C, E]], Y],
        other: tuple[tuple[Takes[Z, A], Takes[Z, B]], tuple[Takes[Z, C], Takes[Z, E]]],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F, G, H, J, *Rest], Y],
        other: tuple[
            Takes[Z, A],
            Takes[Z, B],
            Takes[Z, C],
            Takes[Z, E],
            Takes[Z, F],
            Takes[Z, G],
            Takes[Z, H],
            Takes[Z, J],
            *tuple[Starts[Z], ...],
        ],
    ) -> Module[Z, Y]: ...
    def __matmul__(self, other: object) -> AnyModule:
        return _compose(self, _as_module(other, "@", self))

    @overload
    def __rmatmul__(self, other: tuple[Gives[Y, A]]) -> Module[X, tuple[A]]: ...
    @overload
    def __rmatmul__(self, other: tuple[Gives[Y, A], Gives[Y, B]]) -> Module[X, tuple[A, B]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Gives[Y, A], Gives[Y, B], Gives[Y, C]]
    ) -> Module[X, tuple[A, B, C]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Gives[Y, A], Gives[Y, B], Gives[Y, C], Gives[Y, E]]
    ) -> Module[X, tuple[A, B, C, E]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Gives[Y, A], Gives[Y, B], Gives[Y, C], Gives[Y, E], Gives[Y, F]]
    ) -> Module[X, tuple[A, B, C, E, F]]: ...
    @overload
    def __rmatmul__(
        self,
        other: tuple[Gives[Y, A], Gives[Y, B], Gives[Y, C], Gives[Y, E], Gives[Y, F], Gives[Y, G]],
    ) -> Module[X, tuple[A, B, C, E, F, G]]: ...
    @overload
    def __rmatmul__(
        self,
        other: tuple[
            Gives[Y, A],
            Gives[Y, B],
            Gives[Y, C],
            Gives[Y, E],
            Gives[Y, F],
            Gives[Y, G],
            Gives[Y, H],
        ],
    ) -> Module[X, tuple[A, B, C, E, F, G, H]]: ...
    @overload
    def __rmatmul__(
        self,
        other: tuple[
            Gives[Y, A],
            Gives[Y, B],
            Gives[Y, C],
            Gives[Y, E],
            Gives[Y, F],
            Gives[Y, G],
            Gives[Y, H],
            Gives[Y, J],
        ],
    ) -> Module[X, tuple[A, B, C, E, F, G, H, J]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[tuple[Gives[Y, A], Gives[Y, B]], Gives[Y, C]]
    ) -> Module[X, tuple[tuple[A, B], C]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Gives[Y, A], tuple[Gives[Y, B], Gives[Y, C]]]
    ) -> Module[X, tuple[A, tuple[B, C]]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[tuple[Gives[Y, A], Gives[Y, B]], tuple[Gives[Y, C], Gives[Y, E]]]
    ) -> Module[X, tuple[tuple[A, B], tuple[C, E]]]: ...
    @overload
    def __rmatmul__(self, other: tuple[Gives[Y, A], ...]) -> Module[X, tuple[A, ...]]: ...
    def __rmatmul__(self, other: object) -> AnyModule:
        return _compose(_as_module(other, "@", self, reflected=True), self)

    @overload
    def __add__(self, other: Gives[X, Y]) -> Module[X, Y]: ...
    @overload
    def __add__(
        self: Module[X, tuple[A, B]], other: tuple[Gives[X, A], Gives[X, B]]
    ) -> Module[X, tuple[A, B]]: ...
    @overload
    def __add__(
        self: Module[X, tuple[A, B, C]], other: tuple[Gives[X, A], Gives[X, B], Gives[X, C]]
    ) -> Module[X, tuple[A, B, C]]: ...
    def __add__(self, other: object) -> AnyModule:
        return _sum(self, _as_module(other, "+", self))

    @overload
    def __radd__(
        self: Module[X, tuple[A, B]], other: tuple[Gives[X, A], Gives[X, B]]
    ) -> Module[X, tuple[A, B]]: ...
    @overload
    def __radd__(
        self: Module[X, tuple[A, B, C]], other: tuple[Gives[X, A], Gives[X, B], Gives[X, C]]
    ) -> Module[X, tuple[A, B, C]]: ...
    def __radd__(self, other: object) -> AnyModule:
        return _sum(_as_module(other, "+", self, reflected=True), self)

    def __mul__(self, scalar: float) -> Module[X, Y]:
        if not is_number(scalar):
            _refuse_operand(self, "*", scalar)
        return typing.cast("Module[X, Y]", _compose(Mul(float(scalar)), self))

    def __rmul__(self, scalar: float) -> Module[X, Y]:
        if not is_number(scalar):
            _refuse_operand(self, "*", scalar, reflected=True)
        return self * scalar

    def __truediv__(self, scalar: float) -> Module[X, Y]:
        if not is_number(scalar):
            _refuse_operand(self, "/", scalar)
        if scalar == 0:
            raise ValueError(
                f"cannot divide {self!r} by zero: a module needs a sensitivity that is finite"
            )
        return typing.cast("Module[X, Y]", _compose(Mul(1 / float(scalar)), self))

    if TYPE_CHECKING:
        __pow__: _Power
    else:

        def __sub__(self, other):
            _refuse_operand(self, "-", other)

        def __pow__(self, n):
            """n independent copies composed, each with fresh weights; `self` is not among them."""
            if not isinstance(n, int) or isinstance(n, bool) or n < 0:
                raise ValueError(
                    f"the power of a module is a whole number of copies, at least 0; got {self!r} "
                    f"** {n!r}"
                )
            _join(self, self)
            if n == 0:
                return Identity()
            copies = []
            for _ in range(n):
                fresh = copy.deepcopy(self)
                fresh.initialize()
                copies.append(fresh)
            signature = self.unify(ANYTHING, ANYTHING)
            return (
                copies[0]
                if n == 1
                else Composition._in_flow_order(
                    [part for one in copies for part in one._links()], signature
                )
            )


class AtomOptions(TypedDict, total=False):
    """What every atom can be told besides its widths."""

    mass: float
    device: torch.device | str | None
    dtype: torch.dtype | None


class Atom(Module[S, T]):
    """A module with one weight, and the geometry that the weight is measured in.

    Subclass it with the two spaces, hand the shape and the geometry to `__init__`, and define
    `forward`. Declare `sensitivity` if it is not 1 for weights of norm 1. The geometry must make
    the atom well-normed: ‖f(x; Δw)‖ ≤ ‖Δw‖ for inputs of norm 1.

    Args:
        shape: the weight's.
        geometry: the norm on the weight, such as `operator_geometry(RMS, RMS)`.
        fan_out: the width of the output, checked where modules are composed; None if it follows
            from the input.
        fan_in: the width of the input.
        domain, codomain: norm types, if the class does not say them as type arguments.
        mass: the share of feature learning.
        device, dtype: of the weight.

    Raises:
        ValueError: a negative or non-finite mass, or an axis of length 0.

    Example:
        >>> import torch
        >>> from modula import RMS, Atom, Linf
        >>> from modula.geometry import Vectors
        >>> class Diagonal(Atom[RMS, RMS]):
        ...     def __init__(self, d: int) -> None:
        ...         super().__init__((d,), Vectors(Linf, axes=1), fan_out=d, fan_in=d)
        ...
        ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
        ...         return self.weight * x
        >>> str(Diagonal(4).domain)
        'RMS(4)'
    """

    # Declared here, where the property of Module derives it.
    mass: float = 1.0
    sensitivity: float = 1.0  # pyright: ignore[reportIncompatibleMethodOverride]
    claim: Claim = "estimate"  # until whoever writes an atom has proved its bounds
    geometry: Geometry
    weight: nn.Parameter

    def __init__(
        self,
        shape: Sequence[int],
        geometry: Geometry,
        *,
        fan_out: int | None = None,
        fan_in: int | None = None,
        domain: type[Norm] | None = None,
        codomain: type[Norm] | None = None,
        mass: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_mass(name, mass)
        if not all(isinstance(length, int) and length > 0 for length in shape):
            raise ValueError(
                f"{name} takes widths of at least 1, got a weight of shape {list(shape)}"
            )
        own_domain, own_codomain = type(self)._declared
        if (domain and isinstance(own_domain, Space)) or (
            codomain and isinstance(own_codomain, Space)
        ):
            raise TypeError(
                f"{name} maps {own_domain} to {own_codomain} by its class and takes no domain or "
                "codomain"
            )
        self._signature = (
            _with_width(domain, own_domain, fan_in),
            _with_width(codomain, own_codomain, fan_out),
        )
        self.geometry = geometry
        weight = torch.empty(tuple(shape), device=device, dtype=dtype)
        if not weight.is_floating_point():
            raise TypeError(f"{name} holds a floating-point weight, got dtype={dtype}")
        self.weight = nn.Parameter(weight)
        self.mass = mass  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            self.initialize_weight(None)

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Fill the weight with a random one of norm 1. Does nothing on the meta device."""
        if not self.weight.is_meta:
            device = self.weight.device if generator is None else generator.device
            fill(self.weight, self.geometry.sample(tuple(self.weight.shape), generator, device))

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        return meet(self._signature[0], domain), meet(self._signature[1], codomain)

    def _check_width(self, x: Tensor) -> None:
        """Refuse an input whose measured axis is not as wide as the domain."""
        space = self._signature[0]
        if isinstance(space, Space) and issubclass(space.norm, Dense) and space.width is not None:
            axis = space.norm.axis
            if x.dim() < -axis or x.shape[axis] != space.width:
                raise ValueError(
                    f"{self!r} takes {space}, the width on axis {axis}; got a tensor of shape "
                    f"{list(x.shape)}"
                )

    def _walk(self, prefix: str, downstream: float, roster: Roster) -> float:
        roster.enter_atom(
            prefix + "weight", typing.cast("Atom[SpaceType, SpaceType]", self), downstream
        )
        return roster.note_sensitivity(self)

    def _node(self, place: str, signature: Signature) -> Node:
        return super()._node(place, signature)._replace(shape=tuple(self.weight.shape))


class Bond(Module[S, T]):
    """A module without weights. Subclass it with its two spaces, declare `sensitivity`, define
    `forward`.

    For a map that is at hand as a function, `FunctionBond` does it in one call.

    Example:
        >>> import torch
        >>> from modula import RMS, Bond, Linear
        >>> class Softplus(Bond[RMS, RMS]):
        ...     sensitivity = 1.0  # its derivative is the logistic function, which stays below 1
        ...
        ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
        ...         return torch.nn.functional.softplus(x)
        >>> model = Linear(10, 256) @ Softplus() @ Linear(256, 784)
        >>> model.sensitivity
        1.0
    """

    mass: float = 0.0  # pyright: ignore[reportIncompatibleMethodOverride]
    sensitivity: float = 1.0  # pyright: ignore[reportIncompatibleMethodOverride]
    claim: Claim = "estimate"

    def _check_declaration(self, name: str, value: object) -> None:
        if name == "mass" and value != 0:
            raise ValueError(f"{self!r} is a bond: it has no weights to learn, and its mass is 0")
        super()._check_declaration(name, value)

    def _walk(self, prefix: str, downstream: float, roster: Roster) -> float:
        for module in self.modules() if self._modules else (self,):
            if module._parameters:
                raise TypeError(
                    f"{self!r} is a bond and holds parameters, which no duality map would reach: "
                    "make it an Atom, or compose atoms"
                )
            roster.note_held(module._parameters)
            roster.note_held(module._modules)
        return roster.note_sensitivity(self)


class Neighbour(Norm):
    """Stands for the space of whatever module comes next to a bond that adopts it."""


class Elementwise(Bond[Neighbour, Neighbour]):
    """A bond that maps every dense space to itself: it takes the type and the width of its
    neighbour.

    Subclass it for a function of single entries, f(0) = 0 not required. `sensitivity` must
    bound |f'|; under every norm that depends on magnitudes only, that bounds the map.
    """

    _declared = (ANY_DENSE, ANY_DENSE)

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        own, _ = self._declared
        space = meet(meet(own, domain), codomain)
        return space, space

    if TYPE_CHECKING:

        def _gives(self, taken: Exactly[D]) -> Exactly[D]: ...  # type: ignore[override]
        def _takes(self, given: Exactly[D]) -> Exactly[D]: ...  # type: ignore[override]
        def _starts(self, taken: Exactly[D]) -> None: ...  # type: ignore[override]

        @overload  # type: ignore[override]
        def __matmul__(self, other: Elementwise) -> Elementwise: ...
        @overload
        def __matmul__(self, other: Add) -> Add: ...
        @overload
        def __matmul__(self, other: Module[Z, D]) -> Module[Z, D]: ...
        def __matmul__(self, other: object) -> AnyModule: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        @overload  # type: ignore[override]
        def __rmatmul__(self, other: tuple[Gives[D, A], Gives[D, B]]) -> Module[D, tuple[A, B]]: ...
        @overload
        def __rmatmul__(
            self, other: tuple[Gives[D, A], Gives[D, B], Gives[D, C]]
        ) -> Module[D, tuple[A, B, C]]: ...
        @overload
        def __rmatmul__(self, other: tuple[Gives[D, A], ...]) -> Module[D, tuple[A, ...]]: ...
        def __rmatmul__(self, other: object) -> AnyModule: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        @overload  # type: ignore[override]
        def __add__(self, other: Elementwise) -> Elementwise: ...
        @overload
        def __add__(self, other: Module[D, D]) -> Module[D, D]: ...
        def __add__(self, other: object) -> AnyModule: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        def __mul__(self, scalar: float) -> Elementwise: ...
        def __rmul__(self, scalar: float) -> Elementwise: ...
        def __truediv__(self, scalar: float) -> Elementwise: ...


class Transparent(Elementwise):
    """A bond that maps any space to itself: dense ones, ids, tuples."""

    _declared = (ANYTHING, ANYTHING)

    if TYPE_CHECKING:

        def _gives(self, taken: Exactly[Z]) -> Exactly[Z]: ...
        def _takes(self, given: Exactly[Z]) -> Exactly[Z]: ...
        def _starts(self, taken: Exactly[Z]) -> None: ...

        @overload  # type: ignore[override]
        def __call__(self, x: Tensor, /) -> Tensor: ...
        @overload
        def __call__(self, x: V, /) -> V: ...
        def __call__(self, x: Value, /) -> Value: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        @overload  # type: ignore[override]
        def __matmul__(self, other: Transparent) -> Transparent: ...
        @overload
        def __matmul__(self, other: Elementwise) -> Elementwise: ...
        @overload
        def __matmul__(self, other: Add) -> Add: ...
        @overload
        def __matmul__(self, other: Module[Z, A]) -> Module[Z, A]: ...
        @overload
        def __matmul__(self, other: tuple[Gives[Z, A], Gives[Z, B]]) -> Module[Z, tuple[A, B]]: ...
        @overload
        def __matmul__(
            self, other: tuple[Gives[Z, A], Gives[Z, B], Gives[Z, C]]
        ) -> Module[Z, tuple[A, B, C]]: ...
        @overload
        def __matmul__(self, other: tuple[Gives[Z, A], ...]) -> Module[Z, tuple[A, ...]]: ...
        def __matmul__(self, other: object) -> AnyModule: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        @overload  # type: ignore[override]
        def __rmatmul__(self, other: tuple[Gives[Z, A], Gives[Z, B]]) -> Module[Z, tuple[A, B]]: ...
        @overload
        def __rmatmul__(
            self, other: tuple[Gives[Z, A], Gives[Z, B], Gives[Z, C]]
        ) -> Module[Z, tuple[A, B, C]]: ...
        @overload
        def __rmatmul__(self, other: tuple[Gives[Z, A], ...]) -> Module[Z, tuple[A, ...]]: ...
        def __rmatmul__(self, other: object) -> AnyModule: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        @overload  # type: ignore[override]
        def __add__(self, other: Transparent) -> Transparent: ...
        @overload
        def __add__(self, other: Elementwise) -> Elementwise: ...
        @overload
        def __add__(self, other: Module[Z, Z]) -> Module[Z, Z]: ...
        def __add__(self, other: object) -> AnyModule: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        def __mul__(self, scalar: float) -> Transparent: ...
        def __rmul__(self, scalar: float) -> Transparent: ...
        def __truediv__(self, scalar: float) -> Transparent: ...


class Identity(Transparent):
    """The map that changes nothing.

    Sensitivity 1: proved, under every norm.
    """

    claim: Claim = "proved"

    def forward(self, x: Value) -> Value:
        return x


class Mul(Transparent):
    """Multiplication by a fixed number; what `a * module` composes with.

    Sensitivity |a|: proved, under every norm.

    Args:
        scale: a finite number, not 0.

    Raises:
        ValueError: the number is 0 or not finite.
    """

    claim: Claim = "proved"

    def __init__(self, scale: float) -> None:
        super().__init__()
        if not math.isfinite(scale) or scale == 0:
            raise ValueError(
                f"cannot multiply a module by {scale}: its sensitivity must be positive and "
                "finite; to silence a module leave it out, to stop training it use tare(0)"
            )
        self.scale: float = float(scale)
        self.sensitivity: float = abs(self.scale)

    def forward(self, x: Value) -> Value:
        return tuple([self.forward(part) for part in x]) if isinstance(x, tuple) else self.scale * x

    def extra_repr(self) -> str:
        return f"{self.scale:.6g}"


class Add(Bond[Neighbour, Neighbour]):
    """The sum of a tuple of tensors of one space; what `f + g` composes with.

    Sensitivity 1: proved, by the triangle inequality, since the norm of a tuple is the sum of its
    parts' norms.
    """

    claim: Claim = "proved"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        if domain == ANYTHING:
            return domain, codomain
        if not isinstance(domain, Product):
            raise MismatchError(f"Add takes a tuple, as in Add() @ (f, g), not {domain}")
        space = codomain
        for part in domain.parts:
            space = meet(space, part)
        return Product((space,) * len(domain.parts)), space

    def forward(self, x: tuple[Value, ...]) -> Value:
        total = x[0]
        for part in x[1:]:
            total = _added(total, part)
        return total

    if TYPE_CHECKING:

        def _gives(self, taken: Exactly[tuple[Z, ...]]) -> Exactly[Z]: ...  # type: ignore[override]
        def _takes(self, given: Exactly[Z]) -> Exactly[tuple[Z, ...]]: ...  # type: ignore[override]
        def _starts(self, taken: Exactly[tuple[Z, ...]]) -> None: ...  # type: ignore[override]

        @overload  # type: ignore[override]
        def __matmul__(self, other: Transparent) -> Add: ...
        @overload
        def __matmul__(self, other: tuple[Transparent, ...]) -> Transparent: ...
        @overload
        def __matmul__(self, other: tuple[Elementwise, ...]) -> Elementwise: ...
        @overload
        def __matmul__(self, other: tuple[Gives[Z, A], ...]) -> Module[Z, A]: ...
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
        def __matmul__(self, other: Gives[Z, tuple[A, ...]]) -> Module[Z, A]: ...
        def __matmul__(self, other: object) -> AnyModule: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        @overload  # type: ignore[override]
        def __rmatmul__(self, other: tuple[Gives[Z, A], Gives[Z, B]]) -> OfSum[Z, tuple[A, B]]: ...
        @overload
        def __rmatmul__(
            self, other: tuple[Gives[Z, A], Gives[Z, B], Gives[Z, C]]
        ) -> OfSum[Z, tuple[A, B, C]]: ...
        @overload
        def __rmatmul__(self, other: tuple[Gives[Z, A], ...]) -> OfSum[Z, tuple[A, ...]]: ...
        def __rmatmul__(self, other: object) -> AnyModule: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        def __mul__(self, scalar: float) -> Add: ...
        def __rmul__(self, scalar: float) -> Add: ...
        def __truediv__(self, scalar: float) -> Add: ...


if TYPE_CHECKING:

    class OfSum(Module[tuple[X, ...], Y]):
        """What `f @ Add()` is to a checker: a module on tuples of any length. (mypy would let a
        self-typed overload of Module pass.)
        """

        @overload  # type: ignore[override]
        def __matmul__(self, other: tuple[Takes[Z, X], ...]) -> Module[Z, Y]: ...
        @overload
        def __matmul__(self, other: Takes[Z, tuple[X, ...]]) -> Module[Z, Y]: ...
        def __matmul__(self, other: object) -> AnyModule: ...  # pyright: ignore[reportIncompatibleMethodOverride]


class Compound(Module[X, Y]):
    """A module made of modules. Mass, sensitivity and the norm of the weights follow from what is
    inside.

    Iterate over it, or index it, to reach the modules inside, in the order in which data meets
    them. `compound[i] = module` puts another in place if it maps the same spaces.
    """

    _signature: Signature
    _last_survey: Roster | None = None

    def _adopt(self, parts: Sequence[AnyModule], signature: Signature) -> None:
        """Take `parts` in, in flow order."""
        self._signature = signature
        for i, part in enumerate(parts):
            self.add_module(str(i), part)
        self._survey()

    def _infer_signatures(
        self, parts: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace
    ) -> list[Signature]:
        """The ends of each part, given those of the whole.

        Raises:
            MismatchError: the parts do not fit.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say how its parts meet: subclass Composition or "
            "Concatenation"
        )

    def _outer_signature(self, places: list[Signature]) -> Signature:
        """The ends of the whole, given those of each part."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say how its parts meet: subclass Composition or "
            "Concatenation"
        )

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        signature = meet(self._signature[0], domain), meet(self._signature[1], codomain)
        return (
            signature
            if signature == self._signature
            else self._outer_signature(self._infer_signatures(list(self), *signature))
        )

    def _roster(self) -> Roster:
        if torch.compiler.is_compiling():
            return self._survey()
        last = self._last_survey
        if last is None or not last.is_current(self):
            self._last_survey = last = self._survey()
        return last

    def __getstate__(self) -> dict[str, object]:
        """All but the last survey: a copy makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_last_survey"}

    def _parts(self) -> dict[str, AnyModule]:
        """The modules inside by name, in flow order."""
        return typing.cast("dict[str, AnyModule]", self._modules)

    def __iter__(self) -> Iterator[AnyModule]:
        return iter(self._parts().values())

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> AnyModule:
        return list(self)[index]

    def __setitem__(self, index: int, module: AnyModule) -> None:
        parts = list(self)
        parts[index] = _as_module(module, "[…] =", self)
        place = f"cannot put {module!r} in place {index} of {self!r}"
        try:
            signature = self._outer_signature(self._infer_signatures(parts, ANYTHING, ANYTHING))
        except MismatchError as mismatch:
            raise CompositionError(f"{place}: {mismatch}") from None
        if signature != self._signature:
            raise CompositionError(
                f"{place}: that would turn {arrow(self._signature)} into {arrow(signature)} inside "
                "whatever holds it"
            )
        refuse_repeated([atom for part in parts for atom in part._survey().atoms])
        self._modules[str(range(len(self))[index])] = module

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__.get("_modules", ()):
            self[int(name)] = typing.cast("AnyModule", value)
        else:
            super().__setattr__(name, value)

    def _check_declaration(self, name: str, value: object) -> None:
        how = (
            "rescale it with tare(mass)"
            if name == "mass"
            else "scale the module, as in 0.5 * module"
        )
        raise AttributeError(
            f"the {name} of {self!r} follows from the modules inside: {how}, or set that of an "
            "atom or bond inside"
        )

    def _node(self, place: str, signature: Signature) -> Node:
        whole = super()._node(place, signature)
        if not self._survey().atoms:
            return whole
        places = self._infer_signatures(list(self), *signature)
        children = tuple(
            [
                part._node(str(i), place)
                for i, (part, place) in enumerate(zip(self, places, strict=True))
            ]
        )
        return whole._replace(name=self._title(), children=children)

    def _title(self) -> str:
        """The name of this node in the tree, where its parts have lines of their own."""
        return type(self).__name__ if type(self) in (Composition, Concatenation) else repr(self)


class Composition(Compound[S, T]):
    """Modules applied one after another; what `f @ g` makes. A chain is flat, however it was
    bracketed.

    Subclass it to give a network of your own a name: the subclass stands as one node in the tree
    and in errors.

    Args:
        module: the network, as an expression.

    Example:
        >>> from modula import RMS, Composition, Linear, ReLU
        >>> class Block(Composition[RMS, RMS]):
        ...     def __init__(self, width: int) -> None:
        ...         super().__init__(Linear(width, width) @ ReLU() @ Linear(width, width))
        >>> (Block(8) @ Block(8)).mass
        4.0

    Source: Large et al. 2024 (arXiv:2405.14813), definition 3.
    """

    def __init__(self, module: Module[S, T]) -> None:
        super().__init__()
        self._adopt(module._links(), module.unify(ANYTHING, ANYTHING))

    @classmethod
    def _in_flow_order(cls, parts: Sequence[AnyModule], signature: Signature) -> AnyModule:
        made: Composition[SpaceType, SpaceType] = Composition.__new__(Composition)
        nn.Module.__init__(made)
        made._adopt(parts, signature)
        return made

    def forward(self, x: Value) -> Value:
        for part in self._parts().values():
            x = part(x)
        return x

    def _walk(self, prefix: str, downstream: float, roster: Roster) -> float:
        roster.note_held(self._modules)
        sensitivity = 1.0
        for name, part in reversed(self._parts().items()):
            sensitivity *= part._walk(f"{prefix}{name}.", downstream * sensitivity, roster)
        return sensitivity

    def _links(self) -> list[AnyModule]:
        return list(self) if type(self) is Composition and not _is_sum(self) else [self]

    def _node(self, place: str, signature: Signature) -> Node:
        whole = super()._node(place, signature)
        if not _is_sum(self) or not whole.children:
            return whole
        terms = tuple(
            [term._replace(place=f"0.{term.place}") for term in whole.children[0].children]
        )
        return whole._replace(name="Sum", children=terms)

    def _infer_signatures(
        self, parts: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace
    ) -> list[Signature]:
        seams: list[AnySpace] = [domain, *[ANYTHING] * (len(parts) - 1), codomain]
        before: list[AnySpace] = []
        while before != seams:
            before = list(seams)
            for i in (*range(len(parts)), *reversed(range(len(parts)))):
                seams[i], seams[i + 1] = parts[i].unify(seams[i], seams[i + 1])
        return list(pairwise(seams))

    def _outer_signature(self, places: list[Signature]) -> Signature:
        return places[0][0], places[-1][1]

    def __repr__(self) -> str:
        if type(self) is not Composition:
            return super().__repr__()
        if _is_sum(self):
            return " + ".join([repr(term) for term in _terms(self)])
        written = [_operand(part) for part in reversed(list(self))]
        if isinstance(self[-1], Mul) and len(written) > 1:
            written[:2] = [f"{self[-1].extra_repr()} * {written[1]}"]
        return " @ ".join(written if len(written) <= 6 else [*written[:3], "…", *written[-2:]])


class Concatenation(Compound[X, Y]):
    """Modules applied to one input, side by side; what a tuple of modules stands for. The output is
    a tuple.

    Args:
        modules: at least one, all with the same domain.

    Raises:
        CompositionError: the domains differ.

    Source: Large et al. 2024 (arXiv:2405.14813), definition 4.
    """

    if TYPE_CHECKING:

        @overload
        def __init__(self: Concatenation[Z, tuple[A]], first: Gives[Z, A], /) -> None: ...
        @overload
        def __init__(
            self: Concatenation[Z, tuple[A, B]], first: Gives[Z, A], second: Gives[Z, B], /
        ) -> None: ...
        @overload
        def __init__(
            self: Concatenation[Z, tuple[A, B, C]],
            first: Gives[Z, A],
            second: Gives[Z, B],
            third: Gives[Z, C],
            /,
        ) -> None: ...
        @overload
        def __init__(
            self: Concatenation[Z, tuple[A, B, C, E]],
            first: Gives[Z, A],
            second: Gives[Z, B],
            third: Gives[Z, C],
            fourth: Gives[Z, E],
            /,
        ) -> None: ...
        @overload
        def __init__(
            self: Concatenation[Z, tuple[A, B, C, E, F]],
            first: Gives[Z, A],
            second: Gives[Z, B],
            third: Gives[Z, C],
            fourth: Gives[Z, E],
            fifth: Gives[Z, F],
            /,
        ) -> None: ...
        @overload
        def __init__(
            self: Concatenation[Z, tuple[A, B, C, E, F, G]],
            first: Gives[Z, A],
            second: Gives[Z, B],
            third: Gives[Z, C],
            fourth: Gives[Z, E],
            fifth: Gives[Z, F],
            sixth: Gives[Z, G],
            /,
        ) -> None: ...
        @overload
        def __init__(
            self: Concatenation[Z, tuple[A, B, C, E, F, G, H]],
            first: Gives[Z, A],
            second: Gives[Z, B],
            third: Gives[Z, C],
            fourth: Gives[Z, E],
            fifth: Gives[Z, F],
            sixth: Gives[Z, G],
            seventh: Gives[Z, H],
            /,
        ) -> None: ...
        @overload
        def __init__(
            self: Concatenation[Z, tuple[A, B, C, E, F, G, H, J]],
            first: Gives[Z, A],
            second: Gives[Z, B],
            third: Gives[Z, C],
            fourth: Gives[Z, E],
            fifth: Gives[Z, F],
            sixth: Gives[Z, G],
            seventh: Gives[Z, H],
            eighth: Gives[Z, J],
            /,
        ) -> None: ...
        @overload
        def __init__(
            self: Concatenation[Z, tuple[A, ...]], first: Gives[Z, A], /, *modules: Gives[Z, A]
        ) -> None: ...
        def __init__(self, *modules: object) -> None: ...

    else:

        def __init__(self, *modules):
            super().__init__()
            if not modules:
                raise ValueError("a concatenation takes at least one module, got an empty tuple")
            parts = [_as_module(module, ",", self) for module in modules]
            try:
                signature = self._outer_signature(self._infer_signatures(parts, ANYTHING, ANYTHING))
            except MismatchError as mismatch:
                listed = "; ".join(f"{part!r} takes {part.domain}" for part in parts)
                raise CompositionError(
                    f"cannot concatenate modules whose domains differ: {mismatch}. {listed}"
                ) from None
            self._adopt(parts, signature)

    def forward(self, x: Value) -> tuple[Value, ...]:
        return tuple([part(x) for part in self._parts().values()])

    def _walk(self, prefix: str, downstream: float, roster: Roster) -> float:
        roster.note_held(self._modules)
        sensitivity = 0.0
        for name, part in reversed(self._parts().items()):
            sensitivity += part._walk(f"{prefix}{name}.", downstream, roster)
        return sensitivity

    def _infer_signatures(
        self, parts: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace
    ) -> list[Signature]:
        outputs = meet(Product((ANYTHING,) * len(parts)), codomain)
        codomains = list(typing.cast("Product", outputs).parts)
        before = None
        while before != (domain, codomains):
            before = (domain, list(codomains))
            for i, part in enumerate(parts):
                domain, codomains[i] = part.unify(domain, codomains[i])
        return [(domain, place) for place in codomains]

    def _outer_signature(self, places: list[Signature]) -> Signature:
        return places[0][0], Product(tuple(codomain for _, codomain in places))

    def __repr__(self) -> str:
        return f"({', '.join(map(repr, self))})"


def _compose(outer: AnyModule, inner: AnyModule) -> AnyModule:
    """outer ∘ inner, flat."""
    return Composition._in_flow_order([*inner._links(), *outer._links()], _join(outer, inner))


def _join(outer: AnyModule, inner: AnyModule) -> Signature:
    """The ends of outer ∘ inner.

    Raises:
        CompositionError: the codomain of `inner` is not the domain of `outer`.
    """
    try:
        seam, codomain = outer.unify(meet(outer.domain, inner.codomain), ANYTHING)
        domain, _ = inner.unify(ANYTHING, seam)
        return domain, codomain
    except MismatchError as mismatch:
        wanted, given = outer.domain, inner.codomain
        raise CompositionError(
            f"cannot compose {_operand(outer)} @ {_operand(inner)}: {outer!r} takes {wanted} and "
            f"{inner!r} gives {given}: {mismatch}{suggest_fix(given, wanted)}"
        ) from None


def _operand(module: AnyModule) -> str:
    return f"({module!r})" if type(module) is Composition else repr(module)


def _sum(first: AnyModule, second: AnyModule) -> AnyModule:
    """first + second, as one flat sum."""
    terms = [*_terms(first), *_terms(second)]
    try:
        return _compose(Add(), _concatenate(terms))
    except CompositionError as error:
        listed = "; ".join(
            f"{term!r} maps {arrow(term.unify(ANYTHING, ANYTHING))}" for term in terms
        )
        raise CompositionError(
            f"cannot add {first!r} + {second!r}, whose ends differ: {listed}"
        ) from error


def _added(one: Value, other: Value) -> Value:
    """one + other, part by part where they are tuples."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return tuple([_added(a, b) for a, b in zip(one, other, strict=True)])
    return typing.cast("Tensor", one) + typing.cast("Tensor", other)


def _is_sum(module: AnyModule) -> bool:
    return (
        type(module) is Composition
        and len(module) == 2
        and type(module[1]) is Add
        and type(module[0]) is Concatenation
    )


def _terms(module: AnyModule) -> list[AnyModule]:
    return (
        list(typing.cast("dict[str, AnyModule]", module.get_submodule("0")._modules).values())
        if _is_sum(module)
        else [module]
    )


def _as_module(
    value: object, operation: str, partner: AnyModule, *, reflected: bool = False
) -> AnyModule:
    """`value` if it is a module, the concatenation if it is a tuple of modules. `reflected`: it was
    written on the left.
    """
    if isinstance(value, tuple):
        return _concatenate(value)
    if not isinstance(value, AnyModule):
        _refuse_operand(partner, operation, value, reflected=reflected)
    return value


def _concatenate(modules: Sequence[object]) -> AnyModule:
    """The concatenation of modules whose types no checker follows."""
    return typing.cast("Callable[..., AnyModule]", Concatenation)(*modules)


def _refuse_operand(
    module: AnyModule, operation: str, other: object, *, reflected: bool = False
) -> NoReturn:
    """Raise the TypeError that says why `module operation other` (or the reverse) has no meaning,
    and what to do instead.
    """
    name = type(other).__name__
    theirs = repr(other) if isinstance(other, AnyModule) else name
    if isinstance(other, type) and issubclass(other, nn.Module):
        theirs, advice = (
            other.__name__,
            f"this is a class; write {other.__name__}(…) to make a module",
        )
    elif operation == "-":
        advice = "subtract by adding a multiple, as in f + (-1) * g"
    elif operation in ("*", "/"):
        advice = "a module is scaled by a number; to compose modules use @"
    elif isinstance(other, nn.Module):
        bond = f"FunctionBond({name}(…), domain=RMS, codomain=RMS, sensitivity=…)"
        advice = f"a torch.nn module declares no norms; wrap it, as in {bond}, or write an Atom"
    elif isinstance(other, Tensor):
        advice = "to apply a module to a tensor call it, as in module(x)"
    else:
        advice = "modules compose with modules and with tuples of modules"
    written = (
        f"{theirs} {operation} {module!r}" if reflected else f"{module!r} {operation} {theirs}"
    )
    raise TypeError(f"{written} has no meaning: {advice}")


def _with_width(norm: type[Norm] | None, declared: AnySpace, width: int | None) -> AnySpace:
    if norm is not None:
        return Space(norm, width)
    return meet(declared, Space(declared.norm, width)) if isinstance(declared, Space) else declared
