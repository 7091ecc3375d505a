"""A transformer with a mixture of experts in each block, which predicts the next character.

python examples/families/char_moe.py
python examples/families/char_moe.py --optimizer adamw --data FILE
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from characters import CharacterModel
from torch import Tensor
from training import main

from modula import (
    AnyModule,
    Attention,
    Embed,
    Linear,
    MixtureOfExperts,
    RMSNorm,
    TransformerBlock,
    routing,
)
from modula.compounds.moe import Routing

BLOCKS, EXPERTS = 2, 4
BALANCE = 0.01
"""The weight of the loss that keeps the experts equally busy."""


class CharacterMixtures(CharacterModel):
    """Transformers with mixtures of experts on characters: of the standard library, or a file."""

    title: ClassVar[str] = "Mixture of experts, characters"
    widths: ClassVar[tuple[int, ...]] = (32, 64, 128)
    steps: ClassVar[int] = 120
    rates: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "modula": (0.1, 0.2, 0.4, 0.8, 1.6),
        "adamw": (4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2),
    }

    def network(self, width: int) -> AnyModule:
        block = TransformerBlock(
            Attention(width, 4).tare(2 / BLOCKS),
            MixtureOfExperts(width, num_experts=EXPERTS, k=2, width=2 * width).tare(3 / BLOCKS),
            num_branches=2 * BLOCKS,
        )
        head = Linear(self.characters, width) @ RMSNorm()
        return head @ block**BLOCKS @ Embed(width, self.characters)

    def loss(self, model: AnyModule, generator: torch.Generator) -> Tensor:
        with routing(model) as layers:
            loss = super().loss(model, generator)
        return loss + BALANCE * torch.stack([imbalance(layer) for layer in layers]).sum()


def imbalance(layer: Routing) -> Tensor:
    """Return Fedus et al.'s loss of a layer, 1 if all experts are equally busy.

    Source: Fedus et al. 2021 (arXiv:2101.03961), equation 4.
    """
    load = F.one_hot(layer.chosen, EXPERTS).float().flatten(0, -2).mean(dim=0)
    return EXPERTS * (load * layer.scores.softmax(-1).flatten(0, -2).mean(dim=0)).sum()


if __name__ == "__main__":
    main(CharacterMixtures)
