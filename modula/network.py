"""`Network`: weights, gradients, duality and masses of a network, from its graph of operations.

A subclass provides the graph, the activations of a run, and the torch module with the parameters;
the algebra (`modula.algebra`) is one. Optimizers, checkpoints and instruments depend on `Network`
alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Self, TypeAlias, overload

import torch
from torch import Tensor, nn

from modula.arithmetic import as_written
from modula.checks import LARGEST, check_mass, listed, mass_shares, total_mass
from modula.errors import ParameterError
from modula.graph import Graph, Operation, Radius, Weight
from modula.plan import Plan
from modula.polar import MethodLike
from modula.sharding import refuse_fully_sharded
from modula.spaces import AnySpace, Signature
from modula.values import Value
from modula.vector import (
    TRAINABLE,
    Gradient,
    Scalar,
    Update,
    Weights,
    check_kind,
    dense,
    is_trainable,
    kind_of,
)

SMALLEST = torch.finfo(torch.float32).tiny
"""The smallest coefficient, since updates are computed in float32."""

PartialMap: TypeAlias = Callable[[Mapping[str, Tensor], Value], Value]
"""The map of a part of a network, as a function of some of its weights, by name, and its input."""


@dataclass(frozen=True)
class Observation:
    """One part of a network with its input and output in one run.

    Args:
        path: of the part, as in `model.get_submodule`; empty for the whole.
        label: the part as an expression.
        domain, codomain: the spaces of its input and output in the network.
        x, y: its input and output, detached.
        part: the part as a network of its own, whose weights are named relative to `path`.
        operation: the constants of a single operation; None for a part of several.
        weight: the name, in the whole network, of the weight that a single operation uses.
        apply: the map of the part, for Jacobian products.
    """

    path: str
    label: str
    domain: AnySpace
    codomain: AnySpace
    x: Value
    y: Value
    part: Network
    operation: Operation | None
    weight: str | None
    apply: PartialMap

    @property
    def signature(self) -> Signature:
        """The spaces of input and output."""
        return self.domain, self.codomain


class Network(ABC):
    """The base class of all networks whose weights have masses and norms.

    Code that treats a network as data should accept this class, as the optimizer, checkpoints and
    instruments do. `Module` is a subclass, whose graph follows from the algebra.

    Example:
        >>> from modula import Linear, Network, ReLU
        >>> def describe_masses(network: Network) -> dict[str, float]:
        ...     return {name: w.mass for name, w in network.graph().weights.items()}
        >>> describe_masses(Linear(2, 4) @ ReLU() @ Linear(4, 8, mass=3))
        {'0.weight': 3, '2.weight': 1.0}
    """

    @abstractmethod
    def graph(self) -> Graph:
        """Return the graph of operations. Its structure may be cached, its numbers may not.

        Raises:
            ParameterError: a parameter of the module requires a gradient and is not a weight of the
                graph, or operations share it under norms without a common duality map.
        """

    @abstractmethod
    def observe(self, *inputs: Value) -> list[Observation]:
        """Run the network once, and return the input and output of each of its parts.

        Args:
            inputs: of the network.

        Returns:
            The whole network first, then its parts in the order in which they are entered.
        """

    @abstractmethod
    def describe(self) -> Mapping[str, str]:
        """Return a description of each module, by path, for errors and checkpoints."""

    def measurements(self) -> Mapping[str, object]:
        """Return the numbers that the network has measured, as plain data, for checkpoints.

        Empty for a network all of whose numbers are declared.
        """
        return {}

    def restore_measurements(self, measurements: Mapping[str, object]) -> None:
        """Take over what `measurements` returned for the same network, measured elsewhere.

        Raises:
            ValueError: they are of another network. Nothing is changed then.
        """
        if measurements:
            raise ValueError(f"{self!r} has no measurements: all of its numbers are declared")

    @property
    @abstractmethod
    def torch_module(self) -> nn.Module:
        """The torch module whose parameters are the weights."""

    @property
    def mass(self) -> float:
        """The mass m ≥ 0 of the network: the sum over its weights, each counted once."""
        return total_mass([weight.mass for weight in self.graph().weights.values()])

    @property
    def sensitivity(self) -> float:
        """s > 0 with ‖∂f·Δx‖ ≤ s·‖Δx‖, a bound on how much the network stretches a change."""
        return self.graph().sensitivities()[0]

    def plan(self) -> Plan:
        """Return the duality map of the whole network, by weight and coefficient.

        Raises:
            ValueError: a coefficient leaves the range of float32.
        """
        graph = self.graph()
        fractions = graph.mass_fractions()
        reach = self.weight_sensitivities()
        coefficients = [
            p / reach[name] if p else 0.0 for name, p in zip(graph.weights, fractions, strict=True)
        ]
        tensors = [weight.tensor for weight in graph.weights.values()]
        # `.to(dtype)` changes weights of a graph that was checked when it was made
        if not torch.compiler.is_compiling() and not {w.dtype for w in tensors} <= TRAINABLE:
            check_kinds(self, graph.weights, tensors)
        masses = [weight.mass for weight in graph.weights.values()]
        trained = [c for c, mass in zip(coefficients, masses, strict=True) if mass]
        if trained and not SMALLEST <= min(trained) <= max(trained) <= LARGEST:
            _refuse_coefficients(self, coefficients)
        return Plan(
            names=tuple(graph.weights),
            weights=tensors,
            geometries=[weight.geometry for weight in graph.weights.values()],
            mass_fractions=fractions,
            coefficients=coefficients,
            owner=self.__repr__,
        )

    def weight_sensitivities(self) -> Mapping[str, float]:
        """Return S for each weight, with ‖∂f·Δw‖ ≤ S·‖Δw‖; coefficients are m_i/Σm over S."""
        return self.graph().weight_sensitivities()

    @overload
    def tare(self, mass: float = 1.0, at: str = "") -> Self: ...
    @overload
    def tare(self, mass: Mapping[str, float]) -> Self: ...
    def tare(self, mass: float | Mapping[str, float] = 1.0, at: str = "") -> Self:
        """Rescale masses in place, of the whole network or of single parts.

        The ratios of masses inside a part do not change, and neither do masses outside of the parts
        that are named. Updates depend on ratios alone; to set the total too, tare the whole
        afterwards.

        Args:
            mass: the new mass of the part, ≥ 0, or of several, as {part: mass}. A part of mass 0 is
                not trained, and the ratios inside it are lost.
            at: the part, by its path ("2.0", as the printed tree shows it) or by the name of a
                class ("Attention"), which stands for all modules of that class together; empty for
                the whole.

        Returns:
            The network itself.

        Raises:
            ValueError: a negative or non-finite mass, or a positive one for a part that has mass 0;
                a part that the network does not have; a weight that is in two of the parts. No mass
                is changed then.

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
        graph = self.graph()
        parts = {part: self._weights_in(part, graph) for part in masses}
        _refuse_overlap(self, parts)
        scaled = {
            part: _scaled_masses(
                f"{part!r} in {self!r}" if part else repr(self), list(names.values()), masses[part]
            )
            for part, names in parts.items()
        }
        for part, weights in parts.items():
            for weight, new in zip(weights.values(), scaled[part], strict=True):
                weight.mass = new
        return self

    def _weights_in(self, part: str, graph: Graph) -> dict[str, Weight]:
        """The weights that the module at path `part`, or the modules of that class, use."""
        named = {path: type(module).__name__ for path, module in self.torch_module.named_modules()}
        chosen = [part] if part in named else [path for path, kind in named.items() if kind == part]
        inside = {
            name: graph.weights[name]
            for i, name in graph.uses()
            if any(is_inside(graph.nodes[i].path, path) for path in chosen)
        }
        if not inside and not chosen:
            uses = [graph.nodes[i].path for i, _ in graph.uses()]
            classes = sorted(
                {kind for path, kind in named.items() if any(is_inside(use, path) for use in uses)}
            )
            raise ValueError(
                f"there is no part {part!r} in {self!r}: give a path that its tree shows, such as "
                f"'0', or a class: {', '.join(classes)}"
            )
        return inside

    @property
    def weights(self) -> Weights:
        """A live view of all weights: `model.weights -= update` writes the parameters in place."""
        weights = self.graph().weights
        return Weights.from_tensors(tuple(weights), [weight.tensor for weight in weights.values()])

    @weights.setter
    def weights(self, value: Weights) -> None:
        if not isinstance(value, Weights):
            raise TypeError(
                f"model.weights takes Weights, got {type(value).__name__}: to move the weights "
                "write model.weights -= update"
            )
        live = self.weights
        if len(live) != len(value) or any(
            old is not new for old, new in zip(live.tensors, value.tensors, strict=True)
        ):
            live.copy_(value)

    def gradient(self, loss: Tensor | None = None, *, retain_graph: bool | None = None) -> Gradient:
        """Return the gradient of `loss`, or the one that `loss.backward()` left in `.grad`.

        Args:
            loss: a scalar computed from this network's output. None collects `.grad`, without a
                copy: the gradient is a live view, except of sparse gradients, which become dense.
            retain_graph: keep the graph of the loss, to differentiate it again.

        Returns:
            One tensor for each weight. Weights that are frozen (`requires_grad=False`), or that the
            loss does not depend on, have a zero gradient.

        Raises:
            ValueError: the loss is not a scalar, or depends on none of the weights; or no loss is
                given and a `.grad` is missing.
            TypeError: the loss is not a tensor, or a `.grad` is not a dense or sparse (COO) tensor
                of floating-point numbers.
            RuntimeError: a loss is given, and the network is under `fully_shard`, which sums
                gradients over processes in `backward()`, or a part of it was computed in a
                reentrant checkpoint, through which only `backward()` reaches its weights.
        """
        weights = self.weights
        if loss is None:
            if retain_graph is not None:
                raise ValueError(
                    "retain_graph goes with a loss, as in model.gradient(loss, retain_graph=True); "
                    "without one model.gradient() collects what backward() left in .grad"
                )
            grads: Sequence[Tensor | None] = self._collected(weights)
        else:
            grads = self._derivative(weights, loss, retain_graph)
        filled = [
            torch.zeros_like(w) if g is None else dense(g.detach())
            for w, g in zip(weights.tensors, grads, strict=True)
        ]
        for name, g in zip(weights.names, filled, strict=True):
            if not is_trainable(g):
                check_kind(f"the gradient of {self!r}", name, g)
        return Gradient.from_tensors(weights.names, filled)

    def _collected(self, weights: Weights) -> list[Tensor | None]:
        missing = [name for name, w in weights.items() if w.requires_grad and w.grad is None]
        if missing:
            raise ValueError(
                f"no .grad in {listed(missing)} of {self!r}: call loss.backward() first, or pass "
                "the loss, as in model.gradient(loss)"
            )
        return [w.grad for w in weights.tensors]

    def _derivative(
        self, weights: Weights, loss: Tensor, retain_graph: bool | None
    ) -> Sequence[Tensor | None]:
        if not isinstance(loss, Tensor):
            raise TypeError(
                f"a gradient is taken of a scalar tensor, got {type(loss).__name__}: compute the "
                "loss from the output of this model"
            )
        if loss.dim() != 0:
            raise ValueError(
                f"a gradient is taken of a scalar loss, got one of shape {list(loss.shape)}: "
                "reduce it, as in loss.mean()"
            )
        refuse_fully_sharded(self.torch_module)
        trained = [w for w in weights.tensors if w.requires_grad]
        grads: Sequence[Tensor | None] = [None] * len(trained)
        if loss.requires_grad and trained:
            grads = torch.autograd.grad(loss, trained, retain_graph=retain_graph, allow_unused=True)
            if any(g is None for g in grads):
                _refuse_reentrant_checkpoints(loss)
        if all(g is None for g in grads):
            raise ValueError(
                f"the loss depends on no weight of {self!r}: compute it from this model's output, "
                "outside torch.no_grad(), with weights that require gradients"
            )
        found = iter(grads)
        return [next(found) if w.requires_grad else None for w in weights.tensors]

    @as_written
    def dualize(
        self,
        grad: Gradient,
        target_norm: Scalar = 1.0,
        *,
        method: MethodLike | None = None,
        support: Gradient | None = None,
    ) -> Update:
        """Return the update of norm `target_norm` along which the loss rises fastest.

        Subtract it to descend.

        Args:
            grad: the gradient of this network, as `model.gradient` returns it.
            target_norm: the norm of the update, a number or a scalar tensor. A compiled step is not
                compiled again for another value of a tensor.
            method: the method that orthogonalises matrices, one of `modula.polar`; None takes its
                default.
            support: the step's own gradient where `grad` is an average. An average has a trace of
                every gradient that it took in, and the duality map would give the row of a token
                that no longer occurs its full length for ever. With the gradient of the step, rows,
                experts and other parts that it does not touch come to rest as their averages fall
                below a tenth of the largest, and a weight none of which it touches is left alone.

        Returns:
            target_norm · argmax over ‖t‖ = 1 of <grad, t>. It is zero for weights with zero
            gradient or zero mass.

        Raises:
            TypeError: `grad` or `support` is not a Gradient.
            LayoutError: `grad` or `support` belongs to another network.

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
        if support is not None and not isinstance(support, Gradient):
            _refuse_vector(self, "dualize", "as support the Gradient of one step", support)
        return self.plan().dualize(grad, target_norm, method, support)

    @as_written
    def norm(self, update: Update) -> Tensor:
        """Return the modular norm of an update, as a scalar tensor.

        Raises:
            TypeError: `update` is not an Update.
            LayoutError: `update` belongs to another network.

        Source: Large et al. 2024 (arXiv:2405.14813), definitions 3 and 4.
        """
        if not isinstance(update, Update):
            _refuse_vector(
                self, "norm", "an Update (a gradient is measured by model.dual_norm)", update
            )
        return self.plan().norm(update)

    @as_written
    def dual_norm(self, grad: Gradient) -> Tensor:
        """Return max over ‖t‖ = 1 of <grad, t>, as a scalar tensor.

        To first order, no update of norm 1 lowers the loss by more.

        Raises:
            TypeError: `grad` is not a Gradient.
            LayoutError: `grad` belongs to another network.
        """
        if not isinstance(grad, Gradient):
            _refuse_vector(
                self, "dual_norm", "a Gradient (an update is measured by model.norm)", grad
            )
        return self.plan().dual_norm(grad)

    @as_written
    def normalize(self, update: Update, target_norm: Scalar = 1.0) -> Update:
        """Return the update with each tensor rescaled to norm target_norm · c_i.

        c_i is the coefficient of the weight. This is the normalisation of Large et al. 2024
        (arXiv:2405.14813), for any direction, such as Adam's. The rows of a table and the taps of a
        kernel keep their shares, where the authors' package rescales each. Zero stays zero.

        Raises:
            TypeError: `update` is not an Update.
            LayoutError: `update` belongs to another network.
        """
        if not isinstance(update, Update):
            _refuse_vector(
                self,
                "normalize",
                "an Update (a gradient is mapped to one by model.dualize)",
                update,
            )
        return self.plan().normalize(update, target_norm)

    @as_written
    def project(self) -> None:
        """Project each weight onto its natural constraint set, in place.

        The sets are the semi-orthogonal matrices, the tables with rows of norm 1, and for biases
        and gains the unit ball.
        """
        weights = self.weights
        projected = self.plan().project(weights.tensors)
        weights.copy_(Weights.from_tensors(weights.names, projected))

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Fill all weights with random values of norm 1, and biases with zeros.

        Constructors do so too, except on the meta device: call it there after `to_empty`.

        Args:
            generator: of the random numbers, which are drawn on its device; None takes the default
                generator of each weight's device.

        Raises:
            TypeError: the generator is of another kind, such as a seed.
        """
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(
                f"generator is a torch.Generator or None, got {type(generator).__name__}: write "
                "torch.Generator().manual_seed(0)"
            )
        for weight in self.graph().weights.values():
            weight.initialize_weight(generator)

    def input_radius(self) -> Radius:
        """Return the bound on the input's norm that the theory assumes: 1 for each tensor."""
        return 1.0

    def first_order_bound(self, entering: Radius | None = None) -> float:
        """Return b = Σ p_i·R_i, with ‖∂f·Δw‖ ≤ b·‖Δw‖ for weights of norm at most 1.

        p_i is the mass fraction of a weight and R_i the radius of the input of its atom (for a
        weight with several uses, the mean of their radii weighted by S). If every R_i is at most 1,
        which is the hypothesis of the papers, then b ≤ 1 and the network is well-normed.

        Args:
            entering: a bound on the norm of the input; None takes `input_radius()`.

        Example:
            >>> from modula import Identity, Linear
            >>> (Linear(2, 2) @ (Identity() + Linear(2, 2))).first_order_bound()
            1.5
        """
        graph = self.graph()
        radii = graph.radii(self.input_radius() if entering is None else entering)
        reach = graph.weight_sensitivities(radii)
        plan = self.plan()
        coefficients = dict(zip(plan.names, plan.coefficients, strict=True))
        return math.fsum([c * reach[name] for name, c in coefficients.items()])


def is_inside(path: str, outer: str) -> bool:
    """Return whether `path` is `outer` or a path inside it."""
    return not outer or path == outer or path.startswith((f"{outer}.", f"{outer}/"))


def weight_name(path: str) -> str:
    """Return the name of the weight of the atom at `path`, as in `named_parameters`."""
    return f"{path}.weight" if path else "weight"


def check_parameters(network: Network, graph: Graph) -> list[nn.Parameter]:
    """Return the parameters of the network's module that are not weights, all of which are frozen.

    Raises:
        ParameterError: one of them requires a gradient, or a weight is not a parameter, or is of a
            dtype or layout that has no duality map.
    """
    named = dict(network.torch_module.named_parameters())
    for name in graph.weights:
        if name not in named:
            inside = [other for other in named if is_inside(other, name.rpartition(".")[0])]
            raise ParameterError(
                f"{name!r} of {network!r} is not a Parameter but computed from "
                f"{listed(inside)}: {_way_out('parametrizations.')}"
            )
    check_kinds(network, graph.weights, [named[name] for name in graph.weights])
    others = {name: p for name, p in named.items() if name not in graph.weights}
    untrained = [name for name, p in others.items() if p.requires_grad]
    if untrained:
        raise ParameterError(
            f"no duality map reaches {listed(untrained)} of {network!r}, and it requires a "
            f"gradient: {_way_out(untrained[0])}"
        )
    return list(others.values())


def check_kinds(network: Network, names: Iterable[str], weights: Sequence[Tensor]) -> None:
    """Raise if a weight is not a dense tensor of floating-point numbers of 16 bits or more.

    Raises:
        ParameterError: names the first such weight, and its kind.
    """
    for name, w in zip(names, weights, strict=True):
        owner = f"{name!r} of {type(network).__name__}"  # whose repr may ask a weight for its shape
        if not is_trainable(w):
            dtypes = ", ".join(sorted(map(str, TRAINABLE)))
            raise ParameterError(
                f"{owner} is {kind_of(w)[0]}; a weight is trained as a dense tensor (torch.strided)"
                f" of dtype {dtypes}: convert it, and compute a copy of another kind, such as a "
                "quantised one, in the forward map"
            )
        if w.is_neg() or any(
            n > 1 and not step for n, step in zip(w.shape, w.stride(), strict=True)
        ):
            raise ParameterError(
                f"{owner} is a view whose entries share memory or are negated when read, which "
                "cannot be written in place: take its .clone()"
            )


def _way_out(name: str) -> str:
    if ".parametrizations." in f".{name}":
        return (
            "no norm is known for a weight that is computed from others; take the "
            "parametrisation off with torch.nn.utils.parametrize.remove_parametrizations"
        )
    if name.endswith("_orig"):
        return "a pruned weight is not trained; make it permanent with torch.nn.utils.prune.remove"
    return (
        "a weight is trained as the `weight` of an atom, with a norm and a mass; write an Atom for "
        "it, compose it of atoms that exist (a bias is Bias(d) @ …, a gain Gain(d) @ …), or freeze "
        "it with requires_grad_(False)"
    )


def _refuse_coefficients(network: Network, coefficients: Sequence[float]) -> NoReturn:
    """Raise for the first coefficient that float32 cannot represent.

    Raises:
        ValueError: names the weight, its mass fraction and its sensitivity.
    """
    graph, reach = network.graph(), network.weight_sensitivities()
    name, p, c = next(
        (name, p, c)
        for (name, weight), p, c in zip(
            graph.weights.items(), graph.mass_fractions(), coefficients, strict=True
        )
        if weight.mass and not SMALLEST <= c <= LARGEST
    )
    raise ValueError(
        f"{name!r} of {network!r} has the mass fraction {p:.4g}, and the modules after it have the "
        f"sensitivity {reach[name]:.4g}; the ratio {c:.4g}, its coefficient, is out of the range "
        "of float32: bring the sensitivities closer to 1, with residual averages or multiples of "
        "modules"
    )


def _refuse_reentrant_checkpoints(loss: Tensor) -> None:
    """Raise if the loss depends on an activation that a reentrant checkpoint computed."""
    seen = set()
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name().startswith("CheckpointFunction"):
            raise RuntimeError(
                "a part of the network was computed in a reentrant checkpoint, whose weights only "
                "loss.backward() reaches: call it, and then model.gradient() without the loss, or "
                "checkpoint with use_reentrant=False"
            )
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]


def _refuse_vector(model: Network, operation: str, wanted: str, got: object) -> NoReturn:
    raise TypeError(f"{operation} of {model!r} takes {wanted}; got {type(got).__name__}")


def _scaled_masses(name: str, weights: Sequence[Weight], mass: float) -> list[float]:
    """The masses of `weights`, rescaled to sum to `mass`."""
    check_mass(name, mass)
    masses = [weight.mass for weight in weights]
    total = total_mass(masses)
    if total == 0 and mass != 0:
        raise ValueError(
            f"{name} has mass 0, so there is nothing to scale to {mass}: set the mass of its atoms "
            "instead"
        )
    factor = mass / total if total else 1.0
    if math.isinf(total) or math.isinf(factor):
        return [mass * share for share in mass_shares(masses)]
    return [one * factor for one in masses]


def _refuse_overlap(model: Network, parts: Mapping[str, Mapping[str, Weight]]) -> None:
    """Raise if two parts share a weight, which would get two masses."""
    owner: dict[str, str] = {}
    for part, weights in parts.items():
        for name, weight in weights.items():
            other = owner.setdefault(name, part)
            if other != part:
                raise ValueError(
                    f"{other!r} and {part!r} in {model!r} share {weight!r}: tare the outer part "
                    "first and the inner one after it"
                )
