"""What every module is, whatever its spaces: a node of a tree that has mass, sensitivity and
weights, and can be dualized.

The algebra, which needs to know the spaces, stands on top of it in `module`.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NoReturn, Protocol, Self, TypeAlias, overload

import torch
from torch import Tensor, nn

from modula.algebra.render import Node, render
from modula.checks import check_mass, check_sensitivity
from modula.geometry import Geometry
from modula.plan import Plan
from modula.polar import MethodLike
from modula.sharding import refuse_fully_sharded
from modula.spaces import ANYTHING, AnySpace, Value, meet, space_of
from modula.vector import Gradient, Scalar, Update, Weights

Signature: TypeAlias = tuple[AnySpace, AnySpace]
"""The domain and the codomain of a module, as far as they are known."""


Held: TypeAlias = Mapping[str, "nn.Module | nn.Parameter | None"]
"""The modules inside of one, or its own parameters, by name, as torch keeps them."""


class HasWeight(Protocol):
    """What the tree needs of an atom."""

    mass: float
    geometry: Geometry
    weight: nn.Parameter

    def initialize_weight(self, generator: torch.Generator | None) -> None: ...


@dataclass(slots=True)
class Roster:
    """The atoms of a tree in parameter order. Three lists, not a list of triples, which would cost
    more than the walk.
    """

    names: list[str] = field(default_factory=list)
    """Of the atoms' parameters."""

    atoms: list[HasWeight] = field(default_factory=list)

    downstream: list[float] = field(default_factory=list)
    """S: for each atom the product of the sensitivities applied after it."""

    held: list[tuple[Held, tuple[tuple[str, object], ...]]] = field(default_factory=list)
    """The modules and parameters that modules held, by name."""

    empty: list[Held] = field(default_factory=list)
    """The same of those that held none."""

    sensitivities: list[tuple[AnyModule, float]] = field(default_factory=list)
    """What atoms and bonds declared."""

    def enter_atom(self, name: str, atom: HasWeight, downstream: float) -> None:
        """The next atom, in the reverse of parameter order."""
        self.names.append(name)
        self.atoms.append(atom)
        self.downstream.append(downstream)

    def note_held(self, held: Held) -> None:
        """Remember what a module holds now."""
        if held:
            self.held.append((held, tuple(held.items())))
        else:
            self.empty.append(held)

    def note_sensitivity(self, module: AnyModule) -> float:
        """What an atom or a bond declares now, remembered."""
        declared = module.sensitivity
        self.sensitivities.append((module, declared))
        return declared

    def is_current(self, root: nn.Module) -> bool:
        """Whether another walk from this compound would find the same. To look at all that a walk
        reads takes less time than the walk.
        """
        return (
            self.held[0][0]
            is root._modules  # and not those of the module that the root is a copy of
            and not any(self.empty)
            and all(tuple(held.items()) == items for held, items in self.held)
            and all(module.sensitivity == sensitivity for module, sensitivity in self.sensitivities)
        )


class AnyModule(nn.Module):
    """A module whatever its spaces: all but the algebra, which needs to know them. What code that
    treats a network as data works with.
    """

    # so that a NumPy scalar on the left leaves the product to __rmul__
    __array_ufunc__: ClassVar[None] = None
    _declared: Signature = (ANYTHING, ANYTHING)

    if TYPE_CHECKING:
        # torch's takes any arguments, and refuses them when it runs
        def __init__(self) -> None: ...
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
        super().__setattr__(name, typing.cast("Tensor", value))

    def _check_declaration(self, name: str, value: object) -> None:
        """Refuse a mass or sensitivity that this module cannot have."""
        (check_mass if name == "mass" else check_sensitivity)(self, value)

    @property
    def mass(self) -> float:
        """The share of feature learning that the module takes, m ≥ 0, relative to others: the sum
        over the atoms inside.
        """
        return math.fsum([atom.mass for atom in self._survey().atoms])

    @property
    def sensitivity(self) -> float:
        """s > 0 with ‖∂f·Δx‖ ≤ s·‖Δx‖: how much a change of the input can grow on its way
        through.
        """
        return self._walk("", 1.0, Roster())

    # Types

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
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
        return self.unify(ANYTHING, ANYTHING)[0]

    @property
    def codomain(self) -> AnySpace:
        """The space of the output, with its width if that is known."""
        return self.unify(ANYTHING, ANYTHING)[1]

    @overload
    def tare(self, mass: float = 1.0, at: str = "") -> Self: ...
    @overload
    def tare(self, mass: Mapping[str, float]) -> Self: ...
    def tare(self, mass: float | Mapping[str, float] = 1.0, at: str = "") -> Self:
        """Rescale the masses of the atoms inside, in place: so that all of them sum to `mass`, or
        those of single parts.

        Inside a part the proportions stay. Outside the parts that are named masses stay as they
        are, so that the total becomes the new sum. Updates depend on ratios alone; to have a
        certain total too, tare the whole afterwards.

        Args:
            mass: the new mass of the part, ≥ 0, or of several, as {part: mass}. With 0 a part is no
                longer trained, and its inner proportions are lost.
            at: the part, by its path ("2.0", the places that the tree shows) or by the name of a
                class ("Attention"), which stands for all the modules of that class together; empty
                for the whole.

        Returns:
            The module itself.

        Raises:
            ValueError: a negative or non-finite mass, or a positive one for a part that has mass 0;
                a part that is not there; an atom that is in two of the parts. Nothing is changed
                then.

        Example:
            >>> from modula import GPT
            >>> model = GPT(65, d_embed=32, num_heads=4, num_blocks=2)
            >>> model.tare({"Attention": 4.0, "FeedForward": 4.0, "0": 1.0, "4": 0.5}).mass
            9.5
        """
        if isinstance(mass, Mapping) and at:
            raise TypeError(
                f"tare takes the parts in a mapping, as in {{{at!r}: 1.0}}, or one part as "
                f"at={at!r}; got both"
            )
        masses = mass if isinstance(mass, Mapping) else {at: mass}
        parts = {part: self._atoms_of(part) for part in masses}
        refuse_overlap(self, parts)
        factors = {
            part: _factor(
                f"{part!r} in {self!r}" if part else repr(self), parts[part], masses[part]
            )
            for part in masses
        }
        for part, atoms in parts.items():
            for atom in atoms:
                atom.mass = atom.mass * factors[part]
        return self

    def _atoms_of(self, part: str) -> list[HasWeight]:
        """The atoms of the module at the path `part`, or of all the modules of the class with that
        name.
        """
        named = {
            path: module for path, module in self.named_modules() if isinstance(module, AnyModule)
        }
        chosen = (
            [named[part]]
            if part in named
            else [module for module in named.values() if type(module).__name__ == part]
        )
        if not chosen:
            classes = ", ".join(
                sorted(
                    {type(module).__name__ for module in named.values() if module._survey().atoms}
                )
            )
            raise ValueError(
                f"there is no part {part!r} in {self!r}: give a path that its tree shows, such as "
                f"'0', or a class: {classes}"
            )
        return list(
            {id(atom): atom for module in chosen for atom in module._survey().atoms}.values()
        )

    # Weights and duality

    @property
    def weights(self) -> Weights:
        """A live view of all weights: `model.weights -= update` writes the parameters in place."""
        roster = self._roster()
        return Weights._of(tuple(roster.names), [atom.weight for atom in roster.atoms])

    @weights.setter
    def weights(self, value: Weights) -> None:
        if not isinstance(value, Weights):
            raise TypeError(
                f"model.weights takes Weights, got {type(value).__name__}: to move the weights "
                "write model.weights -= update"
            )
        live = self.weights
        if any(
            old is not new for old, new in zip(live.tensors, value.tensors, strict=False)
        ) or len(live) != len(value):
            live.copy_(value)

    def gradient(self, loss: Tensor | None = None) -> Gradient:
        """The gradient of `loss`, or what `loss.backward()` has left in the parameters' `.grad`.

        Args:
            loss: a scalar computed from this model's output. None collects `.grad`, without a copy:
                the gradient is a live view.

        Returns:
            One tensor a parameter. Weights that are frozen (`requires_grad=False`), or that the
            loss does not depend on, have a zero gradient.

        Raises:
            ValueError: the loss is no scalar, or depends on none of the weights; or no loss is
                given and a `.grad` is missing.
            TypeError: a `.grad` is not of floating-point dtype.
            RuntimeError: a loss is given and the model is under `fully_shard`, which sums gradients
                over processes in `backward()`.
        """
        weights = self.weights
        grads = self._collected(weights) if loss is None else self._derivative(weights, loss)
        filled = [
            torch.zeros_like(w) if g is None else g.detach()
            for w, g in zip(weights.tensors, grads, strict=True)
        ]
        for name, g in zip(weights.names, filled, strict=True):
            if not g.is_floating_point():
                raise TypeError(
                    f"the gradient of {name!r} in {self!r} is of dtype {g.dtype}; gradients are "
                    "floating-point tensors"
                )
        return Gradient._of(weights.names, filled)

    def _collected(self, weights: Weights) -> list[Tensor | None]:
        missing = [name for name, w in weights.items() if w.requires_grad and w.grad is None]
        if missing:
            shown = ", ".join(map(repr, missing[:4])) + (
                f" and {len(missing) - 4} more" if len(missing) > 4 else ""
            )
            raise ValueError(
                f"no .grad in {shown} of {self!r}: call loss.backward() first, or pass the loss, "
                "as in model.gradient(loss)"
            )
        return [w.grad for w in weights.tensors]

    def _derivative(self, weights: Weights, loss: Tensor) -> Sequence[Tensor | None]:
        if loss.dim() != 0:
            raise ValueError(
                f"a gradient is taken of a scalar loss, got one of shape {list(loss.shape)}: "
                "reduce it, as in loss.mean()"
            )
        refuse_fully_sharded(self)
        trained = [w for w in weights.tensors if w.requires_grad]
        grads = (
            torch.autograd.grad(loss, trained, allow_unused=True)
            if loss.requires_grad and trained
            else [None] * len(trained)
        )
        if all(g is None for g in grads):
            raise ValueError(
                f"the loss depends on no weight of {self!r}: compute it from this model's output, "
                "outside torch.no_grad(), with weights that require gradients"
            )
        found = iter(grads)
        return [next(found) if w.requires_grad else None for w in weights.tensors]

    @torch.no_grad()
    def dualize(
        self, grad: Gradient, target_norm: Scalar = 1.0, *, method: MethodLike | None = None
    ) -> Update:
        """The update of norm `target_norm` along which `grad` says the loss rises fastest; subtract
        it to descend.

        Args:
            grad: the gradient of this model, as `model.gradient` returns it.
            target_norm: the norm of the update, a number or a scalar tensor (which a compiled step
                takes without compiling anew).
            method: how matrices are orthogonalised, one of `modula.polar`'s; None is its default.

        Returns:
            target_norm · argmax over ‖t‖ = 1 of <grad, t>. Parts with zero gradient or zero mass
            are zero.

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
            _refuse_vector(
                self, "norm", "an Update (a gradient is measured by model.dual_norm)", update
            )
        return self._plan().norm(update)

    @torch.no_grad()
    def dual_norm(self, grad: Gradient) -> Tensor:
        """max over ‖t‖ = 1 of <grad, t>, as a scalar tensor: how fast the loss can fall to first
        order in one unit of norm.

        Raises:
            TypeError: `grad` is no Gradient.
            LayoutError: `grad` belongs to another model.
        """
        if not isinstance(grad, Gradient):
            _refuse_vector(
                self, "dual_norm", "a Gradient (an update is measured by model.norm)", grad
            )
        return self._plan().dual_norm(grad)

    @torch.no_grad()
    def normalize(self, update: Update, target_norm: Scalar = 1.0) -> Update:
        """Rescale every atom's part to its full share of `target_norm`, keeping its direction.

        This is the normalisation of Large et al. 2024 (arXiv:2405.14813), algorithm 1, for any
        direction, such as Adam's. Parts that are zero stay zero.

        Raises:
            TypeError: `update` is no Update.
            LayoutError: `update` belongs to another model.
        """
        if not isinstance(update, Update):
            _refuse_vector(
                self,
                "normalize",
                "an Update (a gradient is mapped to one by model.dualize)",
                update,
            )
        return self._plan().normalize(update, target_norm)

    @torch.no_grad()
    def project(self) -> None:
        """Move every weight to its natural constraint set: semi-orthogonal matrices, unit rows,
        biases and gains within the unit ball.
        """
        weights = self.weights
        weights.copy_(Weights._of(weights.names, self._plan().project(weights.tensors)))

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew, each of norm 1 (biases are zero).

        Construction has done it already, except on the meta device: there do it after `to_empty`.

        Args:
            generator: where random numbers come from; they are drawn on its device, by default on
                that of each weight.
        """
        for atom in self._survey().atoms:
            atom.initialize_weight(generator)

    def _plan(self) -> Plan:
        roster = self._roster()
        masses = [atom.mass for atom in roster.atoms]
        total = math.fsum(masses)
        shares = [m / total if total else 0.0 for m in masses]
        return Plan(
            names=roster.names,
            weights=[atom.weight for atom in roster.atoms],
            geometries=[atom.geometry for atom in roster.atoms],
            shares=shares,
            coefficients=[share / S for share, S in zip(shares, roster.downstream, strict=True)],
            owner=self.__repr__,
        )

    # The tree

    def _roster(self) -> Roster:
        """All atoms in parameter order. A compound remembers them."""
        return self._survey()

    def _survey(self) -> Roster:
        """All atoms in parameter order, from a walk through the tree."""
        roster = Roster()
        self._walk("", 1.0, roster)
        for entries in (roster.names, roster.atoms, roster.downstream):
            entries.reverse()
        refuse_repeated(roster.atoms)
        return roster

    def _walk(self, prefix: str, downstream: float, roster: Roster) -> float:
        """Enter every atom inside, the last in parameter order first, and return the
        sensitivity.
        """
        raise NotImplementedError(
            f"{type(self).__name__} is neither an Atom nor a Bond nor a compound: subclass one of "
            "these"
        )

    def _links(self) -> list[AnyModule]:
        """The modules that a composition with this one strings together, in flow order."""
        return [self]

    def _node(self, place: str, signature: Signature) -> Node:
        """This module and what is below it, for print(model)."""
        return Node(place, repr(self), arrow(signature), self.mass, self.sensitivity, None)

    def extra_repr(self) -> str:
        """The arguments as written, for errors and the tree."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def __str__(self) -> str:
        return render(self._node("", self.unify(ANYTHING, ANYTHING)))


def _refuse_vector(model: AnyModule, operation: str, wanted: str, got: object) -> NoReturn:
    raise TypeError(f"{operation} of {model!r} takes {wanted}; got {type(got).__name__}")


def _factor(name: str, atoms: Sequence[HasWeight], mass: float) -> float:
    """What the masses of `atoms` are multiplied by to sum to `mass`."""
    check_mass(name, mass)
    total = math.fsum([atom.mass for atom in atoms])
    if total == 0 and mass != 0:
        raise ValueError(
            f"{name} has mass 0, so there is nothing to scale to {mass}: set the mass of its atoms "
            "instead"
        )
    return mass / total if total else 1.0


def refuse_overlap(model: AnyModule, parts: Mapping[str, Sequence[HasWeight]]) -> None:
    """Refuse parts that share an atom, whose mass would be asked to be two things at once."""
    owner: dict[int, str] = {}
    for part, atoms in parts.items():
        for atom in atoms:
            other = owner.setdefault(id(atom), part)
            if other != part:
                raise ValueError(
                    f"{other!r} and {part!r} in {model!r} share {atom!r}: tare the outer part "
                    "first and the inner one after it"
                )


def refuse_repeated(atoms: Sequence[HasWeight]) -> None:
    """Refuse a network in which an atom stands twice."""
    if len(set(map(id, atoms))) == len(atoms):
        return
    repeated = next(
        atom for i, atom in enumerate(atoms) if any(atom is other for other in atoms[:i])
    )
    raise ValueError(
        f"{repeated!r} stands twice in one network, and no duality map is known for weights that "
        "are shared: use copy.deepcopy for a second one, or module ** n for n fresh copies"
    )


def arrow(signature: Signature) -> str:
    """The two ends as written in errors and in the tree."""
    return f"{signature[0]} → {signature[1]}"
