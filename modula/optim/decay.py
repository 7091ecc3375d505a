"""`Decay`: weight decay that is shared among the weights as a step is, and `CautiousDecay`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from modula.optim.rules import Step
from modula.sharding import all_to_local, all_to_local_like, from_local_like
from modula.vector import Update, Weights


@dataclass(frozen=True)
class Decay:
    """Take lr·λ·cᵢ·wᵢ off weight i, with its coefficient cᵢ and λ the setting `weight_decay`.

    Then ‖wᵢ‖ ≤ 1/λ in the weight's own norm, once it holds, holds for good. Works on sharded
    weights.

    Example:
        >>> from modula import Linear, SteepestDescent
        >>> from modula.optim import Decay
        >>> optimizer = SteepestDescent(Linear(2, 2), lr=0.1, weight_decay=0.1, decay=Decay())

    Source: Loshchilov & Hutter 2019 (arXiv:1711.05101), section 2, there with one rate for all.
    """

    def __call__(self, weights: Weights, update: Update, step: Step) -> Update:
        """Return what is subtracted from the weights beside the update.

        Args:
            weights: as they are before the step, in float32 at least.
            update: of the step, which is subtracted as well.
            step: with the coefficients and the settings lr and weight_decay, λ.
        """
        decay = torch._foreach_mul(all_to_local(weights.tensors), list(step.plan.coefficients))
        torch._foreach_mul_(decay, step.number("weight_decay") * step.lr)
        return Update.from_tensors(weights.names, from_local_like(decay, weights.tensors))


@dataclass(frozen=True)
class CautiousDecay(Decay):
    """Decay the entries that the update moves towards zero, and no others.

    Where the update moves an entry away from zero, nothing holds it back, so that weights can grow
    beyond the bound 1/λ of `Decay`. Works on sharded weights.

    Example:
        >>> from modula import Linear, SteepestDescent
        >>> from modula.optim import CautiousDecay
        >>> optimizer = SteepestDescent(
        ...     Linear(2, 2), lr=0.1, weight_decay=0.1, decay=CautiousDecay()
        ... )

    Source: *Cautious Weight Decay*, Chen et al. 2025 (arXiv:2510.12402), algorithm 1.
    """

    def __call__(self, weights: Weights, update: Update, step: Step) -> Update:
        """Return what is subtracted from the weights beside the update, as `Decay` does."""
        decay = super().__call__(weights, update, step)
        moved = all_to_local_like(update.tensors, weights.tensors)
        kept = [
            torch.where(d.sign() * u.sign().to(d.dtype) < 0, 0, d)  # NaN stays
            for d, u in zip(all_to_local(decay.tensors), moved, strict=True)
        ]
        return Update.from_tensors(decay.names, from_local_like(kept, weights.tensors))


def check_decay(decay: object) -> Decay:
    """Return the decay that is given, or that of all entries for None.

    Args:
        decay: as `SteepestDescent` takes it.

    Raises:
        TypeError: it is another thing.
    """
    if decay is None:
        return Decay()
    if not isinstance(decay, Decay):
        raise TypeError(
            "decay says which entries decay, as CautiousDecay() does, got "
            f"{type(decay).__name__}; how much they do is weight_decay=0.1"
        )
    return decay
