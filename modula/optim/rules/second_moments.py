"""`SecondMoments`: rows or columns of an update, divided by their running root mean square."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from modula.geometry import Geometry
from modula.optim.rules.base import Rule, Step, check_rule, kept_like, merged
from modula.optim.rules.dualized import Dualized
from modula.optim.rules.rescaling import Rescaling, ToNorm, check_rescaling
from modula.optim.settings import check_share
from modula.sharding import all_to_local, all_to_local_like, from_local_like
from modula.vector import Update

Lines: TypeAlias = Literal["rows", "columns"]
AXES: dict[Lines, int] = {"rows": -1, "columns": -2}
"""The axis of a matrix [d_out, d_in] along which its lines extend."""


@dataclass(frozen=True)
class SecondMoments(Rule):
    """Divide each row or column of the matrices by its running root mean square, after the map.

    The singular values of a dualized update are 1, but its rows need not be equally long, and over
    many steps some outputs move further than others. This rule keeps v ← β·v + (1−β)·u² of the
    update u of another rule, each weight's at norm 1, and multiplies row i of each matrix by
    √(mean(v)/mean(vᵢ)). Then `rescaling` sets the length of each weight's part: `ToNorm` makes the
    norm of the step `lr`, and `KeepFrobenius` costs less. Weights that do not consist of matrices
    are left as the other rule moves them.

    Keeps one more tensor a weight. Sharded weights are gathered one batch at a time, as when they
    are dualized.

    Args:
        rule: whose update is taken.
        beta: the share of v that a step keeps, in [0, 1). In the parameter group it is "beta_rows"
            or "beta_columns".
        lines: "rows" (outputs) or "columns" (inputs) of the matrices.
        rescaling: of each weight's part.

    Raises:
        TypeError: beta is not a number, `rule` is not a rule, or `rescaling` not a rescaling.
        ValueError: beta is out of range, there are no such lines, or `rule` divides the same lines.

    Example:
        >>> from modula import Linear, SteepestDescent
        >>> from modula.optim import Dualized, Momentum, SecondMoments
        >>> rule = SecondMoments(Dualized(Momentum(0.9)), beta=0.95)
        >>> optimizer = SteepestDescent(Linear(2, 2), lr=0.1, rule=rule)
        >>> optimizer.param_groups[0]["beta_rows"]
        0.95

    Source: *NorMuon*, Li et al. 2025 (arXiv:2510.05491), algorithm 1, which is `KeepFrobenius`.
    """

    rule: Rule = field(default_factory=Dualized)
    beta: float = 0.95
    lines: Lines = "rows"
    rescaling: Rescaling = field(default_factory=ToNorm)

    def __post_init__(self) -> None:
        check_rule("SecondMoments", self.rule)
        check_share("beta", self.beta)
        check_rescaling("SecondMoments", self.rescaling)
        if self.lines not in AXES:
            raise ValueError(
                f'SecondMoments takes lines="rows" or lines="columns", got {self.lines!r}'
            )
        self.defaults()

    @property
    def inner(self) -> Rule:
        return self.rule

    def buffers(self, p: Tensor) -> Mapping[str, torch.dtype]:
        return merged(self.rule.buffers(p), kept_like(p, self._buffer), type(self).__name__)

    def defaults(self) -> Mapping[str, object]:
        return merged(self.rule.defaults(), {self._setting: self.beta}, type(self).__name__)

    @property
    def kind(self) -> str:
        rescaling = type(self.rescaling).__name__
        return f"{type(self).__name__}({self.rule.kind}, {self.lines}, {rescaling})"

    @property
    def _buffer(self) -> str:
        return f"second_moment_of_{self.lines}"

    @property
    def _setting(self) -> str:
        return f"beta_{self.lines}"

    def check_settings(self, settings: Mapping[str, object]) -> None:
        self.rule.check_settings(settings)
        check_share(self._setting, settings[self._setting])

    def __call__(self, step: Step) -> Update:
        update = self.rule(step.at_rate(1.0))
        moments = step.buffers(self._buffer)
        v = all_to_local(moments)
        u = [
            t.to(kept.dtype)
            for t, kept in zip(all_to_local_like(update.tensors, moments), v, strict=True)
        ]
        # At norm 1 in the weight's own norm: squares of a coefficient can leave float32's range.
        u = list(torch._foreach_mul(u, [1 / c if c else 0.0 for c in step.plan.coefficients]))
        beta = step.number(self._setting)
        torch._foreach_mul_(v, step.choose(beta, 1.0))
        torch._foreach_addcmul_(v, u, u, value=1 - beta)  # zero where the step is not taken
        factors = step.plan.map(partial(_factors, axis=AXES[self.lines]), moments)
        scaled = torch._foreach_mul(u, all_to_local(factors))
        before, changed = (
            Update.from_tensors(update.names, from_local_like(parts, moments))
            for parts in (u, scaled)
        )
        return self.rescaling(step, before, changed)


def _factors(geometry: Geometry, moments: Tensor, axis: int) -> Tensor:
    """√(mean(v)/mean(vᵢ)) for each line i of each matrix: [batch, *shape] -> the same.

    1 for weights that do not consist of matrices, 0 for lines that never moved.
    """
    parts = geometry.orthogonal_parts(moments)
    if parts is None:
        return torch.ones_like(moments)
    return geometry.from_orthogonal_parts(
        [_factors_of(one, axis) for one in parts.matrices], tuple(moments.shape[1:])
    )


def _factors_of(matrices: Tensor, axis: int) -> Tensor:
    """The factors of the lines along `axis`: [batch, count, d_out, d_in] -> the same."""
    means = matrices.mean(dim=axis, keepdim=True)
    whole = means.mean(dim=(-2, -1), keepdim=True)
    # Roots before the division: v of a line that stopped moving falls to the smallest number.
    roots = torch.where(means > 0, means, 1).sqrt()
    factors = torch.where(means > 0, whole.sqrt() / roots, 0)
    return factors.expand_as(matrices)
