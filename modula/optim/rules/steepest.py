"""`Steepest`: a dualized step that is as long as the average of gradients is large."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from modula.optim.rules.base import Average, Rule, Step
from modula.optim.rules.momentum import Momentum
from modula.polar import MethodLike
from modula.polar.methods import resolve
from modula.sharding import all_to_local
from modula.vector import Update


@dataclass(frozen=True)
class Steepest(Rule):
    """The dualized average of gradients m times its dual norm: a step of norm lr·‖m‖†.

    This is the minimiser of <m, t> + ‖t‖²/(2·lr), steepest descent in the sense of the papers
    before they fix the length of a step. Steps shrink by themselves where gradients do, and the
    rate depends on the scale of the loss, so that it does not carry over from one network to
    another as the rate of `Dualized` does. ‖m‖† is taken as <m, D(m)>, which the error of the
    orthogonalisation makes smaller by its mean. Works on sharded weights.

    Args:
        average: of the gradients. `Momentum` is a sum, 1/(1 − momentum) times an average.
        method: how matrices are orthogonalised, one of `modula.polar`'s; None is its default.

    Raises:
        TypeError: `average` is not an average.
        ValueError: there is no such method.

    Example:
        >>> from modula import Linear, SteepestDescent
        >>> from modula.optim import Momentum, Steepest
        >>> optimizer = SteepestDescent(Linear(2, 2), lr=0.1, rule=Steepest(Momentum(0.9)))

    Source: Bernstein & Newhouse 2024 (arXiv:2409.20325), proposition 1.
    """

    average: Average = field(default_factory=Momentum)
    method: MethodLike | None = None

    def __post_init__(self) -> None:
        given: object = self.average
        if not isinstance(given, Average):
            raise TypeError(
                "Steepest takes an average of gradients, such as Momentum(0.9), got "
                f"{type(given).__name__}"
            )
        resolve(self.method)

    @property
    def inner(self) -> Average:
        return self.average

    def __call__(self, step: Step) -> Update:
        average = self.average(step)
        unit = step.plan.dualize(average, 1.0, self.method, support=step.gradient)
        # written out, since torch.compile (2.13) traces neither average @ unit nor unit *= …
        size = average.__matmul__(unit)
        torch._foreach_mul_(all_to_local(unit.tensors), size * step.lr)
        return unit
