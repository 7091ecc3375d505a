"""`Momentum`: the running sum of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from modula.optim.rules.base import Average, Step, kept_like
from modula.optim.settings import check_momentum, check_nesterov
from modula.sharding import all_to_local, all_to_local_like, from_local_like
from modula.vector import Gradient

BUFFER = "momentum_buffer"


@dataclass(frozen=True)
class Momentum(Average):
    """m ← momentum·m + g; gives m, or momentum·m + g after that for Nesterov's look-ahead.

    Args:
        momentum: the share of the sum that a step keeps, in [0, 1).
        nesterov: look ahead by one step.

    Raises:
        TypeError: momentum is not a number, or nesterov is not True or False.
        ValueError: momentum is out of range.
    """

    momentum: float = 0.95
    nesterov: bool = True

    def __post_init__(self) -> None:
        check_momentum(self.momentum)
        check_nesterov(self.nesterov)

    def buffers(self, p: Tensor) -> Mapping[str, torch.dtype]:
        return kept_like(p, BUFFER)

    def defaults(self) -> Mapping[str, object]:
        return {"momentum": self.momentum, "nesterov": self.nesterov}

    def check_settings(self, settings: Mapping[str, object]) -> None:
        check_momentum(settings["momentum"])
        check_nesterov(settings["nesterov"])

    def __call__(self, step: Step) -> Gradient:
        sums = step.buffers(BUFFER)
        m = all_to_local(sums)
        g = [
            t.to(kept.dtype)
            for t, kept in zip(all_to_local_like(step.gradient.tensors, sums), m, strict=True)
        ]
        torch._foreach_mul_(m, step.choose(step.number("momentum"), 1.0))
        torch._foreach_add_(m, g)
        if step.settings["nesterov"]:
            ahead = torch._foreach_mul(m, step.number("momentum"))
            torch._foreach_add_(ahead, g)
            return Gradient.from_tensors(step.gradient.names, from_local_like(ahead, sums))
        return Gradient.from_tensors(step.gradient.names, sums)
