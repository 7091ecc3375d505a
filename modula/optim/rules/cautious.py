"""`Cautious`: an update without the entries that the step's own gradient opposes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from modula.optim.rules.base import Rule, Step, check_rule
from modula.optim.rules.dualized import Dualized
from modula.sharding import all_to_local, all_to_local_like, from_local_like
from modula.vector import Update


@dataclass(frozen=True)
class Cautious(Rule):
    """Leave out the entries of an update that raise the loss to first order, and rescale the rest.

    An update that comes from an average can point against the gradient of the step in some entries.
    This rule sets those entries to zero. Then each weight's part is rescaled to its share of the
    step, so that the norm of the step is `lr`. Entries whose gradient is zero stay.

    The rest of a dualized matrix is no longer orthogonal. Computes the norm of each weight in each
    step, by an eigendecomposition of its smaller Gram matrix. Works on sharded weights.

    Args:
        rule: whose update is taken.

    Raises:
        TypeError: `rule` is not a rule.

    Example:
        >>> from modula import Linear, SteepestDescent
        >>> from modula.optim import Cautious, Dualized, Momentum
        >>> rule = Cautious(Dualized(Momentum(0.9)))
        >>> optimizer = SteepestDescent(Linear(2, 2), lr=0.1, rule=rule)

    Source: *Cautious Optimizers*, Liang et al. 2024 (arXiv:2411.16085), algorithm 1, which rescales
    by the share of the entries that are left.
    """

    rule: Rule = field(default_factory=Dualized)

    def __post_init__(self) -> None:
        check_rule("Cautious", self.rule)

    @property
    def inner(self) -> Rule:
        return self.rule

    def __call__(self, step: Step) -> Update:
        update = self.rule(step.at_rate(1.0))
        u = all_to_local(update.tensors)
        g = all_to_local_like(step.gradient.tensors, update.tensors)
        kept = [
            torch.where(one.sign() * other.sign().to(one.dtype) < 0, 0, one)  # NaN stays
            for one, other in zip(u, g, strict=True)
        ]
        return step.plan.normalize(
            Update.from_tensors(update.names, from_local_like(kept, update.tensors)),
            step.lr,
            support=step.gradient,
        )
