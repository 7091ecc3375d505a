"""Modules and their algebra: atoms, bonds, composition, concatenation.

A module is a forward map with a mass, a sensitivity and a norm on its weights (Large et al. 2024, arXiv:2405.14813,
definition 2). Atoms declare the three, bonds carry no weights, compounds derive them; duality follows from the same tree
(Bernstein & Newhouse 2025, arXiv:2410.21265, section 3).
"""

from __future__ import annotations

import copy
import math
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Generic, NoReturn, Protocol, Self, TypeAlias, TypedDict, TypeVar, TypeVarTuple, overload

import torch
from torch import Tensor, nn

from modula.declarations import check_mass, check_sensitivity, is_number
from modula.duality import Plan
from modula.geometry import Geometry, NormPairError, operator_geometry
from modula.norms import Dense, HeadRMS, Norm, VectorNorm
from modula.polar import MethodLike
from modula.spaces import ANY_DENSE, ANYTHING, AnySpace, MismatchError, Product, Space, Value, meet, space_of
from modula.tree import Node, render
from modula.vector import Gradient, Update, Weights

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
# Bounded where a class names its spaces, which is where a mistake would enter. The others are free: mypy infers Any for a bond next to an
# operand whose type variable is bounded by a union.
S = TypeVar("S", bound=SpaceType)
T = TypeVar("T", bound=SpaceType)
V = TypeVar("V", bound=Value)

Ends: TypeAlias = tuple[AnySpace, AnySpace]
"""The domain and the codomain of a module, as far as they are known."""


class CompositionError(TypeError):
    """Modules that do not fit together: their types differ, or their widths."""


class Exactly(Generic[X]):
    """A checker's view of one space: invariant, so that a norm type never stands in for one that it inherits from."""

    def _is(self, space: X) -> X: ...  # type: ignore[empty-body] # for checkers only


class Gives(Protocol[X, Y]):
    """A checker's view of a map, asked forwards: its codomain, once the domain is known.

    A bond that adopts its neighbour's space answers with a type variable. These are protocols on the operand, because mypy lets
    a self-typed operator through whatever `self` is.
    """

    def _gives(self, taken: Exactly[X]) -> Exactly[Y]: ...


class Starts(Protocol[X]):
    """A checker's view of the domain of a map alone."""

    def _starts(self, taken: Exactly[X]) -> None: ...


class Takes(Protocol[X, Y]):
    """A checker's view of a map, asked backwards: its domain, once the codomain is known."""

    def _takes(self, given: Exactly[Y]) -> Exactly[X]: ...


@dataclass(slots=True)
class Roster:
    """The atoms of a tree in parameter order. Three lists, not a list of triples, which would cost more than the walk."""

    names: list[str] = field(default_factory=list)
    """Of the atoms' parameters."""

    atoms: list[Atom[SpaceType, SpaceType]] = field(default_factory=list)

    downstream: list[float] = field(default_factory=list)
    """S: for each atom the product of the sensitivities applied after it."""


if TYPE_CHECKING:

    class _Power:
        """`**` for modules from a space to itself. A self-typed method would do, but mypy lets those through in operators."""

        @overload
        def __get__(self, instance: Transparent, owner: object) -> Callable[[int], Transparent]: ...
        @overload
        def __get__(self, instance: Elementwise, owner: object) -> Callable[[int], Elementwise]: ...
        @overload
        def __get__(self, instance: Module[Z, Z], owner: object) -> Callable[[int], Module[Z, Z]]: ...
        def __get__(self, instance: object, owner: object) -> Callable[[int], AnyModule]: ...


class AnyModule(nn.Module):
    """A module whatever its spaces: all but the algebra, which needs to know them. What code that treats a network as data works with."""

    __array_ufunc__: ClassVar[None] = None  # so that a NumPy scalar on the left leaves the product to __rmul__
    _declared: Ends = (ANYTHING, ANYTHING)

    if TYPE_CHECKING:

        def __init__(self) -> None: ...  # torch's takes any arguments, and refuses them when it runs
        def __call__(self, x: Value, /) -> Value: ...

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in cls.__dict__.get("__orig_bases__", ()):
            arguments = typing.get_args(base)
            wrong = [one for one in arguments if isinstance(one, type) and space_of(one) is None]
            if wrong and issubclass(typing.get_origin(base), AnyModule):
                raise TypeError(
                    f"{wrong[0].__name__} is no norm type: {cls.__name__} maps between norm types, such as RMS, and tuples of them"
                )
            ends = [space_of(one) for one in arguments]
            if len(ends) == 2 and "_declared" not in cls.__dict__:
                cls._declared = (ends[0] or ANYTHING, ends[1] or ANYTHING)
        for name, check in (("mass", check_mass), ("sensitivity", check_sensitivity)):
            if isinstance(cls.__dict__.get(name), (int, float)):
                check(cls.__name__, cls.__dict__[name])

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("mass", "sensitivity"):
            self._check_declaration(name, value)
        super().__setattr__(name, typing.cast("Tensor", value))

    def _check_declaration(self, name: str, value: object) -> None:
        """Refuse a mass or sensitivity that this module cannot have."""
        (check_mass if name == "mass" else check_sensitivity)(self, value)

    @property
    def mass(self) -> float:
        """The share of feature learning that the module takes, m ≥ 0, relative to others: the sum over the atoms inside."""
        return math.fsum([atom.mass for atom in self._roster().atoms])

    @property
    def sensitivity(self) -> float:
        """s > 0 with ‖∂f·Δx‖ ≤ s·‖Δx‖: how much a change of the input can grow on its way through."""
        return self._walk("", 1.0, Roster())

    # Types

    def narrow(self, domain: AnySpace, codomain: AnySpace) -> Ends:
        """What is known of both ends, given what the neighbours know of them.

        A bond whose ends depend on one another overrides this.

        Args:
            domain: what the neighbour before knows of the space that they share.
            codomain: what the neighbour after knows.

        Raises:
            MismatchError: the module cannot stand there.
        """
        own_domain, own_codomain = self._declared
        return meet(own_domain, domain), meet(own_codomain, codomain)

    @property
    def domain(self) -> AnySpace:
        """The space of the input, with its width if that is known."""
        return self.narrow(ANYTHING, ANYTHING)[0]

    @property
    def codomain(self) -> AnySpace:
        """The space of the output, with its width if that is known."""
        return self.narrow(ANYTHING, ANYTHING)[1]

    def tare(self, mass: float = 1.0) -> Self:
        """Rescale the masses of all atoms inside so that they sum to `mass`, in place.

        Args:
            mass: the new total, ≥ 0. With 0 the module is no longer trained, and its inner proportions are lost.

        Returns:
            The module itself.

        Raises:
            ValueError: a negative or non-finite mass, or a positive one for a module that has mass 0.
        """
        check_mass(self, mass)
        total = self.mass
        if total == 0:
            if mass == 0:
                return self
            raise ValueError(f"{self!r} has mass 0, so there is nothing to scale to {mass}: set the mass of its atoms instead")
        for atom in self._roster().atoms:
            atom.mass = atom.mass * (mass / total)
        return self

    # Weights and duality

    @property
    def weights(self) -> Weights:
        """A live view of all weights: `model.weights -= update` writes the parameters in place."""
        roster = self._roster()
        return Weights._of(tuple(roster.names), [atom.weight for atom in roster.atoms])

    @weights.setter
    def weights(self, value: Weights) -> None:
        if not isinstance(value, Weights):
            raise TypeError(f"model.weights takes Weights, got {type(value).__name__}: to move the weights write model.weights -= update")
        live = self.weights
        if any(old is not new for old, new in zip(live.tensors, value.tensors, strict=False)) or len(live) != len(value):
            live.copy_(value)

    def gradient(self, loss: Tensor | None = None) -> Gradient:
        """The gradient of `loss`, or what `loss.backward()` has left in the parameters' `.grad`.

        Args:
            loss: a scalar computed from this model's output. None collects `.grad`, without a copy: the gradient is a live view.

        Returns:
            One tensor a parameter. Weights that are frozen (`requires_grad=False`), or that the loss does not depend on, have a
            zero gradient.

        Raises:
            ValueError: the loss is no scalar, or depends on none of the weights; or no loss is given and a `.grad` is missing.
            TypeError: a `.grad` is not of floating-point dtype.
        """
        weights = self.weights
        grads = self._collected(weights) if loss is None else self._derivative(weights, loss)
        filled = [torch.zeros_like(w) if g is None else g.detach() for w, g in zip(weights.tensors, grads, strict=True)]
        for name, g in zip(weights.names, filled, strict=True):
            if not g.is_floating_point():
                raise TypeError(f"the gradient of {name!r} in {self!r} is of dtype {g.dtype}; gradients are floating-point tensors")
        return Gradient._of(weights.names, filled)

    def _collected(self, weights: Weights) -> list[Tensor | None]:
        missing = [name for name, w in weights.items() if w.requires_grad and w.grad is None]
        if missing:
            shown = ", ".join(map(repr, missing[:4])) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
            raise ValueError(f"no .grad in {shown} of {self!r}: call loss.backward() first, or pass the loss, as in model.gradient(loss)")
        return [w.grad for w in weights.tensors]

    def _derivative(self, weights: Weights, loss: Tensor) -> Sequence[Tensor | None]:
        if loss.dim() != 0:
            raise ValueError(f"a gradient is taken of a scalar loss, got one of shape {list(loss.shape)}: reduce it, as in loss.mean()")
        trained = [w for w in weights.tensors if w.requires_grad]
        grads = torch.autograd.grad(loss, trained, allow_unused=True) if loss.requires_grad and trained else [None] * len(trained)
        if all(g is None for g in grads):
            raise ValueError(
                f"the loss depends on no weight of {self!r}: compute it from this model's output, outside torch.no_grad(), with "
                "weights that require gradients"
            )
        found = iter(grads)
        return [next(found) if w.requires_grad else None for w in weights.tensors]

    @torch.no_grad()
    def dualize(self, grad: Gradient, target_norm: float = 1.0, *, method: MethodLike | None = None) -> Update:
        """The update of norm `target_norm` along which `grad` says the loss rises fastest; subtract it to descend.

        Args:
            grad: the gradient of this model, as `model.gradient` returns it.
            target_norm: the norm of the update.
            method: how matrices are orthogonalised, one of `modula.polar`'s; None is its default.

        Returns:
            target_norm · argmax over ‖t‖ = 1 of <grad, t>. Parts with zero gradient or zero mass are zero.

        Raises:
            TypeError: `grad` is no Gradient.
            LayoutError: `grad` belongs to another model.

        Example:
            >>> import torch
            >>> from modula import Linear, ReLU
            >>> model = Linear(2, 8) @ ReLU() @ Linear(8, 4)
            >>> grad = model.gradient(model(torch.randn(5, 4)).square().mean())
            >>> update = model.dualize(grad, method="svd")
            >>> round(model.norm(update).item(), 4)
            1.0

        Source: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 3.
        """
        if not isinstance(grad, Gradient):
            _refuse_vector(self, "dualize", "a Gradient, as model.gradient(loss) returns it", grad)
        return self._plan().dualize(grad, target_norm, method)

    @torch.no_grad()
    def norm(self, update: Update) -> Tensor:
        """The modular norm of an update, as a scalar tensor.

        Raises:
            TypeError: `update` is no Update.
            LayoutError: `update` belongs to another model.

        Source: Large et al. 2024 (arXiv:2405.14813), definitions 3 and 4.
        """
        if not isinstance(update, Update):
            _refuse_vector(self, "norm", "an Update (a gradient is measured by model.dual_norm)", update)
        return self._plan().norm(update)

    @torch.no_grad()
    def dual_norm(self, grad: Gradient) -> Tensor:
        """max over ‖t‖ = 1 of <grad, t>, as a scalar tensor: how fast the loss can fall to first order in one unit of norm.

        Raises:
            TypeError: `grad` is no Gradient.
            LayoutError: `grad` belongs to another model.
        """
        if not isinstance(grad, Gradient):
            _refuse_vector(self, "dual_norm", "a Gradient (an update is measured by model.norm)", grad)
        return self._plan().dual_norm(grad)

    @torch.no_grad()
    def normalize(self, update: Update, target_norm: float = 1.0) -> Update:
        """Rescale every atom's part to its full share of `target_norm`, keeping its direction.

        This is the normalisation of Large et al. 2024 (arXiv:2405.14813), algorithm 1, for any direction, such as Adam's. Parts
        that are zero stay zero.

        Raises:
            TypeError: `update` is no Update.
            LayoutError: `update` belongs to another model.
        """
        if not isinstance(update, Update):
            _refuse_vector(self, "normalize", "an Update (a gradient is mapped to one by model.dualize)", update)
        return self._plan().normalize(update, target_norm)

    @torch.no_grad()
    def project(self) -> None:
        """Move every weight to its natural constraint set: semi-orthogonal matrices, unit rows, biases and gains within the unit ball."""
        weights = self.weights
        torch._foreach_copy_(weights.tensors, self._plan().project(weights.tensors))

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew, each of norm 1 (biases are zero).

        Construction has done it already, except on the meta device: there do it after `to_empty`.

        Args:
            generator: where random numbers come from; they are drawn on its device, by default on that of each weight.
        """
        for atom in self._roster().atoms:
            atom.draw(generator)

    def _plan(self) -> Plan:
        roster = self._roster()
        masses = [atom.mass for atom in roster.atoms]
        total = math.fsum(masses)
        return Plan(
            names=roster.names,
            weights=[atom.weight for atom in roster.atoms],
            geometries=[atom.geometry for atom in roster.atoms],
            # coefficient_i = (m_i / m) / S_i
            coefficients=[(m / total) / S if total else 0.0 for m, S in zip(masses, roster.downstream, strict=True)],
            owner=self.__repr__,
        )

    # The tree

    def _roster(self) -> Roster:
        """All atoms in parameter order."""
        roster = Roster()
        self._walk("", 1.0, roster)
        for entries in (roster.names, roster.atoms, roster.downstream):
            entries.reverse()
        _refuse_repeated(roster.atoms)
        return roster

    def _walk(self, prefix: str, downstream: float, roster: Roster) -> float:
        """Enter every atom inside, the last in parameter order first, and return the sensitivity."""
        raise NotImplementedError(f"{type(self).__name__} is neither an Atom nor a Bond nor a compound: subclass one of these")

    def _links(self) -> list[AnyModule]:
        """The modules that a composition with this one strings together, in flow order."""
        return [self]

    def _node(self, place: str, ends: Ends) -> Node:
        """This module and what is below it, for print(model)."""
        return Node(place, repr(self), _arrow(ends), self.mass, self.sensitivity, None)

    def extra_repr(self) -> str:
        """The arguments as written, for errors and the tree."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def __str__(self) -> str:
        return render(self._node("", self.narrow(ANYTHING, ANYTHING)))


class Module(AnyModule, Generic[X, Y]):
    """A map from space `X` to space `Y` with a mass, a sensitivity and a norm on its weights.

    Modules are made by subclassing `Atom` or `Bond`, and by the algebra: `f @ g` composes (g is applied first), `(f, g)` applies
    both to one input, `f + g` adds their outputs, `a * f` and `f / a` scale, `f**n` composes n fresh copies.

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
        def __call__(self: Module[X, tuple[tuple[N1, N2], N3]], x: Value, /) -> tuple[tuple[Tensor, Tensor], Tensor]: ...
        @overload
        def __call__(self: Module[X, tuple[N1, tuple[N2, N3]]], x: Value, /) -> tuple[Tensor, tuple[Tensor, Tensor]]: ...
        @overload
        def __call__(
            self: Module[X, tuple[tuple[N1, N2], tuple[N3, N4]]], x: Value, /
        ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]: ...
        @overload
        def __call__(self: Module[X, tuple[N1]], x: Value, /) -> tuple[Tensor]: ...
        @overload
        def __call__(self: Module[X, tuple[N1, N2]], x: Value, /) -> tuple[Tensor, Tensor]: ...
        @overload
        def __call__(self: Module[X, tuple[N1, N2, N3]], x: Value, /) -> tuple[Tensor, Tensor, Tensor]: ...
        @overload
        def __call__(self: Module[X, tuple[N1, N2, N3, N4]], x: Value, /) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...
        @overload
        def __call__(self: Module[X, tuple[N1, N2, N3, N4, N5]], x: Value, /) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]: ...
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
    def __matmul__(self: Module[tuple[A, B], Y], other: tuple[Takes[Z, A], Takes[Z, B]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self: Module[tuple[A, B, C], Y], other: tuple[Takes[Z, A], Takes[Z, B], Takes[Z, C]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E], Y], other: tuple[Takes[Z, A], Takes[Z, B], Takes[Z, C], Takes[Z, E]]
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F], Y], other: tuple[Takes[Z, A], Takes[Z, B], Takes[Z, C], Takes[Z, E], Takes[Z, F]]
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F, G], Y], other: tuple[Takes[Z, A], Takes[Z, B], Takes[Z, C], Takes[Z, E], Takes[Z, F], Takes[Z, G]]
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F, G, H], Y],
        other: tuple[Takes[Z, A], Takes[Z, B], Takes[Z, C], Takes[Z, E], Takes[Z, F], Takes[Z, G], Takes[Z, H]],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F, G, H, J], Y],
        other: tuple[Takes[Z, A], Takes[Z, B], Takes[Z, C], Takes[Z, E], Takes[Z, F], Takes[Z, G], Takes[Z, H], Takes[Z, J]],
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self: Module[tuple[tuple[A, B], C], Y], other: tuple[tuple[Takes[Z, A], Takes[Z, B]], Takes[Z, C]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(self: Module[tuple[A, tuple[B, C]], Y], other: tuple[Takes[Z, A], tuple[Takes[Z, B], Takes[Z, C]]]) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[tuple[A, B], tuple[C, E]], Y], other: tuple[tuple[Takes[Z, A], Takes[Z, B]], tuple[Takes[Z, C], Takes[Z, E]]]
    ) -> Module[Z, Y]: ...
    @overload
    def __matmul__(
        self: Module[tuple[A, B, C, E, F, G, H, J, *Rest], Y],
        other: tuple[
            Takes[Z, A], Takes[Z, B], Takes[Z, C], Takes[Z, E], Takes[Z, F], Takes[Z, G], Takes[Z, H], Takes[Z, J], *tuple[Starts[Z], ...]
        ],
    ) -> Module[Z, Y]: ...
    def __matmul__(self, other: object) -> AnyModule:
        return _compose(self, _as_module(other, "@", self))

    @overload
    def __rmatmul__(self, other: tuple[Gives[Y, A]]) -> Module[X, tuple[A]]: ...
    @overload
    def __rmatmul__(self, other: tuple[Gives[Y, A], Gives[Y, B]]) -> Module[X, tuple[A, B]]: ...
    @overload
    def __rmatmul__(self, other: tuple[Gives[Y, A], Gives[Y, B], Gives[Y, C]]) -> Module[X, tuple[A, B, C]]: ...
    @overload
    def __rmatmul__(self, other: tuple[Gives[Y, A], Gives[Y, B], Gives[Y, C], Gives[Y, E]]) -> Module[X, tuple[A, B, C, E]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Gives[Y, A], Gives[Y, B], Gives[Y, C], Gives[Y, E], Gives[Y, F]]
    ) -> Module[X, tuple[A, B, C, E, F]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Gives[Y, A], Gives[Y, B], Gives[Y, C], Gives[Y, E], Gives[Y, F], Gives[Y, G]]
    ) -> Module[X, tuple[A, B, C, E, F, G]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Gives[Y, A], Gives[Y, B], Gives[Y, C], Gives[Y, E], Gives[Y, F], Gives[Y, G], Gives[Y, H]]
    ) -> Module[X, tuple[A, B, C, E, F, G, H]]: ...
    @overload
    def __rmatmul__(
        self, other: tuple[Gives[Y, A], Gives[Y, B], Gives[Y, C], Gives[Y, E], Gives[Y, F], Gives[Y, G], Gives[Y, H], Gives[Y, J]]
    ) -> Module[X, tuple[A, B, C, E, F, G, H, J]]: ...
    @overload
    def __rmatmul__(self, other: tuple[tuple[Gives[Y, A], Gives[Y, B]], Gives[Y, C]]) -> Module[X, tuple[tuple[A, B], C]]: ...
    @overload
    def __rmatmul__(self, other: tuple[Gives[Y, A], tuple[Gives[Y, B], Gives[Y, C]]]) -> Module[X, tuple[A, tuple[B, C]]]: ...
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
    def __add__(self: Module[X, tuple[A, B]], other: tuple[Gives[X, A], Gives[X, B]]) -> Module[X, tuple[A, B]]: ...
    @overload
    def __add__(self: Module[X, tuple[A, B, C]], other: tuple[Gives[X, A], Gives[X, B], Gives[X, C]]) -> Module[X, tuple[A, B, C]]: ...
    def __add__(self, other: object) -> AnyModule:
        return _sum(self, _as_module(other, "+", self))

    @overload
    def __radd__(self: Module[X, tuple[A, B]], other: tuple[Gives[X, A], Gives[X, B]]) -> Module[X, tuple[A, B]]: ...
    @overload
    def __radd__(self: Module[X, tuple[A, B, C]], other: tuple[Gives[X, A], Gives[X, B], Gives[X, C]]) -> Module[X, tuple[A, B, C]]: ...
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
            raise ValueError(f"cannot divide {self!r} by zero: a module needs a sensitivity that is finite")
        return typing.cast("Module[X, Y]", _compose(Mul(1 / float(scalar)), self))

    if TYPE_CHECKING:
        __pow__: _Power
    else:

        def __sub__(self, other):
            _refuse_operand(self, "-", other)

        def __pow__(self, n):
            """n independent copies composed, each with fresh weights; `self` is not among them."""
            if not isinstance(n, int) or isinstance(n, bool) or n < 0:
                raise ValueError(f"the power of a module is a whole number of copies, at least 0; got {self!r} ** {n!r}")
            _join(self, self)
            if n == 0:
                return Identity()
            copies = []
            for _ in range(n):
                fresh = copy.deepcopy(self)
                fresh.initialize()
                copies.append(fresh)
            ends = self.narrow(ANYTHING, ANYTHING)
            return copies[0] if n == 1 else Composition._in_flow_order([part for one in copies for part in one._links()], ends)


class AtomOptions(TypedDict, total=False):
    """What every atom can be told besides its widths."""

    mass: float
    device: torch.device | str | None
    dtype: torch.dtype | None


class Atom(Module[S, T]):
    """A module with one weight, and the geometry that the weight is measured in.

    Subclass it with the two spaces, hand the shape and the geometry to `__init__`, and define `forward`. Declare `sensitivity` if
    it is not 1 for weights of norm 1. The geometry must make the atom well-normed: ‖f(x; Δw)‖ ≤ ‖Δw‖ for inputs of norm 1.

    Args:
        shape: the weight's.
        geometry: the norm on the weight, such as `operator_geometry(RMS, RMS)`.
        fan_out: the width of the output, checked where modules are composed; None if it follows from the input.
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
            raise ValueError(f"{name} takes widths of at least 1, got a weight of shape {list(shape)}")
        own_domain, own_codomain = type(self)._declared
        if (domain and isinstance(own_domain, Space)) or (codomain and isinstance(own_codomain, Space)):
            raise TypeError(f"{name} maps {own_domain} to {own_codomain} by its class and takes no domain or codomain")
        self._ends = (_with_width(domain, own_domain, fan_in), _with_width(codomain, own_codomain, fan_out))
        self.geometry = geometry
        weight = torch.empty(tuple(shape), device=device, dtype=dtype)
        if not weight.is_floating_point():
            raise TypeError(f"{name} holds a floating-point weight, got dtype={dtype}")
        self.weight = nn.Parameter(weight)
        self.mass = mass  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            self.draw(None)

    def draw(self, generator: torch.Generator | None) -> None:
        """Fill the weight with a random one of norm 1. Does nothing on the meta device."""
        if not self.weight.is_meta:
            device = self.weight.device if generator is None else generator.device
            self.weight.copy_(self.geometry.draw(tuple(self.weight.shape), generator, device))

    def narrow(self, domain: AnySpace, codomain: AnySpace) -> Ends:
        return meet(self._ends[0], domain), meet(self._ends[1], codomain)

    def _check_width(self, x: Tensor) -> None:
        """Refuse an input whose measured axis is not as wide as the domain."""
        space = self._ends[0]
        if isinstance(space, Space) and issubclass(space.norm, Dense) and space.width is not None:
            axis = space.norm.axis
            if x.dim() < -axis or x.shape[axis] != space.width:
                raise ValueError(f"{self!r} takes {space}, the width on axis {axis}; got a tensor of shape {list(x.shape)}")

    def _walk(self, prefix: str, downstream: float, roster: Roster) -> float:
        roster.names.append(f"{prefix}weight")
        roster.atoms.append(typing.cast("Atom[SpaceType, SpaceType]", self))
        roster.downstream.append(downstream)
        return self.sensitivity

    def _node(self, place: str, ends: Ends) -> Node:
        return super()._node(place, ends)._replace(shape=tuple(self.weight.shape))


class Bond(Module[S, T]):
    """A module without weights. Subclass it with its two spaces, declare `sensitivity`, define `forward`.

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

    def _check_declaration(self, name: str, value: object) -> None:
        if name == "mass" and value != 0:
            raise ValueError(f"{self!r} is a bond: it has no weights to learn, and its mass is 0")
        super()._check_declaration(name, value)

    def _walk(self, prefix: str, downstream: float, roster: Roster) -> float:
        if self._parameters or (self._modules and next(self.parameters(), None) is not None):
            raise TypeError(f"{self!r} is a bond and holds parameters, which no duality map would reach: make it an Atom, or compose atoms")
        return self.sensitivity


class Neighbour(Norm):
    """Stands for the space of whatever module comes next to a bond that adopts it."""


class Elementwise(Bond[Neighbour, Neighbour]):
    """A bond that maps every dense space to itself: it takes the type and the width of its neighbour.

    Subclass it for a function of single entries, f(0) = 0 not required. `sensitivity` must bound |f'|; under every norm that
    depends on magnitudes only, that bounds the map.
    """

    _declared = (ANY_DENSE, ANY_DENSE)

    def narrow(self, domain: AnySpace, codomain: AnySpace) -> Ends:
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
        def __rmatmul__(self, other: tuple[Gives[D, A], Gives[D, B], Gives[D, C]]) -> Module[D, tuple[A, B, C]]: ...
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
        def __matmul__(self, other: tuple[Gives[Z, A], Gives[Z, B], Gives[Z, C]]) -> Module[Z, tuple[A, B, C]]: ...
        @overload
        def __matmul__(self, other: tuple[Gives[Z, A], ...]) -> Module[Z, tuple[A, ...]]: ...
        def __matmul__(self, other: object) -> AnyModule: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        @overload  # type: ignore[override]
        def __rmatmul__(self, other: tuple[Gives[Z, A], Gives[Z, B]]) -> Module[Z, tuple[A, B]]: ...
        @overload
        def __rmatmul__(self, other: tuple[Gives[Z, A], Gives[Z, B], Gives[Z, C]]) -> Module[Z, tuple[A, B, C]]: ...
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

    def __init__(self, scale: float) -> None:
        super().__init__()
        if not math.isfinite(scale) or scale == 0:
            raise ValueError(
                f"cannot multiply a module by {scale}: its sensitivity must be positive and finite; to silence a module leave it out, "
                "to stop training it use tare(0)"
            )
        self.scale: float = float(scale)
        self.sensitivity: float = abs(self.scale)

    def forward(self, x: Value) -> Value:
        return tuple([self.forward(part) for part in x]) if isinstance(x, tuple) else self.scale * x

    def extra_repr(self) -> str:
        return f"{self.scale:.6g}"


class Add(Bond[Neighbour, Neighbour]):
    """The sum of a tuple of tensors of one space; what `f + g` composes with.

    Sensitivity 1: proved, by the triangle inequality, since the norm of a tuple is the sum of its parts' norms.
    """

    def narrow(self, domain: AnySpace, codomain: AnySpace) -> Ends:
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
        def __rmatmul__(self, other: tuple[Gives[Z, A], Gives[Z, B], Gives[Z, C]]) -> OfSum[Z, tuple[A, B, C]]: ...
        @overload
        def __rmatmul__(self, other: tuple[Gives[Z, A], ...]) -> OfSum[Z, tuple[A, ...]]: ...
        def __rmatmul__(self, other: object) -> AnyModule: ...  # pyright: ignore[reportIncompatibleMethodOverride]
        def __mul__(self, scalar: float) -> Add: ...
        def __rmul__(self, scalar: float) -> Add: ...
        def __truediv__(self, scalar: float) -> Add: ...


if TYPE_CHECKING:

    class OfSum(Module[tuple[X, ...], Y]):
        """What `f @ Add()` is to a checker: a module on tuples of any length. (mypy would let a self-typed overload of Module pass.)"""

        @overload  # type: ignore[override]
        def __matmul__(self, other: tuple[Takes[Z, X], ...]) -> Module[Z, Y]: ...
        @overload
        def __matmul__(self, other: Takes[Z, tuple[X, ...]]) -> Module[Z, Y]: ...
        def __matmul__(self, other: object) -> AnyModule: ...  # pyright: ignore[reportIncompatibleMethodOverride]


class Compound(Module[X, Y]):
    """A module made of modules. Mass, sensitivity and the norm of the weights follow from what is inside.

    Iterate over it, or index it, to reach the modules inside, in the order in which data meets them. `compound[i] = module` puts another in
    place if it maps the same spaces.
    """

    _ends: Ends

    def _adopt(self, parts: Sequence[AnyModule], ends: Ends) -> None:
        """Take `parts` in, in flow order."""
        self._ends = ends
        for i, part in enumerate(parts):
            self.add_module(str(i), part)
        self._roster()

    def _places(self, parts: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace) -> list[Ends]:
        """The ends of each part, given those of the whole.

        Raises:
            MismatchError: the parts do not fit.
        """
        raise NotImplementedError

    def _outer_ends(self, places: list[Ends]) -> Ends:
        """The ends of the whole, given those of each part."""
        raise NotImplementedError

    def narrow(self, domain: AnySpace, codomain: AnySpace) -> Ends:
        ends = meet(self._ends[0], domain), meet(self._ends[1], codomain)
        return ends if ends == self._ends else self._outer_ends(self._places(list(self), *ends))

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
            ends = self._outer_ends(self._places(parts, ANYTHING, ANYTHING))
        except MismatchError as mismatch:
            raise CompositionError(f"{place}: {mismatch}") from None
        if ends != self._ends:
            raise CompositionError(f"{place}: that would turn {_arrow(self._ends)} into {_arrow(ends)} inside whatever holds it")
        _refuse_repeated([atom for part in parts for atom in part._roster().atoms])
        self._modules[str(range(len(self))[index])] = module

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__.get("_modules", ()):
            self[int(name)] = typing.cast("AnyModule", value)
        else:
            super().__setattr__(name, value)

    def _check_declaration(self, name: str, value: object) -> None:
        how = "rescale it with tare(mass)" if name == "mass" else "scale the module, as in 0.5 * module"
        raise AttributeError(f"the {name} of {self!r} follows from the modules inside: {how}, or set that of an atom or bond inside")

    def _node(self, place: str, ends: Ends) -> Node:
        whole = super()._node(place, ends)
        if not self._roster().atoms:
            return whole
        places = self._places(list(self), *ends)
        children = tuple([part._node(str(i), place) for i, (part, place) in enumerate(zip(self, places, strict=True))])
        return whole._replace(name=self._title(), children=children)

    def _title(self) -> str:
        """The name of this node in the tree, where its parts have lines of their own."""
        return type(self).__name__ if type(self) in (Composition, Concatenation) else repr(self)


class Composition(Compound[S, T]):
    """Modules applied one after another; what `f @ g` makes. A chain is flat, however it was bracketed.

    Subclass it to give a network of your own a name: the subclass stands as one node in the tree and in errors.

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
        self._adopt(module._links(), module.narrow(ANYTHING, ANYTHING))

    @classmethod
    def _in_flow_order(cls, parts: Sequence[AnyModule], ends: Ends) -> AnyModule:
        made: Composition[SpaceType, SpaceType] = Composition.__new__(Composition)
        nn.Module.__init__(made)
        made._adopt(parts, ends)
        return made

    def forward(self, x: Value) -> Value:
        for part in self._parts().values():
            x = part(x)
        return x

    def _walk(self, prefix: str, downstream: float, roster: Roster) -> float:
        sensitivity = 1.0
        for name, part in reversed(self._parts().items()):
            sensitivity *= part._walk(f"{prefix}{name}.", downstream * sensitivity, roster)
        return sensitivity

    def _links(self) -> list[AnyModule]:
        return list(self) if type(self) is Composition and not _is_sum(self) else [self]

    def _node(self, place: str, ends: Ends) -> Node:
        whole = super()._node(place, ends)
        if not _is_sum(self) or not whole.children:
            return whole
        terms = tuple([term._replace(place=f"0.{term.place}") for term in whole.children[0].children])
        return whole._replace(name="Sum", children=terms)

    def _places(self, parts: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace) -> list[Ends]:
        seams: list[AnySpace] = [domain, *[ANYTHING] * (len(parts) - 1), codomain]
        before: list[AnySpace] = []
        while before != seams:
            before = list(seams)
            for i in (*range(len(parts)), *reversed(range(len(parts)))):
                seams[i], seams[i + 1] = parts[i].narrow(seams[i], seams[i + 1])
        return list(pairwise(seams))

    def _outer_ends(self, places: list[Ends]) -> Ends:
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
    """Modules applied to one input, side by side; what a tuple of modules stands for. The output is a tuple.

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
        def __init__(self: Concatenation[Z, tuple[A, B]], first: Gives[Z, A], second: Gives[Z, B], /) -> None: ...
        @overload
        def __init__(self: Concatenation[Z, tuple[A, B, C]], first: Gives[Z, A], second: Gives[Z, B], third: Gives[Z, C], /) -> None: ...
        @overload
        def __init__(
            self: Concatenation[Z, tuple[A, B, C, E]], first: Gives[Z, A], second: Gives[Z, B], third: Gives[Z, C], fourth: Gives[Z, E], /
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
        def __init__(self: Concatenation[Z, tuple[A, ...]], first: Gives[Z, A], /, *modules: Gives[Z, A]) -> None: ...
        def __init__(self, *modules: object) -> None: ...

    else:

        def __init__(self, *modules):
            super().__init__()
            if not modules:
                raise ValueError("a concatenation takes at least one module, got an empty tuple")
            parts = [_as_module(module, ",", self) for module in modules]
            try:
                ends = self._outer_ends(self._places(parts, ANYTHING, ANYTHING))
            except MismatchError as mismatch:
                listed = "; ".join(f"{part!r} takes {part.domain}" for part in parts)
                raise CompositionError(f"cannot concatenate modules whose domains differ: {mismatch}. {listed}") from None
            self._adopt(parts, ends)

    def forward(self, x: Value) -> tuple[Value, ...]:
        return tuple([part(x) for part in self._parts().values()])

    def _walk(self, prefix: str, downstream: float, roster: Roster) -> float:
        sensitivity = 0.0
        for name, part in reversed(self._parts().items()):
            sensitivity += part._walk(f"{prefix}{name}.", downstream, roster)
        return sensitivity

    def _places(self, parts: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace) -> list[Ends]:
        outputs = meet(Product((ANYTHING,) * len(parts)), codomain)
        codomains = list(typing.cast("Product", outputs).parts)
        before = None
        while before != (domain, codomains):
            before = (domain, list(codomains))
            for i, part in enumerate(parts):
                domain, codomains[i] = part.narrow(domain, codomains[i])
        return [(domain, place) for place in codomains]

    def _outer_ends(self, places: list[Ends]) -> Ends:
        return places[0][0], Product(tuple(codomain for _, codomain in places))

    def __repr__(self) -> str:
        return f"({', '.join(map(repr, self))})"


def _compose(outer: AnyModule, inner: AnyModule) -> AnyModule:
    """outer ∘ inner, flat."""
    return Composition._in_flow_order([*inner._links(), *outer._links()], _join(outer, inner))


def _join(outer: AnyModule, inner: AnyModule) -> Ends:
    """The ends of outer ∘ inner.

    Raises:
        CompositionError: the codomain of `inner` is not the domain of `outer`.
    """
    try:
        seam, codomain = outer.narrow(meet(outer.domain, inner.codomain), ANYTHING)
        domain, _ = inner.narrow(ANYTHING, seam)
        return domain, codomain
    except MismatchError as mismatch:
        wanted, given = outer.domain, inner.codomain
        raise CompositionError(
            f"cannot compose {_operand(outer)} @ {_operand(inner)}: {outer!r} takes {wanted} and {inner!r} gives {given}: "
            f"{mismatch}{_cure(given, wanted)}"
        ) from None


def _operand(module: AnyModule) -> str:
    return f"({module!r})" if type(module) is Composition else repr(module)


def _cure(given: AnySpace, wanted: AnySpace) -> str:
    """What to do where one module gives `given` and the next takes `wanted`, if something is known."""
    if isinstance(given, Product) and isinstance(wanted, Product):
        return _cure_of_parts(given.parts, wanted.parts)
    if isinstance(wanted, Product):
        return f"; a tuple of {len(wanted.parts)} modules is taken, as in … @ (f, g)" if isinstance(given, Space) else ""
    if isinstance(given, Product):
        return (
            "; insert Add() between them" if isinstance(wanted, Space) and not _clash(given, Product((wanted,) * len(given.parts))) else ""
        )
    if not isinstance(given, Space) or not isinstance(wanted, Space):
        return ""
    if given.norm is wanted.norm:
        widths = given.width, wanted.width
        return f"; make both widths {widths[0]} or both {widths[1]}" if None not in widths else ""
    known = _CURES.get((given.norm.__name__, wanted.norm.__name__)) or _CURES.get(("", wanted.norm.__name__))
    return f"; {known}" if known else _bridge(given.norm, wanted.norm)


_CURES = {
    ("ChannelRMS", "RMS"): "insert AvgPool() or Flatten() between them",
    ("RMS", "HeadRMS"): "insert SplitIntoHeads(num_heads) between them",
    ("HeadRMS", "RMS"): "insert MergeHeads() between them",
    ("OneHot", "RMS"): "insert Embed(d_embed, num_embed) between them",
    ("Linf", "L1"): "insert Softmax() between them",
    ("", "OneHot"): "one-hot ids enter a network only at its start",
    ("", "ChannelRMS"): "only images and Conv2D give images",
}
"""By the norms that are given and wanted; given "" stands for every other."""


def _cure_of_parts(given: tuple[AnySpace, ...], wanted: tuple[AnySpace, ...]) -> str:
    if len(given) != len(wanted):
        grouped = len(given) == 2 and isinstance(given[0], Product) and len(given[0].parts) == 2
        if grouped and len(wanted) == 3 and not _clash(wanted[0], Space(HeadRMS)):
            return "; insert Ungroup() between them"
        return f"; a tuple of {len(wanted)} is taken and one of {len(given)} given"
    return next(
        (f"{_cure(g, w)} (part {i})" for i, (g, w) in enumerate(zip(given, wanted, strict=True)) if _clash(g, w) and _cure(g, w)), ""
    )


def _clash(one: AnySpace, other: AnySpace) -> bool:
    try:
        meet(one, other)
    except MismatchError:
        return True
    return False


def _bridge(given: type[Norm], wanted: type[Norm]) -> str:
    """The Linear that leads from one norm to another, if there is one."""
    if not (issubclass(given, VectorNorm) and issubclass(wanted, VectorNorm)):
        return ""
    try:
        operator_geometry(given, wanted)
    except NormPairError:
        return f"; no Linear leads from {given.__name__} to {wanted.__name__}: change the norm of one of them"
    return f"; a Linear(…, domain={given.__name__}, codomain={wanted.__name__}) leads from one to the other"


def _sum(first: AnyModule, second: AnyModule) -> AnyModule:
    """first + second, as one flat sum."""
    terms = [*_terms(first), *_terms(second)]
    try:
        return _compose(Add(), _concatenate(terms))
    except CompositionError as error:
        listed = "; ".join(f"{term!r} maps {_arrow(term.narrow(ANYTHING, ANYTHING))}" for term in terms)
        raise CompositionError(f"cannot add {first!r} + {second!r}, whose ends differ: {listed}") from error


def _added(one: Value, other: Value) -> Value:
    """one + other, part by part where they are tuples."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return tuple([_added(a, b) for a, b in zip(one, other, strict=True)])
    return typing.cast("Tensor", one) + typing.cast("Tensor", other)


def _is_sum(module: AnyModule) -> bool:
    return type(module) is Composition and len(module) == 2 and type(module[1]) is Add and type(module[0]) is Concatenation


def _terms(module: AnyModule) -> list[AnyModule]:
    return list(typing.cast("dict[str, AnyModule]", module.get_submodule("0")._modules).values()) if _is_sum(module) else [module]


def _as_module(value: object, operation: str, partner: AnyModule, *, reflected: bool = False) -> AnyModule:
    """`value` if it is a module, the concatenation if it is a tuple of modules. `reflected`: it was written on the left."""
    if isinstance(value, tuple):
        return _concatenate(value)
    if not isinstance(value, AnyModule):
        _refuse_operand(partner, operation, value, reflected=reflected)
    return value


def _concatenate(modules: Sequence[object]) -> AnyModule:
    """The concatenation of modules whose types no checker follows."""
    return typing.cast("Callable[..., AnyModule]", Concatenation)(*modules)


def _refuse_operand(module: AnyModule, operation: str, other: object, *, reflected: bool = False) -> NoReturn:
    """Raise the TypeError that says why `module operation other` (or the reverse) has no meaning, and what to do instead."""
    name = type(other).__name__
    theirs = repr(other) if isinstance(other, AnyModule) else name
    if isinstance(other, type) and issubclass(other, nn.Module):
        theirs, advice = other.__name__, f"this is a class; write {other.__name__}(…) to make a module"
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
    written = f"{theirs} {operation} {module!r}" if reflected else f"{module!r} {operation} {theirs}"
    raise TypeError(f"{written} has no meaning: {advice}")


def _refuse_vector(model: AnyModule, operation: str, wanted: str, got: object) -> NoReturn:
    raise TypeError(f"{operation} of {model!r} takes {wanted}; got {type(got).__name__}")


def _refuse_repeated(atoms: Sequence[Atom[SpaceType, SpaceType]]) -> None:
    """Refuse a network in which an atom stands twice."""
    if len(set(map(id, atoms))) == len(atoms):
        return
    repeated = next(atom for i, atom in enumerate(atoms) if any(atom is other for other in atoms[:i]))
    raise ValueError(
        f"{repeated!r} stands twice in one network, and no duality map is known for weights that are shared: use "
        "copy.deepcopy for a second one, or module ** n for n fresh copies"
    )


def _with_width(norm: type[Norm] | None, declared: AnySpace, width: int | None) -> AnySpace:
    if norm is not None:
        return Space(norm, width)
    return meet(declared, Space(declared.norm, width)) if isinstance(declared, Space) else declared


def _arrow(ends: Ends) -> str:
    return f"{ends[0]} → {ends[1]}"
