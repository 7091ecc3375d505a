"""Two networks whose outputs meet in a scalar product: one reads users, the other items.

A user is a vector of features, which follow from the hidden properties of the one item that it
wants; an item is a number. The model is one network of two inputs, and the loss is that of
classification among all items.

python examples/families/two_tower.py
python examples/families/two_tower.py --optimizer adamw
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from training import ACCURACY, Family, Measure, main

from modula import MLP, RMS, AnyModule, Bond, Embed, Linf, Parallel, RMSNorm
from modula.checks import Claim
from modula.graph import Radius

ITEMS = 200
FEATURES = 32
PROPERTIES = 8
NOISE = 0.3
BATCH = 128
TESTED = 2000
"""The number of users for which the best item is looked up."""


class Similarity(Bond[tuple[RMS, RMS], Linf]):
    """(users [n, d], items [m, d]) ↦ the scalar products over d, [n, m].

    Sensitivity 1, radius R_users·R_items: conditional on vectors of RMS at most 1, by
    Cauchy–Schwarz.
    """

    claim: Claim = "conditional"

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0  # of vectors that RMSNorm has scaled

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        users, items = x
        return users @ items.mT / users.shape[-1]


class TwoTowers(Family):
    """Two towers, of users and of items, on data that are made."""

    title: ClassVar[str] = "Two towers, users and items"
    measure: ClassVar[Measure] = ACCURACY
    widths: ClassVar[tuple[int, ...]] = (32, 64)
    steps: ClassVar[int] = 200
    rates: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "modula": (0.5, 1.0, 2.0, 4.0, 8.0),
        "adamw": (4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2),
    }

    def __init__(self, data: Path | None = None) -> None:
        if data is not None:
            raise SystemExit("the users and items are made, not read: leave --data out")
        super().__init__(data)
        made = torch.Generator().manual_seed(0)
        self.properties = torch.randn(ITEMS, PROPERTIES, generator=made)
        self.view = torch.randn(PROPERTIES, FEATURES, generator=made) / PROPERTIES**0.5

    def network(self, width: int) -> AnyModule:
        users = RMSNorm() @ MLP(width, FEATURES, width=width, depth=3)
        items = RMSNorm() @ MLP(width, width, width=width) @ Embed(width, ITEMS)
        return 16 * Similarity() @ Parallel(users, items)

    def loss(self, model: AnyModule, generator: torch.Generator) -> Tensor:
        users, wanted = self._users(BATCH, generator)
        return F.cross_entropy(self._scores(model, users), wanted)

    def score(self, model: AnyModule) -> float:
        """Return how often the item with the largest score, among all, is the one wanted."""
        users, wanted = self._users(TESTED, torch.Generator().manual_seed(1_000_003))
        return (self._scores(model, users).argmax(dim=-1) == wanted).float().mean().item()

    def _scores(self, model: AnyModule, users: Tensor) -> Tensor:
        """The scores of all items for each user, [users, items]."""
        return cast("Tensor", model((users, torch.arange(ITEMS))))

    def _users(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The features of new users, and the item that each wants."""
        wanted = torch.randint(ITEMS, (count,), generator=generator)
        noise = NOISE * torch.randn(count, PROPERTIES, generator=generator)
        return torch.tanh((self.properties[wanted] + noise) @ self.view), wanted


if __name__ == "__main__":
    main(TwoTowers)
