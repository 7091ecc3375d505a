"""Weight decay that is shared among the weights as a step is."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from modula.optim.rules import Step
from modula.sharding import all_to_local, from_local_like
from modula.vector import Update, Weights


def decayed(weights: Weights, coefficients: Sequence[float], step: Step) -> Update:
    """Return lr·λ·c_i·w_i for each weight.

    Args:
        weights: to be decayed.
        coefficients: c_i.
        step: with the settings lr and weight_decay, λ.
    """
    decay = torch._foreach_mul(all_to_local(weights.tensors), list(coefficients))
    torch._foreach_mul_(decay, step.number("weight_decay") * step.lr)
    return Update.from_tensors(weights.names, from_local_like(decay, weights.tensors))
