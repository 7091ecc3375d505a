"""A user's norm types, bonds, atoms, generic functions, and modules inside torch modules."""

from dataclasses import dataclass
from typing import TypeVar, assert_type

import torch
from torch import Tensor, nn

from modula import (
    GELU,
    L1,
    L2,
    RMS,
    Add,
    AnyModule,
    Atom,
    AtomOptions,
    Bond,
    ChannelRMS,
    Composition,
    Compound,
    Conv2D,
    Dense,
    Elementwise,
    Embed,
    FunctionBond,
    Identity,
    Linear,
    Linf,
    Module,
    Norm,
    OneHot,
    ReLU,
    SameSpace,
    Update,
    VectorNorm,
)
from modula.checks import Claim
from modula.geometry import Geometry, Spectral, Vectors, operator_geometry
from modula.graph import Radius, total_radius
from modula.polar import MethodLike
from modula.spaces import ANYTHING, AnySpace, Signature, meet
from modula.values import Value, map_leaves


# A norm type.
class L4(VectorNorm):
    """(Σx⁴)^¼."""

    @classmethod
    def norm(cls, x: Tensor) -> Tensor:
        return x.pow(4).sum(dim=-1).pow(1 / 4)

    @classmethod
    def dualize(cls, g: Tensor) -> Tensor:
        direction = g.sign() * g.abs().pow(1 / 3)
        return direction / cls.norm(direction).clamp(min=1e-30).unsqueeze(-1)


class Columns(VectorNorm):
    """A norm type that is complete: it names its dual."""

    dual = L2


assert_type(Linear(3, 4, domain=L1, codomain=L4), Linear[L1, L4])
assert_type(ReLU() @ Linear(3, 4, domain=L1, codomain=L4), Module[L1, L4])
assert_type(Linear(3, 4, domain=Columns, codomain=Linf), Linear[Columns, Linf])
assert_type(
    FunctionBond(torch.sin, domain=L4, codomain=RMS) @ Linear(3, 4, domain=L1, codomain=L4),
    Module[L1, RMS],
)
assert_type(L4.measure(torch.ones(3)), Tensor)
Linear(3, 4) @ Linear(4, 2, domain=L1, codomain=L4)  # E: L4 is not RMS
Linear(3, 4, domain=L4)  # E: L4 to RMS has no duality map
Linear(3, 4, codomain=L4)  # E: RMS to L4 has no duality map
Linear(3, 4, domain=L4, codomain=L4)  # E: L4 to L4 has no duality map
Linear(3, 4, domain=L4, codomain=Linf)  # E run: L4 does not name its dual


class Wide(RMS):  # E static: a norm that inherits from RMS would be another space
    """A subclass of a concrete norm."""


# A bond, as a subclass.
class Softplus(Bond[RMS, RMS]):
    """log(1 + exp(x))."""

    sensitivity = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.softplus(x)


class Halve(SameSpace[RMS, RMS]):
    """Half of every feature, in a space of the same width."""

    sensitivity = 0.5

    def forward(self, x: Tensor) -> Tensor:
        return x / 2


class Sine(Elementwise):
    """The sine of every entry, in any dense space."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


class Product(Bond[tuple[RMS, Linf], RMS]):
    """The product of two inputs."""

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        return x[0] * x[1]


class Fork(Bond[RMS, tuple[RMS, RMS]]):
    """The positive and the negative part."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.relu(), (-x).relu()


assert_type(Linear(3, 4) @ Softplus() @ Linear(4, 2), Module[RMS, RMS])
assert_type(Softplus() + Identity(), Module[RMS, RMS])
assert_type(Halve() ** 3, Module[RMS, RMS])
assert_type(Sine() @ Conv2D(3, 3) @ Sine(), Module[ChannelRMS, ChannelRMS])
assert_type(Sine() @ Linear(3, 4, codomain=Linf), Module[RMS, Linf])
assert_type(Product() @ (Linear(4, 4), Linear(4, 4, codomain=Linf)), Module[RMS, RMS])
assert_type(Fork() @ Linear(4, 4), Module[RMS, tuple[RMS, RMS]])
assert_type((Fork() @ Linear(4, 4))(torch.ones(4)), tuple[Tensor, Tensor])
assert_type(Add() @ Fork() @ Linear(4, 4), Module[RMS, RMS])
Softplus() @ Conv2D(3, 3)  # E: Softplus takes features
Embed(4, 9) @ Softplus()  # E: Embed takes ids
Embed(4, 9) @ Sine()  # E: ids hold no real vectors
Product() @ (Linear(4, 4, codomain=Linf), Linear(4, 4))  # E: the two are exchanged
Product() @ Fork()  # E: RMS is not Linf
Linear(4, 4) @ Fork()  # E: Linear takes no tuple
Softplus(2)  # E: Softplus has no arguments


class Bare(Bond[int, RMS]):  # E: int is no norm type
    """A bond between types that are not spaces."""


class Loose(Atom[Tensor, Tensor]):  # E: Tensor is no norm type
    """An atom between types of values."""


# A bond and an atom that declare all that a graph asks of an operation.
class Double(Bond[RMS, RMS]):
    """2x."""

    sensitivity = 2.0
    claim: Claim = "proved"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        space = meet(*super().unify(meet(domain, codomain), ANYTHING))
        return space, space

    def radius(self, *inputs: Radius) -> Radius:
        return 2 * total_radius(inputs)

    def forward(self, x: Value) -> Value:
        return map_leaves(lambda t: 2 * t, x)


class Cosine(Atom[RMS, RMS]):
    """cos(w·x) for each feature: not linear in the weight, and not 0 at 0."""

    claim: Claim = "proved"

    def __init__(self, d: int, mass: float = 1.0) -> None:
        super().__init__((d,), Vectors(Linf, axes=1), fan_out=d, fan_in=d, mass=mass)

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0

    def weight_sensitivity(self, *inputs: Radius) -> float:
        return total_radius(inputs)

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        return torch.cos(self.weight * x)


assert_type(Double() @ Cosine(4) @ Linear(4, 2), Module[RMS, RMS])
assert_type(Double().unify(ANYTHING, ANYTHING), Signature)
assert_type(Cosine(4).graph().radii(), list[Radius])
assert_type(Cosine(4, mass=2.0).claim, Claim)
Double() @ Embed(4, 9) @ Cosine(4)  # E: Embed takes ids
Cosine(4) @ Conv2D(4, 3)  # E: Cosine takes features

# A bond, as a function.
softplus = FunctionBond(nn.functional.softplus, domain=RMS, codomain=RMS)
wave = FunctionBond(lambda x: x.sin(), domain=L2, codomain=Linf, sensitivity=1.0)
assert_type(wave, FunctionBond[L2, Linf])
assert_type(wave @ Linear(3, 4, domain=L2, codomain=L2), Module[L2, Linf])
wave @ Linear(3, 4)  # E: RMS is not L2


# An atom with a geometry of modula.
class Diagonal(Atom[RMS, RMS]):
    """x times a weight for each feature."""

    def __init__(self, d: int) -> None:
        super().__init__((d,), Vectors(Linf, axes=1), fan_out=d, fan_in=d)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


# An atom with a geometry of the user.
@dataclass(frozen=True)
class Scalar(Geometry):
    """One number, measured by its magnitude."""

    axes = 1

    def norm(self, weight: Tensor) -> Tensor:
        return weight.abs().flatten(1).amax(dim=1)

    def dual_norm(self, gradient: Tensor) -> Tensor:
        return gradient.abs().flatten(1).sum(dim=1)

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        return gradient.sign()

    def project(self, weight: Tensor) -> Tensor:
        return weight.sign()

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        return torch.ones(shape, device=device)


class Temperature(Atom[RMS, RMS]):
    """x times one number."""

    def __init__(self, mass: float = 1.0) -> None:
        options: AtomOptions = {"mass": mass}
        super().__init__((1,), Scalar(), **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


# An atom whose spaces are chosen when it is made.
N = TypeVar("N", bound=VectorNorm)


class Rows(Atom[N, Linf]):
    """A matrix from any vector norm to Linf."""

    def __init__(self, fan_out: int, fan_in: int, domain: type[N]) -> None:
        super().__init__(
            (fan_out, fan_in),
            operator_geometry(domain, Linf),
            fan_out=fan_out,
            fan_in=fan_in,
            domain=domain,
        )

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.mT


assert_type(Diagonal(3) @ Linear(3, 4), Module[RMS, RMS])
assert_type(Temperature(0.5) @ Diagonal(4), Module[RMS, RMS])
assert_type(Temperature() ** 2, Module[RMS, RMS])
assert_type(Rows(3, 4, L2), Rows[L2])
assert_type(Rows(3, 4, L2) @ Linear(4, 2, domain=L2, codomain=L2), Module[L2, Linf])
assert_type(Spectral(RMS, RMS).norm(torch.ones(1, 2, 2)), Tensor)
Diagonal(3) @ Embed(3, 9) @ Linear(9, 3)  # E: Embed takes ids
Conv2D(3, 3) @ Diagonal(3)  # E: Conv2D takes images
Rows(3, 4, RMS) @ Linear(4, 2, domain=L2, codomain=L2)  # E: L2 is not RMS
Rows(3, 4, OneHot)  # E static: a bound of one's own, which this class does not look at when it runs
Diagonal("3")  # E: a width is a number

# A function that is generic in the types of its modules.
X = TypeVar("X")
Y = TypeVar("Y")


def stack(block: Module[X, X], depth: int) -> Module[X, X]:
    return ((1 - 1 / depth) * Identity() + (1 / depth) * block) ** depth


def after(outer: Module[RMS, Y], inner: Module[X, RMS]) -> Module[X, Y]:
    return outer @ ReLU() @ inner


def twins(inner: Module[X, Y]) -> Module[X, Y]:
    return Add() @ (0.5 * inner, 0.5 * inner)


def untyped(outer: Module[X, Y], inner: Module[X, Y]) -> Module[X, Y]:
    return outer @ inner  # E static: Y is not X


assert_type(stack(Linear(4, 4), 3), Module[RMS, RMS])
assert_type(stack(Linear(4, 4, domain=L2, codomain=L2), 3), Module[L2, L2])
assert_type(after(Linear(3, 4, codomain=Linf), Embed(4, 9)), Module[OneHot, Linf])
assert_type(stack(GELU() @ Linear(4, 4), 2) @ Embed(4, 9), Module[OneHot, RMS])
stack(Embed(4, 9), 3)  # E: a block maps a space to itself
stack(Linear(4, 4) @ Embed(4, 9), 3)  # E: a block maps a space to itself
after(Embed(4, 9), Linear(3, 4))  # E: ids are not features
after(Linear(3, 4), Conv2D(4, 4))  # E: images are not features


def head(features: Module[X, RMS]) -> Module[X, RMS]:
    return Linear(10, 4) @ features


def activated(bond: Elementwise) -> Module[RMS, RMS]:
    return Linear(4, 4) @ bond @ Linear(4, 4)


assert_type(head(Embed(4, 9)), Module[OneHot, RMS])
assert_type(activated(ReLU()), Module[RMS, RMS])
assert_type(activated(Sine() @ ReLU()), Module[RMS, RMS])
assert_type(activated(0.5 * Identity()), Module[RMS, RMS])
head(Conv2D(4, 4))  # E: images are not features
activated(Embed(4, 9))  # E: an activation maps every dense space to itself
activated(Softplus())  # E static: a bond of features only, which is enough when it runs


# A module stored in another torch module.
class Tower(nn.Module):
    """Two networks and a torch layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body: Module[OneHot, RMS] = Linear(width, width) @ Embed(width, 9)
        self.head = Linear(2, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, ids: Tensor) -> Tensor:
        features = self.body(ids)
        assert_type(features, Tensor)
        return self.head(features)

    def step(self, loss: Tensor, lr: float) -> None:
        for part in (self.body, self.head):
            update = part.dualize(part.gradient(loss))
            assert_type(update, Update)
            part.weights -= lr * update

    def wrong(self, loss: Tensor) -> None:
        self.body.weights -= self.body.gradient(loss)  # E static: a method that is not run
        self.head @ self.head @ self.drop  # E static: the same


tower = Tower(4)
assert_type(tower.body, Module[OneHot, RMS])
assert_type(tower.head @ tower.body, Module[OneHot, RMS])
tower.body @ tower.head  # E: Embed takes ids
tower.body = Linear(4, 4)  # E static: an attribute takes anything when the program runs

# A network as data: its components have masses and sensitivities, and isinstance narrows them.
network = Linear(3, 4) @ ReLU() @ Linear(4, 2) @ Embed(2, 9)
masses = [part.mass for part in network.children() if isinstance(part, AnyModule)]
assert_type(masses, list[float])
assert_type(network[0], AnyModule)
assert_type([part.mass for part in network], list[float])
assert_type(len(network), int)
network[0] = Embed(2, 9)
network["0"]  # E: components have numbers
network[0] = nn.ReLU()  # E: a torch.nn module declares no norms
network[0] = Linear(2, 9)  # E run: ids enter the network, not features
network[1] @ network[0]  # E static: a checker does not know the spaces of a part
Linear(3, 4)[0]  # E run: an atom has no components


def inside(model: Composition[OneHot, RMS]) -> None:
    for part in model:
        assert_type(part.mass, float)
        if isinstance(part, Embed):
            assert_type(part.weight, nn.Parameter)
    assert_type(model[0].sensitivity, float)
    assert_type(len(model), int)
    model[0] = Embed(2, 9)
    model[1] @ model[0]  # E static: a checker does not know the spaces of a part


def depth(model: Compound) -> int:
    return len(model)


def measure(norm: type[Dense], x: Tensor) -> Tensor:
    return norm.measure(x)


def name(norm: type[Norm]) -> str:
    return norm.__name__


inside(Composition(network))
assert_type(depth(Composition(network)), int)
assert_type(measure(RMS, torch.ones(2)), Tensor)
assert_type(name(OneHot), str)
measure(OneHot, torch.ones(2))  # E static: OneHot is not dense, though it measures
wrong: Module[RMS, RMS] = Embed(  # E static: an annotation is not looked at when the program runs
    4, 9
)
named: Module[OneHot, RMS] = network
