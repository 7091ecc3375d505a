"""`Empty`: the norm of a parameter without entries, as a model with no register tokens has one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modula.geometry import Geometry
from modula.polar import MethodLike


@dataclass(frozen=True)
class Empty(Geometry):
    """Weights without entries, all of which have norm 0 and are their own duals."""

    axes: int

    def norm(self, weight: Tensor) -> Tensor:
        return torch.zeros(len(weight), device=weight.device)

    def dual_norm(self, gradient: Tensor) -> Tensor:
        return self.norm(gradient)

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        return gradient

    def project(self, weight: Tensor) -> Tensor:
        return weight

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        return torch.empty(shape, device=device)
