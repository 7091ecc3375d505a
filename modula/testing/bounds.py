"""Attacks on the bounds that a single operation declares, by directions and by ascent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modula.graph import Radius, total_radius
from modula.instruments.derivative import (
    holds_ids,
    in_input,
    largest,
    on_real_vectors,
    random_direction,
    steepest,
    worst_in_value,
)
from modula.instruments.observing import measured_radius
from modula.network import Observation
from modula.spaces import AnySpace, Product, measure
from modula.testing.laws import EXACT, require
from modula.values import Value, leaves, map_leaves, rebuild, zip_leaves


@dataclass(frozen=True)
class Ratios:
    """The largest ratios to their bounds that a check has found.

    A ratio near 1 says that the bound is attained. Small ratios say that it is not tight: updates
    will be smaller than they could be.

    Args:
        input: ‖∂f·Δx‖ over s·‖Δx‖; None for integer inputs, which have no directions.
        weights: ‖∂f·Δw‖ over r·‖Δw‖, where r is the part's `weight_sensitivity`; None without a
            weight.
        radius: ‖f(x)‖ over the part's `radius`.
    """

    input: float | None
    weights: float | None
    radius: float


def attack(
    part: Observation, entering: Radius, steps: int, rng: torch.Generator
) -> tuple[float | None, float]:
    """Return the largest ratios found to the sensitivity of an operation, and to its radius.

    Args:
        part: what flowed through it, and its spaces.
        entering: the norm of its input.
        steps: rounds of each ascent.
        rng: random numbers.
    """
    assert part.operation is not None
    bound = part.operation.radius(entering)
    radius = max(
        over(measured_radius(part.codomain, y), bound) for y in _outputs(part, entering, steps)
    )
    real = on_real_vectors(part)
    if holds_ids(real.x) or holds_ids(real.y):
        return None, radius
    gain = worst_in_value(in_input(real), real.domain, real.x, real.y, steps, rng)
    if part.operation.claim == "proved":
        gain = largest([gain, _finite_gain(real, rng)])
    (s,) = part.operation.sensitivities()
    return over(gain, s), radius


def _finite_gain(part: Observation, rng: torch.Generator) -> float:
    """The largest ‖f(x + Δ) − f(x)‖/‖Δ‖ of a few steps Δ, which sees jumps that slopes do not."""
    direction = random_direction(part.domain, part.x, rng)
    gains = []
    for step in (resized(part.domain, direction, size) for size in (1e-2, 1.0, 10.0)):
        moved = part.apply({}, zip_leaves(torch.add, part.x, step))
        change = zip_leaves(lambda a, b: torch.where(a == b, 0, a - b), moved, part.y)
        gains.append(float(measure(part.codomain, change) / measure(part.domain, step)))
    return largest(gains)


def _outputs(part: Observation, entering: Radius, steps: int) -> Iterator[Value]:
    """Outputs of ever larger norm for inputs within a radius: by ascent if the claim is a proof."""
    yield part.y
    if holds_ids(part.x) or part.operation is None or part.operation.claim != "proved":
        return
    x = part.x
    for _ in range(steps):
        uphill = slope(lambda v: _size(part, v), x)
        x = _steepest_within(part.domain, uphill, entering)
        yield part.apply({}, x)


def _size(part: Observation, x: Value) -> Tensor:
    """The norm of the output, in which −∞ counts as 0, as in `measured_radius`."""
    y = map_leaves(lambda t: torch.where(t == -torch.inf, 0, t), part.apply({}, x))
    return measure(part.codomain, y)


def slope(size: Callable[[Value], Tensor], x: Value) -> Value:
    """Return the gradient of a number at a value, shaped like it."""
    with torch.enable_grad():
        variables = [leaf.detach().requires_grad_() for leaf in leaves(x)]
        slopes = torch.autograd.grad(
            size(rebuild(x, iter(variables))), variables, materialize_grads=True
        )
    return rebuild(x, iter(slopes))


def _steepest_within(space: AnySpace, g: Value, radius: Radius) -> Value:
    """The value within a radius, of each part, that pairs best with g."""
    if isinstance(space, Product) and isinstance(g, tuple):
        radii = radius if isinstance(radius, tuple) else (radius,) * len(g)
        return tuple([_steepest_within(*each) for each in zip(space.parts, g, radii, strict=True)])
    return map_leaves(lambda t: total_radius(radius) * t, steepest(space, g))


def over(size: Radius, bound: Radius) -> float:
    """Return a size divided by its bound; for tuples the largest ratio among the parts."""
    if isinstance(size, tuple) and isinstance(bound, tuple):
        return max(map(over, size, bound))
    measured, allowed = total_radius(size), total_radius(bound)
    if measured == 0:
        return 0.0
    ratio = measured / allowed if allowed else math.inf
    return ratio if math.isfinite(ratio) else math.inf


def resized(space: AnySpace, x: Value, size: float) -> Value:
    """Return the value with every part rescaled to norm `size`; ids and zeros stay."""
    if isinstance(space, Product) and isinstance(x, tuple):
        return tuple([resized(s, v, size) for s, v in zip(space.parts, x, strict=True)])
    norm = float(measure(space, x))
    return x if holds_ids(x) or norm == 0 else map_leaves(lambda t: t * (size / norm), x)


def require_ratio(part: object, law: str, ratio: float | None) -> None:
    """Require that a size, divided by its bound, is at most 1; None was not measured."""
    require(
        ratio is None or ratio <= 1 + EXACT,
        part,
        law,
        f"the left side is {ratio} times the right side, tolerance {EXACT:g}",
    )


def worst(found: Sequence[Ratios]) -> Ratios:
    """Return the largest ratio of each kind."""
    inputs = [ratios.input for ratios in found if ratios.input is not None]
    weights = [ratios.weights for ratios in found if ratios.weights is not None]
    return Ratios(
        max(inputs, default=None), max(weights, default=None), max(r.radius for r in found)
    )
