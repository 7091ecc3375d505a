"""`Dualized`: the duality map of an average of gradients."""

from __future__ import annotations

from dataclasses import dataclass, field

from modula.optim.rules.base import Average, Rule, Step
from modula.optim.rules.momentum import Momentum
from modula.polar import MethodLike
from modula.polar.methods import resolve
from modula.vector import Update


@dataclass(frozen=True)
class Dualized(Rule):
    """The steepest direction under the modular norm, for an average of gradients.

    The average lives in the dual space, and the duality map comes after it. This is the rule of
    `SteepestDescent`.

    Args:
        average: of the gradients.
        method: how matrices are orthogonalised, one of `modula.polar`'s; None is its default.

    Raises:
        ValueError: there is no such method.

    Example:
        >>> from modula import Linear, SteepestDescent
        >>> from modula.optim import Dualized, Momentum
        >>> optimizer = SteepestDescent(Linear(2, 2), lr=0.1, rule=Dualized(Momentum(0.9)))
        >>> optimizer.param_groups[0]["momentum"]
        0.9

    Source: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 3.
    """

    average: Average = field(default_factory=Momentum)
    method: MethodLike | None = None

    def __post_init__(self) -> None:
        resolve(self.method)

    @property
    def inner(self) -> Average:
        return self.average

    def __call__(self, step: Step) -> Update:
        average = self.average(step)
        return step.plan.dualize(average, step.lr, self.method, support=step.gradient)
