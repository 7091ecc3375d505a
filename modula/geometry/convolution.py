"""`Taps`: convolution kernels, whose taps are matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from modula.geometry.spectral import Orthogonal, Spectral
from modula.norms import RMS

_RMS_TO_RMS = Spectral(RMS, RMS)


@dataclass(frozen=True)
class Taps(Orthogonal):
    """Convolution kernels [d_out, d_in, *pixels], whose taps are matrices [d_out, d_in].

    The norm is n times the largest norm of a tap, the dual norm is the sum of the taps' dual norms
    over n, and the duality map treats each tap by itself, where n is the number of taps that
    contribute to one output pixel.

    Args:
        tap: the geometry of one tap.
        pixel_axes: the number of axes along which the kernel extends.
        added: n; None for all taps. A transposed convolution adds fewer, Π⌈kernel/stride⌉.

    Example:
        >>> import torch
        >>> from modula.geometry import Taps
        >>> Taps(pixel_axes=1).norm(torch.ones(1, 2, 2, 3))  # each tap has norm 2
        tensor([6.])

    Source: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4.1.
    """

    tap: Spectral = _RMS_TO_RMS
    pixel_axes: int = 2
    added: int | None = None

    @property
    def axes(self) -> int:  # type: ignore[override] # follows from the pixels'
        return 2 + self.pixel_axes

    def radius(self, shape: tuple[int, ...]) -> float:
        return self.tap.radius((shape[0], shape[1])) / self._number_added(shape)

    def matrices(self, weight: Tensor) -> Tensor:
        return weight.flatten(-self.pixel_axes).movedim(-1, -3)

    def from_matrices(self, matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
        return torch.unflatten(matrices.movedim(-3, -1), -1, shape[2:]).contiguous()

    def norm(self, weight: Tensor) -> Tensor:
        taps = self.tap.norm(self.matrices(weight))
        return taps.amax(dim=-1) * self._number_added(tuple(weight.shape[-self.axes :]))

    def dual_norm(self, gradient: Tensor) -> Tensor:
        taps = self.tap.dual_norm(self.matrices(gradient))
        return taps.sum(dim=-1) / self._number_added(tuple(gradient.shape[-self.axes :]))

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        count = math.prod(shape[2:])
        taps = [self.tap.sample((shape[0], shape[1]), generator, device) for _ in range(count)]
        return self.from_matrices(torch.stack(taps), shape) / self._number_added(shape)

    def _number_added(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape[2:]) if self.added is None else self.added
