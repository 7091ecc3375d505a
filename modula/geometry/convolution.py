"""`Taps`: convolution kernels, whose taps are matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from modula.geometry.spectral import Orthogonal, Spectral
from modula.norms import RMS

_RMS_TO_RMS = Spectral(RMS, RMS)


@dataclass(frozen=True)
class Taps(Orthogonal):
    """Convolution kernels [d_out, d_in, k_h, k_w], whose taps are matrices [d_out, d_in].

    The norm is k_h·k_w times the largest norm of a tap, the dual norm is the sum of the taps' dual
    norms over k_h·k_w, and the duality map treats each tap by itself.

    Args:
        tap: the geometry of one tap.

    Source: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4.1.
    """

    tap: Spectral = _RMS_TO_RMS
    axes = 4

    def radius(self, shape: tuple[int, ...]) -> float:
        d_out, d_in, k_h, k_w = shape
        return self.tap.radius((d_out, d_in)) / (k_h * k_w)

    def matrices(self, weight: Tensor) -> Tensor:
        return rearrange(weight, "... d_out d_in k_h k_w -> ... (k_h k_w) d_out d_in")

    def from_matrices(self, matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
        return rearrange(
            matrices, "... (k_h k_w) d_out d_in -> ... d_out d_in k_h k_w", k_h=shape[2]
        ).contiguous()

    def norm(self, weight: Tensor) -> Tensor:
        return self.tap.norm(self.matrices(weight)).amax(dim=-1) * math.prod(weight.shape[-2:])

    def dual_norm(self, gradient: Tensor) -> Tensor:
        return self.tap.dual_norm(self.matrices(gradient)).sum(dim=-1) / math.prod(
            gradient.shape[-2:]
        )

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        d_out, d_in, k_h, k_w = shape
        taps = [self.tap.sample((d_out, d_in), generator, device) for _ in range(k_h * k_w)]
        return rearrange(taps, "(k_h k_w) d_out d_in -> d_out d_in k_h k_w", k_h=k_h) / (k_h * k_w)
