"""The laws of a norm and its duality map, whatever they belong to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from modula.testing.laws import (
    EXACT,
    ROUNDING,
    require,
    require_at_most,
    require_equal,
    shown,
)

BatchMap: TypeAlias = Callable[[Tensor], Tensor]

SCALES = (1e-20, 1e-3, 1e3, 1e20)
"""By which values are multiplied to check homogeneity, in float32."""

DESCENT_STEPS = 40
"""Steps of the search for a value that pairs better with a gradient than its dual does."""

BATCH = 6
"""Values of one shape that are checked at once."""


@dataclass(frozen=True)
class UnitBall:
    """A norm on tensors [batch, *shape] with its duality map, whatever it belongs to.

    Args:
        name: of what it belongs to, for messages.
        norm, dual_norm: [batch, *shape] -> [batch].
        dualize: [batch, *shape] -> the same.
        exact: whether the dual norm is the maximum, and not a lower bound of it.
    """

    name: str
    norm: BatchMap
    dual_norm: BatchMap
    dualize: BatchMap
    exact: bool = True


def hard_values(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Return a batch of float64 values: normal, heavy-tailed, with a single entry, all alike."""
    x = torch.randn(BATCH, *shape, generator=rng, dtype=torch.float64)
    x[1] = x[1] ** 3
    single = int(torch.randint(x[2].numel(), (), generator=rng))
    x[2] = torch.where(torch.arange(x[2].numel()).view(shape) == single, x[2], 0)
    x[3] = 1.0
    return x


def check_unit_ball(ball: UnitBall, x: Tensor, rng: torch.Generator) -> None:
    """Check the laws of a norm and its duality map."""
    _is_positive(ball, x)
    _is_homogeneous(ball, x)
    _has_the_triangle_inequality(ball, x)
    _keeps_zero(ball, x)
    for dtype in ROUNDING:
        _is_attained(ball, x.to(dtype))
    _keeps_hoelders_inequality(ball, x, rng)
    _treats_items_alone(ball, x)
    _hides_nothing_broken(ball, x)


def _is_positive(ball: UnitBall, x: Tensor) -> None:
    for name, measured in (("norm", ball.norm(x)), ("dual_norm", ball.dual_norm(x))):
        law = f"the {name} of a value that is not zero is positive and finite"
        holds = bool(((measured > 0) & measured.isfinite()).all())
        require(holds, ball.name, law, f"got {shown(measured)}")


def _is_homogeneous(ball: UnitBall, x: Tensor) -> None:
    x, rounding = x.float(), ROUNDING[torch.float32]
    for c in (-1.0, *SCALES):
        for name, f in (("norm", ball.norm), ("dual_norm", ball.dual_norm)):
            law = f"{name}(c·x) = |c|·{name}(x) at c = {c:g} in float32"
            require_equal(ball.name, law, f(c * x).double() / abs(c), f(x), rounding)
        law = f"dualize(c·g) = sign(c)·dualize(g) at c = {c:g} in float32"
        expected = math.copysign(1, c) * ball.dualize(x)
        require_equal(ball.name, law, ball.dualize(c * x), expected, rounding)


def _has_the_triangle_inequality(ball: UnitBall, x: Tensor) -> None:
    law = "norm(x + y) ≤ norm(x) + norm(y)"
    for shift in range(1, len(x)):
        for y in (x.roll(shift, 0), -0.5 * x.roll(shift, 0)):
            require_at_most(ball.name, law, ball.norm(x + y), ball.norm(x) + ball.norm(y), EXACT)


def _keeps_zero(ball: UnitBall, x: Tensor) -> None:
    zeros = torch.zeros_like(x)
    for name, f in (("norm", ball.norm), ("dual_norm", ball.dual_norm), ("dualize", ball.dualize)):
        found = f(zeros)
        require(not bool(found.any()), ball.name, f"{name}(0) = 0", f"got {shown(found)}")


def _is_attained(ball: UnitBall, g: Tensor) -> None:
    t, rounding = ball.dualize(g), ROUNDING[g.dtype]
    kept = t.dtype == g.dtype
    require(kept, ball.name, "dualize keeps the dtype", f"got {t.dtype} for {g.dtype}")
    ones = torch.ones(len(g))
    law = f"norm(dualize(g)) = 1 in {g.dtype}"
    require_equal(ball.name, law, ball.norm(t), ones, rounding)
    law = f"<g, dualize(g)> = dual_norm(g) in {g.dtype}"
    require_equal(ball.name, law, paired(g, t), ball.dual_norm(g), rounding)


def _keeps_hoelders_inequality(ball: UnitBall, g: Tensor, rng: torch.Generator) -> None:
    if not ball.exact:
        return
    law = "|<g, t>| ≤ dual_norm(g)·norm(t), so that dualize(g) is the best point of the unit ball"
    bound = ball.dual_norm(g)
    for t in _opponents(ball, g, rng):
        require_at_most(ball.name, law, paired(g, t).abs(), bound * ball.norm(t), EXACT)


def _opponents(ball: UnitBall, g: Tensor, rng: torch.Generator) -> Iterator[Tensor]:
    """Values that may pair better with g than its dual does."""
    noise = torch.randn(g.shape, generator=rng, dtype=g.dtype)
    yield from (noise, g + 0.1 * noise)
    yield from (g.sign() * g.abs() ** power for power in (0, 1 / 3, 1, 3))
    for start in (g, ball.dualize(g) + 0.01 * noise):
        yield _shortest(ball, g, start)


def _shortest(ball: UnitBall, g: Tensor, t: Tensor) -> Tensor:
    """Values of small norm among those with <g, t> = 1, by projected subgradients.

    Minimising a norm on a hyperplane is a convex problem, and its solution is the dual of g up to
    scale. Each step would reach a level somewhat below the best norm so far if the norm were linear
    (Polyak 1969).
    """
    t = t / column(paired(g, t), t)
    best, found = ball.norm(t), t
    for step in range(DESCENT_STEPS):
        size, slope = _norm_and_slope(ball, t)
        along = slope - g * column(paired(slope, g) / paired(g, g), g)
        length = paired(along, along)
        level = best * (1 - 1 / (step + 4))
        t = t - along * column((size - level) / torch.where(length == 0, 1, length), t)
        now = ball.norm(t)
        found = torch.where(column(now < best, t), t, found)
        best = torch.minimum(now, best)
    return found


def _norm_and_slope(ball: UnitBall, t: Tensor) -> tuple[Tensor, Tensor]:
    """The norm and its gradient; 0 for a norm without one."""
    t = t.detach().requires_grad_()
    with torch.enable_grad():
        size = ball.norm(t)
    if not size.requires_grad:
        return size, torch.zeros_like(t)
    (slope,) = torch.autograd.grad(size.sum(), t)
    return size.detach(), slope.nan_to_num()


def _treats_items_alone(ball: UnitBall, x: Tensor) -> None:
    for name, f in (("norm", ball.norm), ("dual_norm", ball.dual_norm), ("dualize", ball.dualize)):
        alone = torch.cat([f(item[None]) for item in x])
        require_equal(ball.name, f"{name} of a batch is that of its items", f(x), alone, EXACT)


def _hides_nothing_broken(ball: UnitBall, x: Tensor) -> None:
    for value in (torch.nan, torch.inf):
        broken = x.clone()
        broken[1].view(-1)[0] = value
        for name, f in (
            ("norm", ball.norm),
            ("dual_norm", ball.dual_norm),
            ("dualize", ball.dualize),
        ):
            now, before = f(broken), f(x)
            law = f"{name} of a value with an entry {value} is not finite"
            require(not bool(now[1].isfinite().all()), ball.name, law, f"got {shown(now[1])}")
            law = f"an entry {value} changes {name} of no other item"
            require_equal(ball.name, law, without(now, 1), without(before, 1), EXACT)


def stays_zero(ball: UnitBall, g: Tensor, where: str) -> None:
    """Require zeros in the dual wherever the gradient is zero and zero is as good.

    Zero there does not change the pairing. So it is another maximiser if its norm is not above 1.
    """
    dual = ball.dualize(g)
    quiet = torch.where(g == 0, 0, dual)
    as_good = ball.norm(quiet) <= 1 + EXACT
    law = f"dualize is zero {where} the gradient is zero, as it can be"
    require_equal(ball.name, law, dual[as_good], quiet[as_good], EXACT)


def without(batch: Tensor, i: int) -> Tensor:
    """Return the batch without one of its items."""
    return torch.cat([batch[:i], batch[i + 1 :]])


def column(numbers: Tensor, like: Tensor) -> Tensor:
    """Return one number for each item, shaped to multiply `like`."""
    return numbers.view(-1, *[1] * (like.dim() - 1))


def paired(g: Tensor, t: Tensor) -> Tensor:
    """Return <g, t> for each item of two batches, in float64."""
    return (g.double() * t.double()).unsqueeze(-1).flatten(1).sum(dim=1)
