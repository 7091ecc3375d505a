"""Modules and their algebra: atoms, bonds, composition, concatenation.

A module is a forward map with a mass, a sensitivity and a norm on its weights (Large et al. 2024,
arXiv:2405.14813, definition 2). Atoms declare the three, bonds carry no weights, compounds derive
them. A module is a way to write a graph of operations, and the duality map follows from that graph
(`modula.graph`).

Only these classes know one another: a module composes into a `Composition`, which is a module.
"""

from __future__ import annotations

import copy
import math
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import index
from typing import (
    TYPE_CHECKING,
    ClassVar,
    Generic,
    NoReturn,
    TypeAlias,
    TypedDict,
    TypeVar,
)

import torch
from torch import Tensor, nn

from modula.algebra.hints import operand_advice, suggest_fix
from modula.algebra.recording import Site, record
from modula.algebra.render import Line, render
from modula.checks import Acts, Claim, check_mass, check_sensitivity, is_number
from modula.errors import CompositionError, MismatchError, ParameterError
from modula.geometry import Geometry
from modula.graph import Graph, GraphBuilder, Radius, Tuple, total_radius
from modula.network import Network, Observation, check_parameters, weight_name
from modula.norms import Dense, Norm
from modula.sharding import fill
from modula.spaces import (
    ANY_DENSE,
    ANYTHING,
    AnySpace,
    Product,
    Signature,
    Space,
    arrow,
    meet,
    space_of,
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
else:
    ModuleOperators = Generic

SpaceType: TypeAlias = Norm | tuple[object, ...]
"""What a space is, to a checker: a norm type, or a tuple of spaces."""

X = TypeVar("X")
Y = TypeVar("Y")
# Bounded where a class names its spaces, which is where a mistake would enter. The others are free:
# mypy infers Any for a bond next to an operand whose type variable is bounded by a union.
S = TypeVar("S", bound=SpaceType)
T = TypeVar("T", bound=SpaceType)


_edits = [0]
"""How often a module or a parameter of any network has been assigned or removed."""


@dataclass(frozen=True, slots=True)
class _CachedGraph:
    """The graph of a compound, until a module or a parameter is assigned or removed anywhere.

    Args:
        graph: of the compound.
        edits: how many edits there had been.
        owner: the id of the compound; a shallow copy, as DataParallel makes it, has another.
        frozen: the parameters that are not weights, none of which required a gradient.
        opaque: the torch modules inside of atoms and bonds, whose edits are not counted.
    """

    graph: Graph
    edits: int
    owner: int
    frozen: Sequence[nn.Parameter]
    opaque: Sequence[nn.Module]

    def holds_for(self, owner: object) -> bool:
        return (
            self.edits == _edits[0]
            and self.owner == id(owner)
            and not any(p.requires_grad for p in self.frozen)
            and not any(p.requires_grad for module in self.opaque for p in module.parameters())
        )


class AnyModule(nn.Module, Network):
    """A module of the algebra, whatever its spaces: all but the operators, which need to know them.

    Code that takes any network should accept `modula.Network`.
    """

    # So that a NumPy scalar on the left leaves the product to __rmul__.
    __array_ufunc__: ClassVar[None] = None
    _declared: Signature = (ANYTHING, ANYTHING)

    if TYPE_CHECKING:

        def __init__(self) -> None: ...  # torch's takes any arguments, and refuses them at run time
        def __call__(self, x: Value, /) -> Value: ...

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in cls.__dict__.get("__orig_bases__", ()):
            arguments = typing.get_args(base)
            wrong = [one for one in arguments if isinstance(one, type) and space_of(one) is None]
            if wrong and issubclass(typing.get_origin(base), AnyModule):
                raise TypeError(
                    f"{wrong[0].__name__} is no norm type: {cls.__name__} maps between norm types, "
                    "such as RMS, and tuples of them"
                )
            signature = [space_of(one) for one in arguments]
            if len(signature) == 2 and "_declared" not in cls.__dict__:
                cls._declared = (signature[0] or ANYTHING, signature[1] or ANYTHING)
        for name, check in (("mass", check_mass), ("sensitivity", check_sensitivity)):
            if isinstance(cls.__dict__.get(name), (int, float)):
                check(cls.__name__, cls.__dict__[name])

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("mass", "sensitivity"):
            self._check_declaration(name, value)
        if isinstance(value, (nn.Module, nn.Parameter)) or name in self._members():
            _edits[0] += 1
        super().__setattr__(name, typing.cast("Tensor", value))

    def __delattr__(self, name: str) -> None:
        _edits[0] += 1
        super().__delattr__(name)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Add a parameter, as torch does. One that no duality map reaches is refused when asked."""
        _edits[0] += 1
        super().register_parameter(name, param)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a module, as torch does."""
        _edits[0] += 1
        super().add_module(name, module)

    def _members(self) -> Collection[str]:
        """The names of the parameters and modules of this module."""
        own = self.__dict__
        return {*own.get("_parameters", ()), *own.get("_modules", ())}

    def _check_declaration(self, name: str, value: object) -> None:
        """Raise if this module cannot have that mass or sensitivity."""
        (check_mass if name == "mass" else check_sensitivity)(self, value)

    # The network

    @property
    def torch_module(self) -> nn.Module:
        """The module itself."""
        return self

    def graph(self) -> Graph:
        """Return the graph of operations, in the order in which data meets them.

        A compound keeps its structure until a module or a parameter is assigned or removed
        anywhere. The numbers in it are read from the modules at each use.

        Raises:
            ParameterError: a parameter requires a gradient and is not the weight of an atom, or is
                shared by atoms for which there is no common norm.
        """
        graph = self._flattened()
        if not torch.compiler.is_compiling():
            check_parameters(self, graph)
        return graph

    def _flattened(self) -> Graph:
        builder = GraphBuilder()
        self.flatten(builder, "", 0)
        return builder.finish()

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        """Add the operations of this module to a graph.

        Args:
            builder: of the graph.
            path: of this module in the network.
            source: the position of the node that it reads.

        Returns:
            The position of the node that gives its output.
        """
        raise NotImplementedError(
            f"{type(self).__name__} is neither an Atom nor a Bond nor a compound: subclass one of "
            "these"
        )

    def observe(self, *inputs: Value) -> list[Observation]:
        """Run the module on an input, and return what flowed through it and each module inside.

        Raises:
            TypeError: there is not exactly one input.
            ValueError: a module was called more often than it stands in the network.
        """
        if len(inputs) != 1:
            raise TypeError(
                f"{self!r} takes one input, got {len(inputs)}: give a tuple for several values"
            )
        return record(self, list(self.sites("", self.signature)), inputs[0])

    def sites(self, path: str, signature: Signature) -> Iterator[Site]:
        """Yield this module and all modules inside, in the order in which data enters them.

        Args:
            path: of this module in the network.
            signature: its spaces there.
        """
        yield Site(path, self, signature, None)

    def describe(self) -> Mapping[str, str]:
        """Return each module's class and arguments, by path."""
        return {
            path: f"{type(module).__name__}({module.extra_repr()})"
            for path, module in self.named_modules()
        }

    def input_radius(self) -> Radius:
        return _unit_radius(self.domain)

    # Types

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        """Return the spaces of both ends, given what the neighbours know of them.

        A bond whose two spaces depend on one another overrides this.

        Args:
            domain: what the neighbour before knows of the space that they share.
            codomain: what the neighbour after knows.

        Raises:
            MismatchError: the module cannot stand there.
        """
        own_domain, own_codomain = self._declared
        return meet(own_domain, domain), meet(own_codomain, codomain)

    @property
    def signature(self) -> Signature:
        """The spaces of input and output, with their widths if those are known."""
        return self.unify(ANYTHING, ANYTHING)

    @property
    def domain(self) -> AnySpace:
        """The space of the input, with its width if that is known."""
        return self.signature[0]

    @property
    def codomain(self) -> AnySpace:
        """The space of the output, with its width if that is known."""
        return self.signature[1]

    def _links(self) -> list[AnyModule]:
        """The modules that a composition with this one strings together, in flow order."""
        return [self]

    # Print

    def _line(self, place: str, signature: Signature) -> Line:
        """The line of this module in the tree, and those below it."""
        return Line(place, repr(self), arrow(signature), self.mass, self.sensitivity, None)

    def extra_repr(self) -> str:
        """Return the arguments as written, for errors and the tree."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def __str__(self) -> str:
        return render(self._line("", self.signature))


def _unit_radius(space: AnySpace) -> Radius:
    """Norm 1 for a value of that space; for a tuple, for each of its parts."""
    if isinstance(space, Product):
        return tuple([_unit_radius(part) for part in space.parts])
    return 1.0


def _join_path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


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

    if not TYPE_CHECKING:  # a checker reads their types in operators.pyi

        def __matmul__(self, other):
            return _compose(self, _as_module(other, "@", self))

        def __rmatmul__(self, other):
            return _compose(_as_module(other, "@", self, reflected=True), self)

        def __add__(self, other):
            return _sum(self, _as_module(other, "+", self))

        def __radd__(self, other):
            return _sum(_as_module(other, "+", self, reflected=True), self)

        def __sub__(self, other):
            _refuse_operand(self, "-", other)

        def __pow__(self, n):
            return _power(self, n)

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
    claim: Claim = "estimate"  # until the author of an atom has proved its bounds
    acts: ClassVar[Acts] = "otherwise"
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
        shape = _whole_numbers(name, shape)
        fan_out, fan_in = (None if fan is None else index(fan) for fan in (fan_out, fan_in))
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
        weight = torch.empty(shape, device=device, dtype=dtype)
        if not weight.is_floating_point():
            raise TypeError(f"{name} holds a floating-point weight, got dtype={dtype}")
        self.weight = nn.Parameter(weight)
        self.mass = mass  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            self.initialize_weight(None)

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Fill the weight with a random one of norm 1. Do nothing on the meta device."""
        if not self.weight.is_meta:
            device = self.weight.device if generator is None else generator.device
            fill(self.weight, self.geometry.sample(tuple(self.weight.shape), generator, device))

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        return meet(self._signature[0], domain), meet(self._signature[1], codomain)

    def sensitivities(self) -> tuple[float, ...]:
        return (self.sensitivity,)

    def radius(self, *inputs: Radius) -> Radius:
        """Return a bound on the output's norm for a weight of norm at most 1.

        Args:
            inputs: a bound R on the input's norm. By default the bound is s·R, which holds for maps
                that are linear in the input; override it for others.
        """
        return self.sensitivity * total_radius(inputs)

    def weight_sensitivity(self, *inputs: Radius) -> float:
        """Return r with ‖∂f·Δw‖ ≤ r·‖Δw‖.

        Args:
            inputs: a bound R on the input's norm. By default r = R, which holds for maps that are
                linear in the input and in the weight; override it for others.
        """
        return total_radius(inputs)

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        return builder.add_weighted(path, self, (source,), weight_name(path), self)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Add the weight, as torch does. No other parameter to train is taken.

        Raises:
            ParameterError: a parameter of another name requires a gradient.
        """
        if name != "weight" and param is not None and param.requires_grad:
            raise ParameterError(
                f"{name!r} cannot be a parameter of {type(self).__name__}: an atom has one weight, "
                "`weight`, with its norm and mass, and no duality map would reach another. Compose "
                "a second atom for it (a bias is Bias(d) @ …, a gain Gain(d) @ …), or freeze it "
                "with requires_grad_(False)"
            )
        super().register_parameter(name, param)

    def sites(self, path: str, signature: Signature) -> Iterator[Site]:
        yield Site(path, self, signature, self)

    def check_width(self, x: Tensor) -> None:
        """Raise if the measured axis of an input is not as wide as the domain.

        Raises:
            ValueError: names this module, its width and the shape that was given.
        """
        space = self._signature[0]
        if (
            isinstance(space, Space)
            and issubclass(space.norm, Dense)
            and space.width is not None
            and (x.dim() < -space.norm.axis or x.shape[space.norm.axis] != space.width)
        ):
            raise ValueError(
                f"{self!r} takes {space}, the width on axis {space.norm.axis}; got a tensor of "
                f"shape {list(x.shape)}"
            )

    def _line(self, place: str, signature: Signature) -> Line:
        return super()._line(place, signature)._replace(shape=tuple(self.weight.shape))


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
    acts: ClassVar[Acts] = "otherwise"

    def _check_declaration(self, name: str, value: object) -> None:
        if name == "mass" and value != 0:
            raise ValueError(f"{self!r} is a bond: it has no weights to learn, and its mass is 0")
        super()._check_declaration(name, value)

    def sensitivities(self) -> tuple[float, ...]:
        return (self.sensitivity,)

    def radius(self, *inputs: Radius) -> Radius:
        """Return a bound on the output's norm.

        Args:
            inputs: a bound R on the input's norm; for a tuple, one for each part. By default the
                bound is s·R, which holds for maps that take 0 to 0; override it for others.
        """
        return self.sensitivity * total_radius(inputs)

    def weight_sensitivity(self, *inputs: Radius) -> float:
        """Return 0: a bond has no weight."""
        return 0.0

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        return builder.add(path, self, (source,))

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

    def sites(self, path: str, signature: Signature) -> Iterator[Site]:
        yield Site(path, self, signature, self)


class Neighbour(Norm):
    """Stands for the space of whatever module comes next to a bond that adopts it."""


if not TYPE_CHECKING:  # the bases at run time; a checker reads those in operators.pyi
    ElementwiseOperators = AddOperators = Bond[Neighbour, Neighbour]


class Elementwise(ElementwiseOperators):
    """A bond that maps every dense space to itself, and takes type and width of its neighbour.

    Subclass it for a function of single entries. `sensitivity` must bound |f'|; under every norm
    that depends on magnitudes only, that bounds the map. Override `radius` where f(0) is not 0.
    """

    acts: ClassVar[Acts] = "entrywise"

    _declared = (ANY_DENSE, ANY_DENSE)

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        own, _ = self._declared
        space = meet(meet(own, domain), codomain)
        return space, space


if not TYPE_CHECKING:  # as above
    TransparentOperators = Elementwise


class Transparent(TransparentOperators):
    """A bond that maps any space to itself: dense ones, ids, tuples."""

    _declared = (ANYTHING, ANYTHING)


class Identity(Transparent):
    """The map that changes nothing.

    Sensitivity 1: proved, under every norm.
    """

    claim: Claim = "proved"

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]

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

    def radius(self, *inputs: Radius) -> Radius:
        return _scaled_radius(self.sensitivity, inputs[0])

    def forward(self, x: Value) -> Value:
        return map_leaves(lambda tensor: self.scale * tensor, x)

    def extra_repr(self) -> str:
        return f"{self.scale:.6g}"


class Add(AddOperators):
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

    def radius(self, *inputs: Radius) -> Radius:
        (parts,) = inputs
        if not isinstance(parts, tuple):
            return parts
        return _radius_of_sum(parts)

    def forward(self, x: tuple[Value, ...]) -> Value:
        total = x[0]
        for part in x[1:]:
            total = zip_leaves(torch.add, total, part)
        return total


class Compound(Module[X, Y]):
    """A module made of modules. Mass, sensitivity and the norm of the weights follow from these.

    Iterate over it, or index it, to reach the modules inside, in the order in which data meets
    them. `compound[i] = module` puts another in place if it maps the same spaces. It holds no
    parameters and no further modules of its own, since these would not be part of the map that it
    stands for; other attributes are free.
    """

    _signature: Signature
    _cached_graph: _CachedGraph | None = None

    def graph(self) -> Graph:
        if torch.compiler.is_compiling():
            return self._flattened()
        cached = self._cached_graph
        if cached is None or not cached.holds_for(self):
            graph = self._flattened()
            frozen = check_parameters(self, graph)
            cached = _CachedGraph(graph, _edits[0], id(self), frozen, list(self._opaque_modules()))
            self._cached_graph = cached
        return cached.graph

    def _opaque_modules(self) -> Iterator[nn.Module]:
        """The torch modules directly inside of atoms and bonds."""
        for module in self.modules():
            if isinstance(module, (Atom, Bond)):
                yield from module.children()

    def __getstate__(self) -> dict[str, object]:
        """All but the graph: a copy makes its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_cached_graph"}

    def _adopt(self, parts: Sequence[AnyModule], signature: Signature) -> None:
        """Take `parts` in, in flow order."""
        self._signature = signature
        _edits[0] += 1
        self._modules.update(zip(_names(len(parts)), parts, strict=True))

    def _infer_signatures(
        self, parts: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace
    ) -> list[Signature]:
        """The spaces of each part, given those of the whole.

        Raises:
            MismatchError: the parts do not fit.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say how its parts meet: subclass Composition or "
            "Concatenation"
        )

    def _outer_signature(self, signatures: list[Signature]) -> Signature:
        """The spaces of the whole, given those of each part."""
        raise NotImplementedError(
            f"{type(self).__name__} does not say how its parts meet: subclass Composition or "
            "Concatenation"
        )

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        signature = meet(self._signature[0], domain), meet(self._signature[1], codomain)
        if signature == self._signature:
            return signature
        return self._outer_signature(self._infer_signatures(self._parts(), *signature))

    def sites(self, path: str, signature: Signature) -> Iterator[Site]:
        yield Site(path, self, signature, None)
        inner = self._infer_signatures(self._parts(), *signature)
        for i, (part, at) in enumerate(zip(self._parts(), inner, strict=True)):
            yield from part.sites(_join_path(path, str(i)), at)

    def _parts(self) -> list[AnyModule]:
        """The modules inside, in flow order."""
        return typing.cast("list[AnyModule]", list(self._modules.values()))

    def __iter__(self) -> Iterator[AnyModule]:
        return iter(self._parts())

    def __len__(self) -> int:
        return len(self._modules)

    def __getitem__(self, index: int) -> AnyModule:
        return self._parts()[index]

    def __setitem__(self, index: int, module: AnyModule) -> None:
        parts = self._parts()
        parts[index] = _as_module(module, "[…] =", self)
        try:
            self._infer_signatures(parts, *self._signature)
        except MismatchError as mismatch:
            place = f"cannot put {module!r} in place {index} of {self!r}"
            raise CompositionError(f"{place}: {self._why_not(parts, mismatch)}") from None
        _edits[0] += 1
        self._modules[str(range(len(self))[index])] = module

    def _why_not(self, parts: Sequence[AnyModule], mismatch: MismatchError) -> str:
        """Why these parts cannot stand for those that are there."""
        try:
            signature = self._outer_signature(self._infer_signatures(parts, ANYTHING, ANYTHING))
        except MismatchError as inner:
            return str(inner)
        if signature == self._signature:
            return str(mismatch)
        return (
            f"it would change the signature from {arrow(self._signature)} to {arrow(signature)}, "
            f"but the enclosing module needs {arrow(self._signature)}"
        )

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__.get("_modules", ()):
            self[int(name)] = typing.cast("AnyModule", value)
            return
        if isinstance(value, (nn.Module, nn.Parameter)):
            self._refuse_member(name, value)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._modules:
            raise ParameterError(
                f"cannot take {self._modules[name]!r} out of {self!r}: assign another module in "
                f"its place, as in model[{name}] = Identity()"
            )
        super().__delattr__(name)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Refuse a parameter, which would not be part of the map.

        Raises:
            ParameterError: always, with the way out.
        """
        self._refuse_member(name, param)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Refuse a module beside those that are composed.

        Raises:
            ParameterError: always, with the way out.
        """
        self._refuse_member(name, module)

    def _refuse_member(self, name: str, value: object) -> NoReturn:
        kind = "parameter" if isinstance(value, nn.Parameter) else "module"
        inside = repr(self) if "_modules" in self.__dict__ else type(self).__name__
        raise ParameterError(
            f"{name!r} is a {kind} and cannot be an attribute of {inside}: the map of a "
            f"compound is the one that its parts are composed to, and the {kind} would have no "
            "part in it and would not be trained. Compose it in, with @, + or a tuple; write an "
            "Atom for a parameter of your own; keep a module that is no part of the network outside"
        )

    def _check_declaration(self, name: str, value: object) -> None:
        if name == "mass":
            how = "rescale it with tare(mass)"
        else:
            how = "scale the module, as in 0.5 * module"
        raise AttributeError(
            f"the {name} of {self!r} follows from the modules inside: {how}, or set that of an "
            "atom or bond inside"
        )

    def _line(self, place: str, signature: Signature) -> Line:
        whole = super()._line(place, signature)
        if not self.graph().weights:
            return whole
        inner = self._infer_signatures(self._parts(), *signature)
        lines = [
            part._line(str(i), at)
            for i, (part, at) in enumerate(zip(self._parts(), inner, strict=True))
        ]
        return whole._replace(name=self._title(), children=tuple(lines))

    def _title(self) -> str:
        """The name of this module in the tree, where its parts have lines of their own."""
        return type(self).__name__ if type(self) in (Composition, Concatenation) else repr(self)


_NAMES: list[str] = []


def _names(count: int) -> list[str]:
    """ "0", "1", … as torch names the parts of a Sequential."""
    _NAMES.extend(map(str, range(len(_NAMES), count)))
    return _NAMES[:count]


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
        self._adopt(module._links(), module.signature)

    @classmethod
    def _in_flow_order(cls, parts: Sequence[AnyModule], signature: Signature) -> AnyModule:
        made: Composition[SpaceType, SpaceType] = Composition.__new__(Composition)
        nn.Module.__init__(made)
        made._adopt(parts, signature)
        return made

    def forward(self, x: Value) -> Value:
        for part in self._parts():
            x = part(x)
        return x

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        for name, part in self._modules.items():
            source = typing.cast("AnyModule", part).flatten(builder, _join_path(path, name), source)
        return source

    def _links(self) -> list[AnyModule]:
        return self._parts() if type(self) is Composition and not _is_sum(self) else [self]

    def _line(self, place: str, signature: Signature) -> Line:
        whole = super()._line(place, signature)
        if not _is_sum(self) or not whole.children:
            return whole
        terms = [term._replace(place=f"0.{term.place}") for term in whole.children[0].children]
        return whole._replace(name="Sum", children=tuple(terms))

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

    def _outer_signature(self, signatures: list[Signature]) -> Signature:
        return signatures[0][0], signatures[-1][1]

    def __repr__(self) -> str:
        if type(self) is not Composition:
            return super().__repr__()
        if _is_sum(self):
            return " + ".join(_abbreviated(_terms(self), repr))
        written = _abbreviated(self._parts()[::-1], _operand)
        if isinstance(self[-1], Mul) and len(written) > 1:
            written[:2] = [f"{self[-1].extra_repr()} * {written[1]}"]
        return " @ ".join(written)


if not TYPE_CHECKING:  # as above
    ConcatenationOperators = Compound


class Concatenation(ConcatenationOperators[X, Y]):
    """Modules applied to one input, side by side; what a tuple of modules stands for. The output is
    a tuple.

    Args:
        modules: at least one, all with the same domain.

    Raises:
        CompositionError: the domains differ.

    Source: Large et al. 2024 (arXiv:2405.14813), definition 4.
    """

    if not TYPE_CHECKING:

        def __init__(self, *modules):
            super().__init__()
            self._concatenate(modules)

    def _concatenate(self, modules: Sequence[object]) -> None:
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

    @classmethod
    def _of(cls, parts: Sequence[AnyModule], signature: Signature) -> AnyModule:
        """The concatenation of parts whose common signature is known."""
        made: Concatenation[SpaceType, SpaceType] = Concatenation.__new__(Concatenation)
        nn.Module.__init__(made)
        made._adopt(parts, signature)
        return made

    def forward(self, x: Value) -> tuple[Value, ...]:
        return tuple([part(x) for part in self._parts()])

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        outputs = tuple(
            [
                typing.cast("AnyModule", part).flatten(builder, _join_path(path, name), source)
                for name, part in self._modules.items()
            ]
        )
        return builder.add(path, Tuple(len(outputs)), outputs)

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

    def _outer_signature(self, signatures: list[Signature]) -> Signature:
        return signatures[0][0], Product(tuple(codomain for _, codomain in signatures))

    def __repr__(self) -> str:
        return f"({', '.join(map(repr, self))})"


def _compose(outer: AnyModule, inner: AnyModule) -> AnyModule:
    """outer ∘ inner, flat."""
    return Composition._in_flow_order([*inner._links(), *outer._links()], _join(outer, inner))


def _join(outer: AnyModule, inner: AnyModule) -> Signature:
    """The signature of outer ∘ inner.

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


def _abbreviated(modules: Sequence[AnyModule], write: Callable[[AnyModule], str]) -> list[str]:
    """The modules as written, all of up to six, else the first three and the last two."""
    if len(modules) <= 6:
        return list(map(write, modules))
    return [*map(write, modules[:3]), "…", *map(write, modules[-2:])]


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
    terms = [*_terms(first), *_terms(second)]
    parts = Concatenation._of(terms, (domain, Product((codomain,) * len(terms))))
    return Composition._in_flow_order([parts, Add()], signature)


def _power(module: AnyModule, n: object) -> AnyModule:
    """n independent copies composed, each with fresh weights; `module` is not among them."""
    if not isinstance(n, int) or isinstance(n, bool) or n < 0:
        raise ValueError(
            "the power of a module is a whole number of copies, at least 0; got "
            f"{module!r} ** {n!r}"
        )
    _join(module, module)
    if n == 0:
        return Identity()
    copies = [copy.deepcopy(module) for _ in range(n)]
    for one in copies:
        one.initialize()
    if n == 1:
        return copies[0]
    links = [link for one in copies for link in one._links()]
    return Composition._in_flow_order(links, module.signature)


def _is_sum(module: AnyModule) -> bool:
    return (
        type(module) is Composition
        and len(module) == 2
        and type(module[1]) is Add
        and type(module[0]) is Concatenation
    )


def _terms(module: AnyModule) -> list[AnyModule]:
    if not _is_sum(module):
        return [module]
    parts, _ = typing.cast("Composition[SpaceType, SpaceType]", module)
    return typing.cast("Concatenation[SpaceType, SpaceType]", parts)._parts()


def _scaled_radius(scale: float, radius: Radius) -> Radius:
    if isinstance(radius, tuple):
        return tuple([_scaled_radius(scale, part) for part in radius])
    return scale * radius


def _radius_of_sum(radii: Sequence[Radius]) -> Radius:
    """The sum, part by part where the terms are tuples."""
    if isinstance(radii[0], tuple):
        columns = zip(*typing.cast("Sequence[tuple[Radius, ...]]", radii), strict=True)
        return tuple([_radius_of_sum(column) for column in columns])
    return math.fsum(typing.cast("Sequence[float]", radii))


def _as_module(
    value: object, operation: str, partner: AnyModule, *, reflected: bool = False
) -> AnyModule:
    """`value` if it is a module, the concatenation if it is a tuple of modules.

    `reflected`: it was written on the left.
    """
    if isinstance(value, tuple):
        return typing.cast("Callable[..., AnyModule]", Concatenation)(*value)
    if not isinstance(value, AnyModule):
        _refuse_operand(partner, operation, value, reflected=reflected)
    return value


def _refuse_operand(
    module: AnyModule, operation: str, other: object, *, reflected: bool = False
) -> NoReturn:
    """Raise the TypeError that says why `module operation other` has no meaning."""
    if isinstance(other, type):
        theirs = other.__name__
    else:
        theirs = repr(other) if isinstance(other, AnyModule) else type(other).__name__
    if reflected:
        written = f"{theirs} {operation} {module!r}"
    else:
        written = f"{module!r} {operation} {theirs}"
    raise TypeError(f"{written} has no meaning: {operand_advice(operation, other)}")


def _whole_numbers(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a weight in Python's integers.

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


def _with_width(norm: type[Norm] | None, declared: AnySpace, width: int | None) -> AnySpace:
    if norm is not None:
        return Space(norm, width)
    if not isinstance(declared, Space):
        return declared
    return meet(declared, Space(declared.norm, width))
