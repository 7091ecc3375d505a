"""The network and the settings of train_gpt.py, one set for each optimizer.

`python -m benchmarks.gpt_search` chose them on the source of Python's standard library.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from modula import GPT, RMSNorm, SteepestDescent, TokenShift
from modula.optim import Dualized, KeepFrobenius, Momentum, Rule, SecondMoments


@dataclass(frozen=True)
class Settings:
    """What can be set, beside the size of the network and the length of the run.

    Args:
        optimizer: "modula" (`SteepestDescent`), "dualize" (`model.dualize` in a plain loop),
            "adamw", or "muon", which trains the blocks and leaves the embedding and the head to
            AdamW.
        lr: the peak learning rate.
        token_shift: the share of the features that a branch takes from the position before.
        rope_base: of the rotary positions.
        momentum: of all but AdamW.
        attention_mass, mlp_mass, embedding_mass: of modula and of the plain loop.
        beta_rows: of modula, the share of the rows' second moments that a step keeps; 0 for steps
            that take no account of them.
        decay: of modula, at norm 1 and relative to the rate.
        adamw_lr: AdamW's rate beside Muon.
        beta1, beta2: of AdamW, alone and beside Muon.
        weight_decay: of AdamW and Muon.
    """

    optimizer: str
    lr: float
    token_shift: float = 0.0
    rope_base: float = 10_000.0
    momentum: float = 0.0
    attention_mass: float = 2.0
    mlp_mass: float = 3.0
    embedding_mass: float = 1.0
    beta_rows: float = 0.0
    decay: float = 0.0
    adamw_lr: float = 3e-3
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1

    @property
    def rule(self) -> Rule:
        """modula's rule, for `SteepestDescent`."""
        dualized = Dualized(Momentum(self.momentum))
        if not self.beta_rows:
            return dualized
        return SecondMoments(dualized, self.beta_rows, rescaling=KeepFrobenius())


CHOSEN = Settings(
    "modula", 0.15, token_shift=0.5, momentum=0.85, embedding_mass=0.5, beta_rows=0.95, decay=0.03
)
SETTINGS = {
    "modula": CHOSEN,
    "dualize": replace(CHOSEN, optimizer="dualize", lr=0.11, beta_rows=0.0, decay=0.0),
    "adamw": Settings("adamw", 9e-3, token_shift=0.5, beta1=0.8, beta2=0.9),
    "muon": Settings("muon", 3.2e-2, token_shift=0.5, momentum=0.9, weight_decay=0.03),
}

MODULA = ("modula", "dualize")
"""The optimizers of this library, of which the first adds to the plain loop of the second."""


def network(vocabulary: int, settings: Settings, *, width: int, heads: int, blocks: int) -> GPT:
    """Return the GPT, with weights of its own."""
    norm = TokenShift(settings.token_shift) @ RMSNorm() if settings.token_shift else RMSNorm()
    model = GPT(
        vocabulary,
        d_embed=width,
        num_heads=heads,
        num_blocks=blocks,
        attention_mass=settings.attention_mass,
        mlp_mass=settings.mlp_mass,
        rope_base=settings.rope_base,
        norm=norm,
    )
    return model.tare({"Embed": settings.embedding_mass})


def torch_optimizers(settings: Settings, model: GPT) -> list[torch.optim.Optimizer]:
    """Return AdamW for all weights, or Muon for the blocks and AdamW for the rest."""
    betas, decay = (settings.beta1, settings.beta2), settings.weight_decay
    if settings.optimizer == "adamw":
        return [
            torch.optim.AdamW(model.parameters(), lr=settings.lr, betas=betas, weight_decay=decay)
        ]
    first, *blocks, last = model.parameters()
    return [
        torch.optim.Muon(blocks, lr=settings.lr, momentum=settings.momentum, weight_decay=decay),
        torch.optim.AdamW([first, last], lr=settings.adamw_lr, betas=betas, weight_decay=decay),
    ]


def optimizers(settings: Settings, model: GPT) -> list[torch.optim.Optimizer]:
    """Return the optimizers that train the network; none for the plain loop."""
    if settings.optimizer == "dualize":
        return []
    if settings.optimizer != "modula":
        return torch_optimizers(settings, model)
    return [SteepestDescent(model, settings.lr, rule=settings.rule, weight_decay=settings.decay)]
