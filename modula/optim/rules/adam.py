"""`Adam`: the direction of Adam."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from modula.optim.rules.base import Direction, Step, kept_like
from modula.optim.settings import check_adam
from modula.sharding import all_to_local, all_to_local_like, from_local_like
from modula.vector import Update


@dataclass(frozen=True)
class Adam(Direction):
    """m̂ / (√v̂ + ε), with averages of gradients and of their squares.

    An average of squares that would overflow stays at the largest number of its dtype.

    Args:
        betas: the shares of the two averages that a step keeps.
        eps: ε.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of range.

    Source: Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_adam(self.betas, self.eps)

    def buffers(self, p: Tensor) -> Mapping[str, torch.dtype]:
        return kept_like(p, "exp_avg", "exp_avg_sq")

    def defaults(self) -> Mapping[str, object]:
        return {"betas": self.betas, "eps": self.eps}

    def check_settings(self, settings: Mapping[str, object]) -> None:
        check_adam(settings["betas"], settings["eps"])

    def __call__(self, step: Step) -> Update:
        averages = step.buffers("exp_avg")
        m, v = all_to_local(averages), all_to_local(step.buffers("exp_avg_sq"))
        g = [
            t.to(kept.dtype)
            for t, kept in zip(all_to_local_like(step.gradient.tensors, averages), m, strict=True)
        ]
        beta1, beta2 = cast("tuple[float, float]", step.settings["betas"])
        torch._foreach_mul_(m, step.choose(beta1, 1.0))
        torch._foreach_add_(m, g, alpha=1 - beta1)
        torch._foreach_mul_(v, step.choose(beta2, 1.0))
        torch._foreach_addcmul_(v, g, g, value=1 - beta2)
        # An infinite average would never forget.
        torch._foreach_clamp_max_(v, [torch.finfo(kept.dtype).max for kept in v])

        # The count is still 0 if the first step is not taken.
        t = torch._foreach_maximum(step.buffers("step"), 1.0)
        root = torch._foreach_sqrt(v)  # before it is divided, since v may be the largest float
        torch._foreach_div_(root, torch._foreach_sqrt(_remaining(beta2, t)))
        torch._foreach_add_(root, step.number("eps"))
        direction = torch._foreach_div(torch._foreach_div(m, _remaining(beta1, t)), root)
        return Update.from_tensors(step.gradient.names, from_local_like(direction, averages))


def _remaining(beta: float, steps: Sequence[Tensor]) -> list[Tensor]:
    """1 − βᵗ for each parameter, the weight of the gradients in its average.

    By expm1, which loses no digits where βᵗ is near 1.
    """
    log_beta = math.log(beta) if beta else -math.inf
    return [-torch.expm1(t * log_beta) for t in steps]
