"""Optimizers for one network: modula's, and torch's for comparison."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from modula import Network, SteepestDescent
from modula.optim import Dualized, KeepFrobenius, Momentum, Rule, SecondMoments, Whitened

SYSTEMS = ("dualize", "normalize", "adamw", "muon")
MOMENTUM = Momentum(0.85)
RULES: dict[str, Rule] = {
    "rows": SecondMoments(Dualized(MOMENTUM)),
    "keep_frobenius": SecondMoments(Dualized(MOMENTUM), rescaling=KeepFrobenius()),
    "whitened": Dualized(Whitened(MOMENTUM)),
}
"""Systems of modula's with another rule than "dualize" has."""

NAMES = {
    "dualize": "modula, dualize",
    "normalize": "modula, normalize (Adam)",
    "adamw": "torch.optim.AdamW",
    "muon": "torch.optim.Muon",
    "sgd": "torch.optim.SGD",
    "rows": "modula, SecondMoments of rows",
    "keep_frobenius": "modula, rows with KeepFrobenius",
    "whitened": "modula, Whitened",
}
MUON_REST = 3e-3
"""AdamW's rate for the weights that Muon does not train."""


def optimizers(
    system: str,
    model: Network,
    lr: float,
    weight_decay: float = 0.0,
    hidden: Sequence[Tensor] | None = None,
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a system, each of which trains some of the weights.

    Args:
        system: one of `SYSTEMS`, of `RULES`, or "sgd".
        model: whose weights are trained.
        lr: the peak rate.
        weight_decay: of each optimizer.
        hidden: the weights that Muon trains; None takes all but the first and the last.
    """
    parameters = list(model.torch_module.parameters())
    if system in RULES:
        return [SteepestDescent(model, lr, rule=RULES[system], weight_decay=weight_decay)]
    if system == "dualize":
        return [SteepestDescent(model, lr, rule=Dualized(MOMENTUM), weight_decay=weight_decay)]
    if system == "normalize":
        return [
            SteepestDescent(
                model, lr, normalize=True, base="adam", betas=(0.9, 0.95), weight_decay=weight_decay
            )
        ]
    if system == "adamw":
        return [torch.optim.AdamW(parameters, lr, betas=(0.9, 0.95), weight_decay=weight_decay)]
    if system == "sgd":
        return [torch.optim.SGD(parameters, lr, weight_decay=weight_decay)]
    by_muon = parameters[1:-1] if hidden is None else list(hidden)
    rest = [p for p in parameters if all(p is not other for other in by_muon)]
    return [
        torch.optim.Muon(by_muon, lr, weight_decay=weight_decay),
        torch.optim.AdamW(rest, MUON_REST, betas=(0.9, 0.95), weight_decay=weight_decay),
    ]


def step(chosen: list[torch.optim.Optimizer], loss: Tensor, decay: float = 1.0) -> None:
    """Take one step that lowers `loss`, at `decay` times the optimizers' peak learning rates."""
    for optimizer in chosen:
        optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call] # torch does not annotate it
    for optimizer in chosen:
        for group in optimizer.param_groups:
            group["lr"] = decay * group.setdefault("peak_lr", group["lr"])
        optimizer.step()
