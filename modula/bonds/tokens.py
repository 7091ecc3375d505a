"""Bonds on token ids."""

from __future__ import annotations

import torch
from torch import Tensor

from modula.algebra.core import Bond
from modula.checks import Claim
from modula.graph import Radius
from modula.norms import OneHot


class Enumerate(Bond[OneHot, OneHot]):
    """ids ↦ their positions 0, 1, 2, …: [..., position] -> [..., position].

    Compose an Embed with it for learned positions:
    `Embed(d, vocab) + Embed(d, context) @ Enumerate()`.

    Sensitivity 1, radius 1: proved, since positions do not depend on ids and are one-hot vectors.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0

    def forward(self, ids: Tensor) -> Tensor:
        return self._counted(ids, 0)

    def start(self) -> int:
        return 0

    def resume(self, x: Tensor, state: int) -> tuple[Tensor, int]:
        return self._counted(x, state), state + x.shape[-1]

    def _counted(self, ids: Tensor, before: int) -> Tensor:
        """The numbers of the positions, of which the first is `before`."""
        numbers = torch.arange(before, before + ids.shape[-1], device=ids.device, dtype=ids.dtype)
        return numbers.expand(ids.shape)
