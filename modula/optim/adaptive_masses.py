"""Masses that drift while a network trains.

Weight i moves by −lr·mᵢ·vᵢ, where mᵢ is its mass and vᵢ a direction of given length. The derivative
of the next loss by mᵢ is then −lr·⟨gᵢ, vᵢ⟩, with the gradient after the step. Where the last update
and the new gradient agree, a longer step would have lowered the loss further, and the mass grows;
where they are opposed, the step went too far, and it shrinks. Only the cosine between them counts,
since gradients of different modules have different units, and only ratios of masses change, not
their total.

Source: the derivative is that of hypergradient descent (Baydin et al. 2018, arXiv:1703.04782,
equation 5), there for one learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from modula.optim.nonfinite import Verdict
from modula.plan import Plan
from modula.sharding import all_to_local, all_to_local_like, dots
from modula.vector import Gradient, Scalar, Update

LOG_MASS = "log_mass"
"""Of the optimizer's state: the logarithm of a mass over the one that the network declares."""

FLOOR = 1e-3
"""The share of its declared mass below which drift takes no mass."""

PASSES = 3
"""How often masses are rescaled to their total, since rescaling may take some below FLOOR."""

LAST_UPDATE = "last_update"
"""Of the optimizer's state: the update that was last subtracted from a weight, without decay."""


def drift(
    plan: Plan, gradient: Gradient, states: Sequence[dict[str, Tensor]], rate: Scalar
) -> None:
    """Move the masses in place: mᵢ ← mᵢ·exp(rate·cos(gᵢ, uᵢ)).

    They are rescaled so that their total stays, and none falls below FLOOR. The mass of a weight
    without a gradient stays too.

    Args:
        plan: the weights that have a gradient.
        gradient: the new gradient g.
        states: with the logarithms of the masses and the last updates u.
        rate: of the drift.
    """
    agreement = cosines(gradient.tensors, [state[LAST_UPDATE] for state in states])
    fractions = torch.tensor(plan.mass_fractions, dtype=agreement.dtype, device="cpu").to(
        agreement.device, non_blocking=True
    )
    before = torch.stack([state[LOG_MASS].to(agreement) for state in states])
    after = before + rate * agreement
    total = fractions @ before.exp()
    for _ in range(PASSES):
        after = _with_total(after, fractions, total)
    for state, log_mass in zip(states, after.unbind(), strict=True):
        state[LOG_MASS].copy_(log_mass)


def _with_total(logs: Tensor, fractions: Tensor, total: Tensor) -> Tensor:
    """The logarithms of masses, none below FLOOR, and the others rescaled to the total."""
    lowest = math.log(FLOOR)
    is_free = (logs > lowest) & (fractions > 0)
    kept = FLOOR * (fractions @ (~is_free).to(fractions))
    masses = torch.where(is_free, fractions.log() + logs, -torch.inf)
    shift = torch.log((total - kept).clamp(min=0)) - torch.logsumexp(masses, dim=0)
    shifted = torch.where(shift.isfinite(), logs + shift, logs)
    return torch.where(is_free, shifted, lowest).clamp(min=lowest)


def scale_by_mass(vector: Update, states: Sequence[dict[str, Tensor]]) -> None:
    """Multiply each weight's part by the change of its mass, in place."""
    for p, state in zip(all_to_local(vector.tensors), states, strict=True):
        p.mul_(state[LOG_MASS].exp().to(p))


def remember(update: Update, states: Sequence[dict[str, Tensor]], verdict: Verdict) -> None:
    """Keep the update for the next step. A step that is not taken leaves the last one."""
    last = [state[LAST_UPDATE] for state in states]
    kept = all_to_local(last)
    torch._foreach_mul_(kept, verdict.choose(0.0, 1.0))
    torch._foreach_add_(kept, all_to_local_like(update.tensors, last))


def cosines(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return the cosine between each tensor and its counterpart, 0 where one is zero: [n].

    Every process knows all of them.
    """
    products = dots(a, b, _products)
    home = products[0].device
    ab, aa, bb = torch.stack([three.to(home) for three in products]).unbind(dim=-1)
    lengths = aa.sqrt() * bb.sqrt()
    return torch.where(lengths > 0, ab / lengths, 0.0)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, b⟩, ⟨a, a⟩ and ⟨b, b⟩.

    They are computed in float64 where the device has it, which the squares of float32 numbers need.
    """
    dtype = torch.float32 if a.device.type == "mps" else torch.float64
    a, b = a.to(dtype), b.to(dtype)
    return torch.stack([(a * b).sum(), a.square().sum(), b.square().sum()])
