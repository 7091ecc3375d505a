"""`Normalized`: a direction that is taken as it is and rescaled weight by weight."""

from __future__ import annotations

from dataclasses import dataclass, field

from modula.optim.rules.base import Average, Direction, Rule, Step
from modula.optim.rules.momentum import Momentum
from modula.vector import Update


@dataclass(frozen=True)
class AsDirection(Direction):
    """An average of gradients, taken for a direction without a duality map.

    Args:
        average: of the gradients.
    """

    average: Average = field(default_factory=Momentum)

    @property
    def inner(self) -> Average:
        return self.average

    def __call__(self, step: Step) -> Update:
        average = self.average(step)
        return Update.from_tensors(average.names, average.tensors)


@dataclass(frozen=True)
class Normalized(Rule):
    """A direction with each weight's part rescaled to its share of the step.

    Args:
        direction: such as `Adam()`, or `AsDirection(Momentum())`.

    Example:
        >>> from modula import Linear, SteepestDescent
        >>> from modula.optim import Adam, Normalized
        >>> optimizer = SteepestDescent(Linear(2, 2), lr=0.1, rule=Normalized(Adam()))

    Source: Large et al. 2024 (arXiv:2405.14813).
    """

    direction: Direction

    @property
    def inner(self) -> Direction:
        return self.direction

    def __call__(self, step: Step) -> Update:
        return step.plan.normalize(self.direction(step), step.lr, support=step.gradient)
