"""The laws of norm types."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from modula.norms import Dense
from modula.testing.laws import EXACT, on_cpu, require, require_equal, seeded
from modula.testing.unit_ball import UnitBall, check_unit_ball, hard_values, stays_zero


@on_cpu
def check_norm(
    norm: type[Dense], widths: Sequence[int] = (1, 3, 8), generator: torch.Generator | None = None
) -> None:
    """Check that a norm type is a norm, and that its duality map is that of its unit ball.

    Args:
        norm: the norm type.
        widths: lengths of the vectors to check it on, each of which the norm must allow.
        generator: where random numbers come from; None starts one of its own.

    Raises:
        AssertionError: names the law that fails, with the numbers and the tolerance.

    Example:
        >>> from modula import RMS
        >>> from modula.testing import check_norm
        >>> check_norm(RMS)
    """
    rng = seeded(generator)
    unit_ball = UnitBall(norm.__name__, norm.norm, norm.dual_norm, norm.dualize)
    for width in widths:
        x = hard_values((width,), rng)
        check_unit_ball(unit_ball, x, rng)
        _zero_entries_stay_zero(unit_ball, x, rng)
        _takes_any_leading_axes(norm, x)
        _measures_the_largest_vector(norm, x)
        _dual_is_the_dual_norm(norm, x)


def _zero_entries_stay_zero(ball: UnitBall, x: Tensor, rng: torch.Generator) -> None:
    kept = torch.rand(x.shape, generator=rng) > 0.5
    stays_zero(ball, x * kept, "where")


def _takes_any_leading_axes(norm: type[Dense], x: Tensor) -> None:
    folded = x.view(2, -1, *x.shape[1:])
    for f in (norm.norm, norm.dual_norm, norm.dualize):
        law = f"{f.__name__} takes any number of axes before the last"
        require_equal(norm.__name__, law, f(folded), f(x).view_as(f(folded)), EXACT)


def _measures_the_largest_vector(norm: type[Dense], x: Tensor) -> None:
    """Check `measure` on activations with the vectors on `axis`."""
    activation = x.view(-1, 1, 1, 1, x.shape[-1]).movedim(-1, norm.axis)
    law = f"measure is the largest norm of a vector on axis {norm.axis}"
    require_equal(
        norm.__name__, law, norm.measure(activation)[None], norm.norm(x).amax()[None], EXACT
    )


def _dual_is_the_dual_norm(norm: type[Dense], x: Tensor) -> None:
    dual = getattr(norm, "dual", None)
    if dual is None:
        return
    law = f"{norm.__name__}.dual measures the dual norm"
    require_equal(norm.__name__, law, dual.norm(x), norm.dual_norm(x), EXACT)
    back = getattr(dual, "dual", norm)
    law = f"{norm.__name__}.dual.dual is {norm.__name__}"
    require(back is norm, norm.__name__, law, f"got {back.__name__}")
