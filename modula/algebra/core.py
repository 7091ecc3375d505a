"""Modules and their algebra: atoms, bonds, composition, concatenation.

A module is a forward map with a mass, a sensitivity and a norm on its weights (Large et al. 2024,
arXiv:2405.14813, definition 2). Atoms declare the three, bonds carry no weights, compounds derive
them. A module is a way to write a graph of operations, and the duality map follows from that graph
(`modula.graph`).

The classes of this file know one another: a module composes into a `Composition`, which is a
module. The types of their operators are overloads in operators.pyi, which only checkers read.
"""

from __future__ import annotations

import copy
import math
import typing
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, ClassVar, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from modula.algebra.any_module import AnyModule
from modula.algebra.compound import Compound, join_path
from modula.algebra.hints import refuse_operand, suggest_fix, suggest_pairs
from modula.algebra.inference import infer_chain, infer_tuple
from modula.algebra.primitive import Primitive
from modula.algebra.radii import radius_of_sum, scaled_radius
from modula.algebra.render import Line
from modula.algebra.widths import atom_signature, check_width, whole_numbers
from modula.checks import Acts, Claim, as_float, check_mass, is_number
from modula.errors import CompositionError, MismatchError, ParameterError
from modula.geometry import Geometry
from modula.graph import GraphBuilder, Radius, Tuple, total_radius
from modula.network import weight_name
from modula.norms import Norm
from modula.sharding import fill
from modula.spaces import (
    ANY_DENSE,
    ANYTHING,
    AnySpace,
    Product,
    Signature,
    arrow,
    check_linear,
    meet,
)
from modula.values import Value, map_leaves, zip_leaves

if TYPE_CHECKING:
    from modula.algebra.operators import (  # pyright: ignore[reportMissingModuleSource]
        AddOperators,
        ConcatenationOperators,
        ElementwiseOperators,
        ModuleOperators,
        TransparentOperators,
    )

__all__ = [
    "Add",
    "AnyModule",
    "Atom",
    "AtomOptions",
    "Bond",
    "Composition",
    "Compound",
    "Concatenation",
    "Elementwise",
    "Identity",
    "Module",
    "Mul",
    "Neighbour",
    "SpaceType",
    "Transparent",
]

SpaceType: TypeAlias = Norm | tuple[object, ...]
"""The type of a space, to a checker: a norm type, or a tuple of spaces."""

X = TypeVar("X")
Y = TypeVar("Y")
# Bounded where a class names its spaces, since a mistake would enter there. The others are free:
# mypy infers Any for a bond next to an operand whose type variable is bounded by a union.
S = TypeVar("S", bound=SpaceType)
T = TypeVar("T", bound=SpaceType)

if not TYPE_CHECKING:

    class ModuleOperators(AnyModule, Generic[X, Y]):
        """The place of the operators' types at run time, behind the layout of a torch module."""


class Module(ModuleOperators[X, Y], AnyModule):
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

    if not TYPE_CHECKING:

        def __matmul__(self, other):
            return _compose(self, _as_module(other, "@", self))

        def __rmatmul__(self, other):
            return _compose(_as_module(other, "@", self, reflected=True), self)

        def __add__(self, other):
            return _sum(self, _as_module(other, "+", self))

        def __radd__(self, other):
            return _sum(_as_module(other, "+", self, reflected=True), self)

        def __sub__(self, other):
            refuse_operand(self, "-", other)

        def __pow__(self, n):
            return _power(self, n)

    def __mul__(self, scalar: float) -> Module[X, Y]:
        if not is_number(scalar):
            refuse_operand(self, "*", scalar)
        return typing.cast("Module[X, Y]", _compose(Mul(as_float(scalar)), self))

    def __rmul__(self, scalar: float) -> Module[X, Y]:
        if not is_number(scalar):
            refuse_operand(self, "*", scalar, reflected=True)
        return self * scalar

    def __truediv__(self, scalar: float) -> Module[X, Y]:
        if not is_number(scalar):
            refuse_operand(self, "/", scalar)
        if scalar == 0:
            raise ValueError(
                f"cannot divide {self!r} by zero: a module needs a sensitivity that is finite"
            )
        return typing.cast("Module[X, Y]", _compose(Mul(1 / as_float(scalar)), self))


class AtomOptions(TypedDict, total=False, closed=True):
    """The arguments that every atom takes besides its widths.

    Attributes:
        mass: the share of a step that the weight takes, relative to the other masses; at least 0.
        device: of the weight; None for torch's default.
        dtype: of the weight; None for torch's default.
    """

    mass: float
    device: torch.device | str | None
    dtype: torch.dtype | None


class Atom(Primitive, Module[S, T]):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A module with one weight, and the geometry that measures the weight.

    Subclass it with the two spaces, pass the shape and the geometry to `__init__`, and define
    `forward`. The geometry must make the atom well-normed: ‖f(x; Δw)‖ ≤ ‖Δw‖ for inputs of norm 1.
    Where the default does not hold, declare or override

    - `sensitivity`: s with ‖∂f·Δx‖ ≤ s·‖Δx‖ for weights of norm 1. Default: 1;
    - `radius`: a bound on the norm of the output. Default: s·R, for inputs of norm at most R;
    - `weight_sensitivity`: r with ‖∂f·Δw‖ ≤ r·‖Δw‖. Default: R;
    - `claim`: the validity of these, "proved", "conditional" or "estimate". Default: "estimate";
    - `unify`: the two spaces, where one depends on the other.

    `check_width(x)` in `forward` refuses an input of another width by name. Types for annotations:
    `modula.values.Value` (a tensor or a tuple of values), `modula.graph.Radius`,
    `modula.spaces.AnySpace` and `Signature`, `modula.checks.Claim`.

    Args:
        shape: of the weight.
        geometry: the norm on the weight, such as `operator_geometry(RMS, RMS)`.
        fan_out: the width of the output, checked where modules are composed; None if it follows
            from the input.
        fan_in: the width of the input.
        domain, codomain: norm types, if the class does not name them as type arguments.
        mass: m ≥ 0; the weight's part of a step is m over the mass of the network.
        device, dtype: of the weight.

    Raises:
        TypeError: a dtype that is not floating-point, or norm types that the class names already.
        ValueError: a negative or non-finite mass, or an axis of length 0.

    Example:
        >>> import torch
        >>> from modula import RMS, Atom, Linf
        >>> from modula.geometry import Vectors
        >>> class Diagonal(Atom[RMS, RMS]):
        ...     claim = "proved"  # RMS(w·x) ≤ max |w| · RMS(x)
        ...
        ...     def __init__(self, d: int) -> None:
        ...         super().__init__((d,), Vectors(Linf, axes=1), fan_out=d, fan_in=d)
        ...
        ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
        ...         self.check_width(x)
        ...         return self.weight * x
        >>> str(Diagonal(4).domain)
        'RMS(4)'
    """

    # A network derives its mass and sensitivity; atoms and bonds declare them.
    mass: float = 1.0  # pyright: ignore[reportIncompatibleMethodOverride]
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
        shape = whole_numbers(name, shape)
        self._signature = atom_signature(
            name, type(self).declared_signature, (domain, codomain), (fan_in, fan_out)
        )
        self.geometry = geometry
        weight = torch.empty(shape, device=device, dtype=dtype)
        if not weight.is_floating_point():
            raise TypeError(f"{name} holds a floating-point weight, got dtype={dtype}")
        self.weight = nn.Parameter(weight)
        self.mass = mass  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            self.initialize_weight(None)

    @property
    def tensor(self) -> Tensor:
        """The weight."""
        # Where torch keeps it, since torch's attribute lookup would take six times as long.
        weight = self._parameters.get("weight")
        return self.weight if weight is None else weight

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Draw the weight anew, of norm 1. Do nothing on the meta device.

        Args:
            generator: the source of random numbers; None takes that of the weight's device.
        """
        if not self.weight.is_meta:
            device = self.weight.device if generator is None else generator.device
            fill(self.weight, self.geometry.sample(tuple(self.weight.shape), generator, device))

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        return meet(self._signature[0], domain), meet(self._signature[1], codomain)

    def weight_sensitivity(self, *inputs: Radius) -> float:
        """Return r with ‖∂f·Δw‖ ≤ r·‖Δw‖.

        Args:
            inputs: a bound R on the input's norm. By default r = R, which holds for maps that are
                linear in the input and in the weight; override it for others.
        """
        return total_radius(inputs)

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        return builder.add_weighted(path, self.as_operation(), (source,), weight_name(path), self)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Add the weight, as torch does. An atom has no other parameter to train.

        A tool that has taken the weight out already is refused when the network is next asked, so
        that the atom is not left without one.

        Raises:
            ParameterError: a parameter of another name requires a gradient.
        """
        has_lost_weight = hasattr(self, "geometry") and "weight" not in self._parameters
        if name != "weight" and not has_lost_weight and param is not None and param.requires_grad:
            raise ParameterError(
                f"{name!r} cannot be a parameter of {type(self).__name__}: an atom has one weight, "
                "`weight`, with its norm and mass, and no duality map would reach another. Compose "
                "a second atom for it (a bias is Bias(d) @ …, a gain Gain(d) @ …), or freeze it "
                "with requires_grad_(False)"
            )
        super().register_parameter(name, param)

    def check_width(self, x: Tensor) -> None:
        """Raise if the measured axis of an input is not as wide as the domain.

        Raises:
            ValueError: names this module, its width and the shape of `x`.
        """
        check_width(self, self._signature[0], x)

    def tree_line(self, path: str, signature: Signature) -> Line:
        return super().tree_line(path, signature)._replace(shape=tuple(self.weight.shape))


class Bond(Primitive, Module[S, T]):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A module without weights.

    Subclass it with its two spaces and define `forward`. Where the default does not hold, declare
    or override

    - `sensitivity`: s with ‖∂f·Δx‖ ≤ s·‖Δx‖. Default: 1;
    - `radius`: a bound on the norm of the output. Default: s·R, for inputs of norm at most R, which
      holds for maps that take 0 to 0;
    - `claim`: the validity of both, "proved", "conditional" or "estimate". Default: "estimate";
    - `unify`: the two spaces, where one depends on the other.

    To wrap an existing function, use `FunctionBond`; for a function of single entries, subclass
    `Elementwise`; for a bond from one space to itself, `SameSpace`. Types for annotations:
    `modula.values.Value` (a tensor or a tuple of values), `modula.graph.Radius`,
    `modula.spaces.AnySpace` and `Signature`, `modula.checks.Claim`.

    Example:
        >>> import torch
        >>> from modula import RMS, Bond, Linear
        >>> class Halve(Bond[RMS, RMS]):
        ...     sensitivity = 0.5
        ...     claim = "proved"
        ...
        ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
        ...         return x / 2
        >>> model = Linear(10, 256) @ Halve() @ Linear(256, 784)
        >>> model.sensitivity
        0.5
    """

    mass: float = 0.0  # pyright: ignore[reportIncompatibleMethodOverride]

    def check_declaration(self, name: str, value: object) -> None:
        if name == "mass" and value != 0:
            raise ValueError(f"{self!r} is a bond: it has no weights to learn, and its mass is 0")
        super().check_declaration(name, value)

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        return builder.add(path, self.as_operation(), (source,))

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Add a frozen parameter, as torch does.

        Raises:
            ParameterError: it requires a gradient.
        """
        if param is not None and param.requires_grad:
            raise ParameterError(
                f"{name!r} cannot be a parameter of {type(self).__name__}, which is a bond and has "
                "no weight, since no duality map would reach it: make it an Atom, compose atoms, "
                "or freeze it with requires_grad_(False)"
            )
        super().register_parameter(name, param)


class Neighbour(Norm):
    """Placeholder for the space that a bond takes over from its neighbour."""


if not TYPE_CHECKING:  # the bases at run time; a checker reads those in operators.pyi
    ElementwiseOperators = AddOperators = Bond[Neighbour, Neighbour]


class Elementwise(ElementwiseOperators):
    """A bond that maps every dense space to itself, and takes type and width of its neighbour.

    Subclass it for a function of single entries. `sensitivity` must bound |f'|; under every norm
    that depends on magnitudes only, that bounds the map. Override `radius` where f(0) is not 0.

    Example:
        >>> import torch
        >>> from modula import Elementwise, Linear
        >>> class Sine(Elementwise):
        ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
        ...         return torch.sin(x)
        >>> str((Sine() @ Linear(256, 784)).codomain)
        'RMS(256)'
    """

    acts: ClassVar[Acts] = "entrywise"

    declared_signature: Signature = (ANY_DENSE, ANY_DENSE)

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        own, _ = self.declared_signature
        space = meet(meet(own, domain), codomain)
        return space, space


if not TYPE_CHECKING:  # as above
    TransparentOperators = Elementwise


class Transparent(TransparentOperators):
    """A bond that maps any space to itself: dense ones, ids, tuples."""

    declared_signature: Signature = (ANYTHING, ANYTHING)


class Identity(Transparent):
    """The identity map.

    Sensitivity 1, radius R: proved, under every norm.
    """

    claim: Claim = "proved"

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]

    def forward(self, x: Value) -> Value:
        return x


class Mul(Transparent):
    """Multiplication by a fixed number; `a * module` composes with it.

    Sensitivity |a|, radius |a|·R: proved, under every norm.

    Args:
        scale: a, a finite number, not 0.

    Raises:
        ValueError: the number is 0 or not finite.
    """

    claim: Claim = "proved"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        signature = super().unify(domain, codomain)
        check_linear(signature[0])
        return signature

    def __init__(self, scale: float) -> None:
        super().__init__()
        if not math.isfinite(scale) or scale == 0:
            raise ValueError(
                f"cannot multiply a module by {scale}: its sensitivity must be positive and "
                "finite; to silence a module leave it out, to stop training it use tare(0)"
            )
        self.scale: float = float(scale)
        self.sensitivity: float = abs(self.scale)

    def radius(self, *inputs: Radius) -> Radius:
        return scaled_radius(self.sensitivity, inputs[0])

    def forward(self, x: Value) -> Value:
        return map_leaves(lambda tensor: self.scale * tensor, x)

    def extra_repr(self) -> str:
        return f"{self.scale:.6g}"


class Add(AddOperators):
    """The sum of a tuple of values of one space; `f + g` composes with it.

    Sensitivity 1, radius ΣR: proved, by the triangle inequality, since the norm of a tuple is the
    sum of its parts' norms.
    """

    claim: Claim = "proved"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        check_linear(codomain)
        if domain == ANYTHING:
            return domain, codomain
        if not isinstance(domain, Product):
            raise MismatchError(f"Add takes a tuple, as in Add() @ (f, g), not {domain}")
        space = codomain
        for part in domain.parts:
            check_linear(part)
            space = meet(space, part)
        return Product((space,) * len(domain.parts)), space

    def radius(self, *inputs: Radius) -> Radius:
        (parts,) = inputs
        return radius_of_sum(parts) if isinstance(parts, tuple) else parts

    def forward(self, x: tuple[Value, ...]) -> Value:
        total = x[0]
        for part in x[1:]:
            total = zip_leaves(torch.add, total, part)
        return total


class Composition(Compound, Module[S, T]):
    """Modules applied one after another; `f @ g` makes one. A chain is flat, however bracketed.

    Subclass it to give a network of your own a name: the subclass is one module in the tree and in
    errors.

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
        self.set_components(module.factors(), module.signature)

    def forward(self, x: Value) -> Value:
        for component in self.components():
            x = component(x)
        return x

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        for i, component in enumerate(self.components()):
            source = component.flatten(builder, join_path(path, str(i)), source)
        return source

    def factors(self) -> list[AnyModule]:
        return self.components() if _is_chain(self) else [self]

    def infer_signatures(
        self, components: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace
    ) -> list[Signature]:
        return infer_chain(components, domain, codomain)

    def outer_signature(self, signatures: Sequence[Signature]) -> Signature:
        return signatures[0][0], signatures[-1][1]

    def tree_line(self, path: str, signature: Signature) -> Line:
        whole = super().tree_line(path, signature)
        if not _is_sum(self) or not whole.children:
            return whole
        terms = [term._replace(path=f"0.{term.path}") for term in whole.children[0].children]
        return whole._replace(name="Sum", children=tuple(terms))

    def title(self) -> str:
        return "Composition" if type(self) is Composition else repr(self)

    def __repr__(self) -> str:
        if type(self) is not Composition:
            return super().__repr__()
        if _is_sum(self):
            return " + ".join(_abbreviated(_terms(self), repr))
        written = _abbreviated(self.components()[::-1], _operand)
        if isinstance(self[-1], Mul) and len(written) > 1:
            written[:2] = [f"{self[-1].extra_repr()} * {written[1]}"]
        return " @ ".join(written)


if not TYPE_CHECKING:  # as above
    ConcatenationOperators = Module


class Concatenation(Compound, ConcatenationOperators[X, Y]):
    """Modules applied to one input; a tuple of modules stands for it. The output is a tuple.

    Args:
        modules: at least one, all with the same domain.

    Raises:
        CompositionError: the domains differ.
        ValueError: there is no module.

    Example:
        >>> import torch
        >>> from modula import Concatenation, Linear
        >>> left, right = Concatenation(Linear(2, 4), Linear(3, 4))(torch.randn(8, 4))
        >>> left.shape, right.shape
        (torch.Size([8, 2]), torch.Size([8, 3]))

    Source: Large et al. 2024 (arXiv:2405.14813), definition 4.
    """

    if not TYPE_CHECKING:

        def __init__(self, *modules):
            super().__init__()
            self.set_components(*_components(modules))

    def forward(self, x: Value) -> tuple[Value, ...]:
        return tuple([component(x) for component in self.components()])

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        outputs = tuple(
            [
                component.flatten(builder, join_path(path, str(i)), source)
                for i, component in enumerate(self.components())
            ]
        )
        return builder.add(path, Tuple(len(outputs)), outputs)

    def infer_signatures(
        self, components: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace
    ) -> list[Signature]:
        return infer_tuple(components, domain, codomain)

    def outer_signature(self, signatures: Sequence[Signature]) -> Signature:
        return _tuple_signature(signatures)

    def title(self) -> str:
        return "Concatenation" if type(self) is Concatenation else repr(self)

    def __repr__(self) -> str:
        return f"({', '.join(map(repr, self))})"


def _as_module(
    value: object, operation: str, partner: AnyModule | None, *, reflected: bool = False
) -> AnyModule:
    """The operand as a module: for a tuple of modules, their concatenation.

    Args:
        value: the operand.
        operation: as written, for errors.
        partner: the other operand.
        reflected: whether the operand is on the left.
    """
    if isinstance(value, tuple):
        return Concatenation.of(*_components(value))
    if not isinstance(value, AnyModule):
        refuse_operand(partner, operation, value, reflected=reflected)
    return value


def _components(operands: Sequence[object]) -> tuple[list[AnyModule], Signature]:
    """The components of a concatenation, and its spaces.

    Raises:
        CompositionError: the domains differ.
        ValueError: there is no operand.
    """
    if not operands:
        raise ValueError("a concatenation takes at least one module, got an empty tuple")
    modules = [_as_module(operand, ",", None) for operand in operands]
    try:
        return modules, _tuple_signature(infer_tuple(modules, ANYTHING, ANYTHING))
    except MismatchError as mismatch:
        listed = "; ".join(f"{module!r} takes {module.domain}" for module in modules)
        raise CompositionError(
            f"cannot concatenate modules whose domains differ: {mismatch}. {listed}"
        ) from None


def _tuple_signature(signatures: Sequence[Signature]) -> Signature:
    return signatures[0][0], Product(tuple(codomain for _, codomain in signatures))


def _compose(outer: AnyModule, inner: AnyModule) -> AnyModule:
    """outer ∘ inner, flat."""
    signature = _composed_signature(outer, inner)
    if _is_chain(inner):
        return Composition.extended(typing.cast("Compound", inner), outer.factors(), signature)
    return Composition.of([*inner.factors(), *outer.factors()], signature)


def _composed_signature(outer: AnyModule, inner: AnyModule) -> Signature:
    """The spaces of outer ∘ inner.

    Raises:
        CompositionError: the codomain of `inner` is not the domain of `outer`.
    """
    try:
        seam, codomain = outer.unify(meet(outer.domain, inner.codomain), ANYTHING)
        domain, _ = inner.unify(ANYTHING, seam)
        return domain, codomain
    except MismatchError as mismatch:
        wanted, given = outer.domain, inner.codomain
        fix = suggest_pairs(_tuple_at(outer, 0), _tuple_at(inner, -1)) or suggest_fix(given, wanted)
        raise CompositionError(
            f"cannot compose {_operand(outer)} @ {_operand(inner)}: {outer!r} takes {wanted} and "
            f"{inner!r} gives {given}: {mismatch}{fix}"
        ) from None


def _tuple_at(module: AnyModule, end: int) -> list[AnyModule]:
    """The modules of the tuple at one end of a chain: 0 for its input, −1 for its output."""
    outermost = module.factors()[end]
    if end == 0 and _is_sum(outermost):
        return _terms(outermost)
    return outermost.components() if type(outermost) is Concatenation else []


def _power(module: AnyModule, n: object) -> AnyModule:
    """n independent copies composed, each with fresh weights; `module` is not among them."""
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 0:
        raise ValueError(
            "the power of a module is a whole number of copies, at least 0; got "
            f"{module!r} ** {n!r}"
        )
    _composed_signature(module, module)
    if n == 0:
        return Identity()
    copies = [copy.deepcopy(module) for _ in range(int(n))]
    for one in copies:
        one.initialize()
    if n == 1:
        return copies[0]
    return Composition.of([factor for one in copies for factor in one.factors()], module.signature)


def _sum(first: AnyModule, second: AnyModule) -> AnyModule:
    """first + second, as one flat sum."""
    try:
        signature = first.unify(*second.unify(*first.signature))
    except MismatchError:
        listed = "; ".join(f"{term!r} maps {arrow(term.signature)}" for term in (first, second))
        raise CompositionError(
            f"cannot add {first!r} + {second!r}, whose ends differ: {listed}"
        ) from None
    domain, codomain = signature
    try:
        check_linear(codomain)
    except MismatchError as mismatch:
        raise CompositionError(
            f"cannot add {first!r} + {second!r}: {mismatch}; add what an Embed makes of each, as "
            "in Embed(d, vocab) + Embed(d, context) @ Enumerate()"
        ) from None
    more = _terms(second)
    count = len(_terms(first)) + len(more)
    outputs = domain, Product((codomain,) * count)
    if _is_sum(first):
        terms = Concatenation.extended(_concatenation(first), more, outputs)
    else:
        terms = Concatenation.of([first, *more], outputs)
    return Composition.of([terms, Add()], signature)


def _is_sum(module: AnyModule) -> bool:
    return (
        type(module) is Composition
        and len(module) == 2
        and type(module[1]) is Add
        and type(module[0]) is Concatenation
    )


def _is_chain(module: AnyModule) -> bool:
    """Whether a composition with this one composes its components instead of it."""
    return type(module) is Composition and not _is_sum(module)


def _terms(module: AnyModule) -> list[AnyModule]:
    """The terms of a sum; of another module, the module itself."""
    return _concatenation(module).components() if _is_sum(module) else [module]


def _concatenation(summed: AnyModule) -> Compound:
    """The concatenation whose parts a sum adds up."""
    concatenation, _ = typing.cast("Compound", summed)
    return typing.cast("Compound", concatenation)


def _operand(module: AnyModule) -> str:
    return f"({module!r})" if type(module) is Composition else repr(module)


def _abbreviated(modules: Sequence[AnyModule], write: Callable[[AnyModule], str]) -> list[str]:
    """The modules as written, all of up to six, else the first three and the last two."""
    if len(modules) <= 6:
        return list(map(write, modules))
    return [*map(write, modules[:3]), "…", *map(write, modules[-2:])]
