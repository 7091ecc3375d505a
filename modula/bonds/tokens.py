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
        return torch.arange(ids.shape[-1], device=ids.device, dtype=ids.dtype).expand(ids.shape)
