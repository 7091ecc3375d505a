"""`SecondMoments`: rows or columns of an update, divided by their running root mean square."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from modula.geometry import Geometry
from modula.optim.rules.base import Buffer, Rule, State, Step, check_rule, merged
from modula.optim.rules.dualized import Dualized
from modula.optim.rules.lines import (
    AXES,
    Lines,
    joined,
    lengths,
    lengths_by_matrix,
    split,
    spread,
)
from modula.optim.rules.rescaling import Rescaling, ToNorm, check_rescaling
from modula.optim.settings import check_share
from modula.plan import Plan
from modula.scaling import working_dtype
from modula.sharding import all_to_local, from_local_like
from modula.vector import Scalar, Update

TINY = torch.finfo(torch.float32).tiny
"""The smallest length by which is divided."""

SQUARED = 1e-12, 1e12
"""Coefficients between which the squares of an update stay in float32's range."""


@dataclass(frozen=True)
class SecondMoments(Rule):
    """Divide each row or column of the matrices by its running root mean square, after the map.

    The singular values of a dualized update are 1, but its rows need not be equally long, and over
    many steps some outputs move further than others. This rule keeps vᵢ ← β·vᵢ + (1−β)·‖uᵢ‖² of
    each row uᵢ of each matrix in the update of another rule, each weight's at norm 1, and
    multiplies row i by √(mean(v)/vᵢ). Then `rescaling` sets the length of each weight's part:
    `ToNorm` makes the norm of the step `lr`, and `KeepFrobenius` costs less. Weights that do not
    consist of matrices are left as the other rule moves them.

    Keeps one number for each line, those of sharded weights on every process. Sharded updates are
    gathered one batch at a time, as gradients are when they are dualized.

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

    def factors(self, p: Tensor, geometry: Geometry) -> Mapping[str, Buffer]:
        dtype = working_dtype(p.dtype)
        like = torch.empty(p.shape, dtype=dtype, device="meta").unsqueeze(0)
        own = {
            f"{self._buffer}_{k}": Buffer((one.shape[1], one.shape[2]), dtype, replicated=True)
            for k, one in enumerate(lengths_by_matrix(geometry, like, self.lines))
        }
        return merged(self.rule.factors(p, geometry), own, type(self).__name__)

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
        rate = self.rescaling.rate(step)
        moments = {i: v for i, state in enumerate(step.states) if (v := self._moments(state))}
        factors = self._factors(step, update, moments, rate) if moments else {}
        changed = [t * factors.get(i, rate) for i, t in enumerate(all_to_local(update.tensors))]
        return self.rescaling(
            step, Update.from_tensors(update.names, from_local_like(changed, update.tensors))
        )

    def _moments(self, state: State) -> list[Tensor]:
        """The buffers of one weight, [count, lines] for its matrices of one shape."""
        kinds = sum(name.startswith(f"{self._buffer}_") for name in state)
        return [state[f"{self._buffer}_{k}"] for k in range(kinds)]

    def _factors(
        self, step: Step, update: Update, moments: Mapping[int, list[Tensor]], rate: Scalar
    ) -> dict[int, Tensor | Scalar]:
        """A factor for each entry of the weights that have lines, by the weight's position.

        Args:
            step: the optimizer's.
            update: whose lines are measured, and taken into the moments.
            moments: of these weights, by position.
            rate: of the rescaling.
        """
        plan, u = step.plan.only(list(moments)), [update.tensors[i] for i in moments]
        v = list(moments.values())
        found = self._lengths(plan, u, v)
        factors: dict[int, Tensor] = {}
        for group in _of_equal_lines(v):
            kinds = [[v[i][k] for i in group] for k in range(len(v[group[0]]))]
            numbers = torch.stack([found[i] for i in group])
            of_group = rate * _keeping_frobenius(self._taken_in(step, kinds, numbers), numbers)
            factors.update(zip(group, of_group.unbind(), strict=True))
        in_order = [factors[i] for i in range(len(v))]
        entries = plan.spread(partial(spread, lines=self.lines), in_order, u)
        return dict(zip(moments, entries, strict=True))

    def _lengths(
        self, plan: Plan, update: Sequence[Tensor], moments: Sequence[Sequence[Tensor]]
    ) -> list[Tensor]:
        """The lengths of the lines of each weight's update, as it is at norm 1: [n] each."""
        scales = [c or 1.0 for c in plan.coefficients]
        fits = [SQUARED[0] <= c <= SQUARED[1] for c in scales]
        found = plan.vectors(
            partial(lengths, lines=self.lines),
            [t if fit else t / c for t, c, fit in zip(update, scales, fits, strict=True)],
            [sum(v.numel() for v in own) for own in moments],
        )
        left = [c if fit else 1.0 for c, fit in zip(scales, fits, strict=True)]
        return list(torch._foreach_div(found, left))

    def _taken_in(
        self, step: Step, moments: Sequence[list[Tensor]], numbers: Tensor
    ) -> list[Tensor]:
        """v ← β·v + (1−β)·‖uᵢ‖² of a group of weights, nothing if the step is not taken.

        Args:
            step: the optimizer's.
            moments: of each kind of matrices those of all weights, [count, lines] each.
            numbers: the lengths of the lines, [batch, n].

        Returns:
            v, [batch, count, lines] for each kind of matrices.
        """
        beta = step.number(self._setting)
        squares = split(numbers.square() * (1 - beta), [one[0].shape for one in moments])
        after = [
            torch.stack(one) * step.choose(beta, 1.0) + new
            for one, new in zip(moments, squares, strict=True)
        ]
        for kept, v in zip(moments, after, strict=True):
            torch._foreach_copy_(kept, list(v.unbind()))
        return after


def _of_equal_lines(moments: Sequence[Sequence[Tensor]]) -> list[list[int]]:
    """The positions of weights whose lines are as many, in groups."""
    groups: dict[object, list[int]] = {}
    for i, own in enumerate(moments):
        groups.setdefault((tuple([v.shape for v in own]), own[0].device), []).append(i)
    return list(groups.values())


def _keeping_frobenius(moments: Sequence[Tensor], lengths: Tensor) -> Tensor:
    """√(mean(v)/vᵢ) for each line, times one number a weight that keeps its Frobenius norm.

    Args:
        moments: v of a batch of weights, [batch, count, lines] for matrices of one shape.
        lengths: of the lines, [batch, n].

    Returns:
        [batch, n].
    """
    factors = joined([_inverse_roots(one) for one in moments])
    ratios = _sizes(lengths) / _sizes(factors * lengths).clamp_min(TINY)
    return factors * ratios


def _sizes(lengths: Tensor) -> Tensor:
    """The Frobenius norms of weights, from the lengths of lines: [batch, n] -> [batch, 1]."""
    return lengths.square().sum(dim=1, keepdim=True).sqrt()


def _inverse_roots(v: Tensor) -> Tensor:
    """√(mean(v)/vᵢ) for each line i of each matrix, 0 for lines that never moved.

    Roots come before the division: v of a line that stopped moving falls to the smallest number.
    """
    means = v.mean(dim=-1, keepdim=True)
    return torch.where(v > 0, means.sqrt() / torch.where(v > 0, v, 1).sqrt(), 0)
