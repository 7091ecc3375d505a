"""The derivative of a part of a network as a linear map, and the search for its largest gain.

The largest gain max ‖Jv‖ / ‖v‖ is found by the power method for two norms (Boyd 1974, *The power
method for lᵖ norms*): a direction is pushed through J, the functional that attains the norm of the
result is pulled back through Jᵀ, and the duality map of the domain turns it into the next
direction. With ℓ2 on both sides this is power iteration on JᵀJ. No round loses gain, and every gain
on the way is attained by a direction, so that the result is a lower bound. Where the unit ball of
the domain, or of the functionals on the codomain, has few vertices, all of them are tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor
from torch.func import jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from modula.instruments.vertices import dual_space, largest_at_vertices
from modula.network import Observation
from modula.norms import Dense
from modula.scaling import working_dtype
from modula.spaces import AnySpace, Product, Space, measure
from modula.values import Value, leaves, map_leaves, rebuild
from modula.vector import Gradient, Update

V = TypeVar("V")
G = TypeVar("G")

STALLED = 1e-9
"""A round that raises the gain by less than this fraction has converged."""

TARGETS = 3
"""How many single vectors of the output a search starts from."""


@dataclass(frozen=True)
class Derivative(Generic[V, G]):
    """A linear map from directions of type `V` to changes of an activation.

    Functionals on the directions are of type `G`.
    """

    push: Callable[[V], Value]
    """v ↦ Jv."""

    pull: Callable[[Value], G]
    """u ↦ Jᵀu."""

    norm: Callable[[V], Tensor]
    steepest: Callable[[G], V]
    """The direction of norm 1 that pairs best with a functional."""

    codomain: AnySpace

    def gain(self, direction: V) -> float:
        """Return ‖Jv‖ / ‖v‖."""
        return self._gain(direction, self.push(direction))

    def worst(self, starts: Iterable[V], targets: Iterable[Value], steps: int) -> float:
        """Return the largest gain that is found.

        From each start the climb first raises every vector of the output at once, so that maps
        which act vector by vector are searched in all their vectors together, and then the largest
        one alone, whose norm is that of the output. It also begins at the directions that raise
        each target most, since every vector may have a maximum of its own.

        Args:
            starts: directions.
            targets: functionals on single vectors of the output.
            steps: rounds of each climb, at most.
        """
        climbs = [
            self._climbed(start, (_raising_every_vector, _raising_the_norm), steps)
            for start in starts
        ]
        climbs += [
            self._climbed(self.steepest(self.pull(target)), (_raising_the_norm,), steps)
            for target in targets
        ]
        return largest(climbs)

    def _climbed(
        self, start: V, functionals: Iterable[Callable[[AnySpace, Value], Value]], steps: int
    ) -> float:
        best, found = 0.0, start
        for functional in functionals:
            direction, stalled = found, 0
            for _ in range(steps):
                change = self.push(direction)
                gain = self._gain(direction, change)
                if not math.isfinite(gain):
                    return gain
                stalled = 0 if gain > best * (1 + STALLED) else stalled + 1
                if gain > best:
                    best, found = gain, direction
                if stalled == 2:
                    break
                direction = self.steepest(self.pull(functional(self.codomain, change)))
        return best

    def _gain(self, direction: V, change: Value) -> float:
        size = float(self.norm(direction))
        return float(measure(self.codomain, change)) / size if size else 0.0


def worst_in_value(
    derivative: Derivative[Value, Value],
    domain: AnySpace,
    x: Value,
    y: Value,
    steps: int,
    generator: torch.Generator,
) -> float:
    """Return the largest gain that is found for a map of activations.

    Args:
        derivative: of the map.
        domain: the space of its input.
        x, y: input and output where the derivative was taken.
        steps: rounds of each climb, at most.
        generator: of the random numbers.
    """
    return largest(
        [
            derivative.worst(
                starts(domain, x, generator), targets(derivative.codomain, y, generator), steps
            ),
            largest_at_vertices(domain, x, derivative.gain, generator),
            _worst_towards_vertices(derivative, y, generator),
        ]
    )


def worst_in_update(
    derivative: Derivative[Update, Gradient],
    start: Update,
    y: Value,
    steps: int,
    generator: torch.Generator,
) -> float:
    """Return the largest gain that is found for a map of updates of the weights.

    Args:
        derivative: of the map.
        start: of the first climb.
        y: the output where the derivative was taken.
        steps: rounds of each climb, at most.
        generator: of the random numbers.
    """
    found = derivative.worst([start], targets(derivative.codomain, y, generator), steps)
    return largest([found, _worst_towards_vertices(derivative, y, generator)])


def _worst_towards_vertices(
    derivative: Derivative[V, G], y: Value, generator: torch.Generator
) -> float:
    """The largest gain of the directions that raise one functional on the output most.

    The functionals are vertices of the unit ball of the dual of the codomain.
    """

    def raised(functional: Value) -> float:
        return derivative.gain(derivative.steepest(derivative.pull(functional)))

    return largest_at_vertices(dual_space(derivative.codomain), y, raised, generator)


def on_real_vectors(part: Observation) -> Observation:
    """Return the part as a map between the real vectors of its input and its output.

    Ids and masks have no directions. In tuples with real vectors beside them, those of the input
    are held fixed and those of the output left out.
    """
    entering, leaving = _real_entries(part.domain, part.x), _real_entries(part.codomain, part.y)
    domain, x = entering or (part.domain, part.x)
    codomain, y = leaving or (part.codomain, part.y)

    def apply(weights: Mapping[str, Tensor], value: Value) -> Value:
        given = _with_entries(part.x, leaves(value)) if entering else value
        found = part.apply(weights, given)
        kept = _real_entries(part.codomain, found)
        return kept[1] if kept else found

    return replace(part, domain=domain, codomain=codomain, x=x, y=y, apply=apply)


def _real_entries(space: AnySpace, value: Value) -> tuple[AnySpace, Value] | None:
    """The value without its ids and masks, and its space; None if nothing is left."""
    if isinstance(space, Product) and isinstance(value, tuple):
        parts = zip(space.parts, value, strict=True)
        kept = [found for each in parts if (found := _real_entries(*each)) is not None]
        spaces, values = [s for s, _ in kept], [v for _, v in kept]
        return (Product(tuple(spaces)), tuple(values)) if kept else None
    return None if holds_ids(value) else (space, value)


def _with_entries(value: Value, real: Iterator[Tensor]) -> Value:
    """The value with its real vectors replaced by others."""
    return map_leaves(lambda leaf: next(real) if leaf.is_floating_point() else leaf, value)


def in_input(part: Observation) -> Derivative[Value, Value]:
    """Return the derivative of a part in its input, at the activations of a run."""

    def output(x: Value) -> Value:
        return part.apply({}, x)

    pullback = vjp(output, part.x)[1]

    def push(direction: Value) -> Value:
        return cast("Value", jvp(output, (part.x,), (direction,))[1])

    def pull(functional: Value) -> Value:
        return cast("Value", pullback(functional)[0])

    return Derivative(
        push,
        pull,
        lambda v: measure(part.domain, v),
        lambda g: steepest(part.domain, g),
        part.codomain,
    )


def in_weights(part: Observation) -> Derivative[Update, Gradient]:
    """Return the derivative of a part in its weights, at its input, under its modular norm."""
    network = part.part
    weights = {name: weight.detach() for name, weight in network.weights.items()}

    def output(moved: dict[str, Tensor]) -> Value:
        return part.apply(moved, part.x)

    pullback = vjp(output, weights)[1]

    def push(direction: Update) -> Value:
        return cast("Value", jvp(output, (weights,), (dict(direction.items()),))[1])

    def pull(functional: Value) -> Gradient:
        return Gradient(pullback(functional)[0])

    return Derivative(
        push, pull, network.norm, lambda g: network.dualize(g, method="svd"), part.codomain
    )


@contextmanager
def differentiable() -> Iterator[None]:
    """Set up PyTorch for Jacobian products.

    Attention is computed by matrix products, which have a forward derivative; no autograd graph is
    kept, and nothing is compiled.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def steepest(space: AnySpace, g: Value) -> Value:
    """Return the value of norm 1 in `space` that pairs best with the functional g.

    It is every vector's own dual; for a tuple, that of its best part, and zero in the others.
    """
    if isinstance(space, Product) and isinstance(g, tuple):
        parts = [steepest(part, piece) for part, piece in zip(space.parts, g, strict=True)]
        pairings = [_pairing(part, piece) for part, piece in zip(parts, g, strict=True)]
        best = pairings.index(max(pairings))
        return tuple([part if i == best else _zero(part) for i, part in enumerate(parts)])
    norm = _dense(space)
    return norm.dualize(cast("Tensor", g).movedim(norm.axis, -1)).movedim(-1, norm.axis)


def random_direction(space: AnySpace, like: Value, generator: torch.Generator) -> Value:
    """Return a random direction whose vectors all have norm 1; for a tuple, in every part."""
    if isinstance(space, Product) and isinstance(like, tuple):
        return tuple(
            [
                random_direction(part, piece, generator)
                for part, piece in zip(space.parts, like, strict=True)
            ]
        )
    return steepest(space, draw(cast("Tensor", like), generator))


def starts(space: AnySpace, like: Value, generator: torch.Generator) -> list[Value]:
    """Return directions to begin a search from.

    They are a random one and, for a tuple, its parts taken alone.
    """
    everywhere = random_direction(space, like, generator)
    alone = [_alone(everywhere, i) for i in range(len(list(leaves(everywhere))))]
    return [everywhere, *alone] if len(alone) > 1 else [everywhere]


def targets(space: AnySpace, like: Value, generator: torch.Generator) -> list[Value]:
    """Return random functionals, each on a single vector of a value like `like`."""
    return [_on_one_vector(space, like, generator) for _ in range(TARGETS)]


def _on_one_vector(space: AnySpace, like: Value, generator: torch.Generator) -> Value:
    if isinstance(space, Product) and isinstance(like, tuple):
        return tuple(
            [
                _on_one_vector(part, piece, generator)
                for part, piece in zip(space.parts, like, strict=True)
            ]
        )
    axis = _dense(space).axis
    vectors = draw(cast("Tensor", like), generator).movedim(axis, -1)
    count = vectors.shape[:-1].numel()
    chosen = torch.randint(count, (), generator=generator, device=generator.device)
    alone = (torch.arange(count, device=vectors.device) == chosen.to(vectors.device)).view(
        *vectors.shape[:-1], 1
    )
    return torch.where(alone, vectors, 0).movedim(-1, axis)


def draw(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return a tensor like `like` of normal entries, drawn on the generator's device."""
    dtype = working_dtype(like.dtype)
    return torch.randn(like.shape, generator=generator, device=generator.device, dtype=dtype).to(
        like
    )


def own_generator() -> torch.Generator:
    """Return the generator of an instrument that was given none.

    Its numbers are the same each time, and the training run's generator is not touched.
    """
    return torch.Generator().manual_seed(0)


def holds_ids(value: Value) -> bool:
    """Return whether a value has integers in it, which have no directions."""
    return any(not leaf.is_floating_point() for leaf in leaves(value))


def _raising_every_vector(space: AnySpace, change: Value) -> Value:
    """The functionals that attain the norm of each vector by itself."""
    return _slope(lambda y: _sum_of_norms(space, y), change)


def _raising_the_norm(space: AnySpace, change: Value) -> Value:
    """The functional that attains the norm of the whole."""
    return _slope(lambda y: measure(space, y), change)


def _sum_of_norms(space: AnySpace, y: Value) -> Tensor:
    if isinstance(space, Product) and isinstance(y, tuple):
        return torch.stack(
            [_sum_of_norms(part, piece) for part, piece in zip(space.parts, y, strict=True)]
        ).sum()
    norm = _dense(space)
    return norm.norm(cast("Tensor", y).movedim(norm.axis, -1)).sum()


def _slope(size: Callable[[Value], Tensor], change: Value) -> Value:
    """The gradient of a norm."""
    with torch.enable_grad():
        variables = [leaf.detach().requires_grad_() for leaf in leaves(change)]
        slopes = torch.autograd.grad(size(rebuild(change, iter(variables))), variables)
    return rebuild(change, iter(slopes))


def _dense(space: AnySpace) -> type[Dense]:
    if isinstance(space, Space) and issubclass(space.norm, Dense):
        return space.norm
    raise TypeError(f"there are no directions in {space}")


def _zero(value: Value) -> Value:
    return rebuild(value, iter([torch.zeros_like(leaf) for leaf in leaves(value)]))


def _alone(value: Value, chosen: int) -> Value:
    return rebuild(
        value,
        iter(
            [
                leaf if i == chosen else torch.zeros_like(leaf)
                for i, leaf in enumerate(leaves(value))
            ]
        ),
    )


def _pairing(one: Value, other: Value) -> float:
    return sum([float((a * b).sum()) for a, b in zip(leaves(one), leaves(other), strict=True)])


def largest(gains: Sequence[float]) -> float:
    """Return the largest, or one that is not finite if there is any."""
    return next((gain for gain in gains if not math.isfinite(gain)), max(gains))
