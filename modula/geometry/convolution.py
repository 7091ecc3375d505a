"""`Taps`: convolution kernels, whose taps are matrices, and the norms of all kinds of kernels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modula.geometry.base import Geometry
from modula.geometry.parts import magnitudes
from modula.geometry.rearranged import Flattened, Transposed
from modula.geometry.spectral import Orthogonal, Spectral
from modula.geometry.stacked import Stacked
from modula.norms import RMS
from modula.scaling import split_scale, working_dtype

_RMS_TO_RMS = Spectral(RMS, RMS)


@dataclass(frozen=True)
class Taps(Orthogonal):
    """Convolution kernels [d_out, d_in, *pixels], whose taps are matrices [d_out, d_in].

    An output pixel is a sum of taps, each applied to one input pixel. With n_t the number of taps
    in the sums to which tap t belongs, the norm is the largest n_t·‖W_t‖, the dual norm is the sum
    of the taps' dual norms over n_t, and the duality map treats each tap by itself.

    Args:
        tap: the geometry of one tap.
        pixel_axes: the number of axes along which the kernel extends.
        added: n_t. None if all taps are added, as a convolution does; a number if it is the same
            for all taps; or, for each pixel axis, one number for each index along it, the products
            of which are n_t.

    Raises:
        ValueError: numbers for another number of axes; when a kernel is given, for another length.

    Example:
        >>> import torch
        >>> from modula.geometry import Taps
        >>> Taps(pixel_axes=1).norm(torch.ones(1, 2, 2, 3))  # each tap has norm 2
        tensor([6.])

    Source: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4.1.
    """

    tap: Spectral = Spectral(RMS, RMS)  # noqa: RUF009 # frozen, and shown in the reference
    pixel_axes: int = 2
    added: int | tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.added, tuple) and len(self.added) != self.pixel_axes:
            raise ValueError(
                f"Taps of {self.pixel_axes} pixel axes take the numbers of added taps for each of "
                f"them; got {self.added}"
            )

    @property
    def axes(self) -> int:  # type: ignore[override] # follows from the pixels'
        return 2 + self.pixel_axes

    def radius(self, shape: tuple[int, ...]) -> float:
        return self.tap.radius((shape[0], shape[1])) / max(self._numbers_added(shape))

    def matrices(self, weight: Tensor) -> Tensor:
        shares = self._shares(tuple(weight.shape[-self.axes :]), weight)
        taps = self._taps(weight)
        return taps if shares is None else taps * shares[:, None, None]

    def from_matrices(self, matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
        shares = self._shares(shape, matrices)
        taps = matrices if shares is None else matrices / shares[:, None, None]
        return torch.unflatten(taps.movedim(-3, -1), -1, shape[2:]).contiguous()

    def part_sizes(self, gradient: Tensor) -> Tensor | None:
        return magnitudes(gradient, (1, 2))

    def norm(self, weight: Tensor) -> Tensor:
        direction, scale = self._split_scale(weight)
        taps = self.tap.norm(self._taps(direction))
        return (taps * self._per_tap(weight, taps)).amax(dim=-1) * scale

    def dual_norm(self, gradient: Tensor) -> Tensor:
        direction, scale = self._split_scale(gradient)
        taps = self.tap.dual_norm(self._taps(direction))
        return (taps / self._per_tap(gradient, taps)).sum(dim=-1) * scale

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        numbers = self._numbers_added(shape)
        taps = [self.tap.sample((shape[0], shape[1]), generator, device) for _ in numbers]
        return self.from_matrices(torch.stack(taps), shape) / max(numbers)

    def _split_scale(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Each weight with entries of at most 1, and its scale, [batch]."""
        weight = weight.to(working_dtype(weight.dtype))
        direction, scale = split_scale(weight, dim=tuple(range(-self.axes, 0)))
        return direction, scale.flatten(-self.axes).squeeze(-1)

    def _taps(self, weight: Tensor) -> Tensor:
        return weight.flatten(-self.pixel_axes).movedim(-1, -3)

    def _shares(self, shape: tuple[int, ...], like: Tensor) -> Tensor | None:
        """n_t over the largest n, for each tap; None where all are 1."""
        numbers = self._numbers_added(shape)
        if min(numbers) == max(numbers):
            return None
        shares = [n / max(numbers) for n in numbers]
        return torch.tensor(shares, dtype=like.dtype, device=like.device)

    def _per_tap(self, weight: Tensor, like: Tensor) -> Tensor:
        numbers = self._numbers_added(tuple(weight.shape[-self.axes :]))
        return torch.tensor(numbers, dtype=like.dtype, device=like.device)

    def _numbers_added(self, shape: tuple[int, ...]) -> list[int]:
        """n_t for each tap."""
        pixels = shape[2:]
        count = math.prod(pixels)
        if not isinstance(self.added, tuple):
            return [count if self.added is None else self.added] * count
        if tuple(map(len, self.added)) != tuple(pixels):
            raise ValueError(
                f"Taps with added={self.added} take a kernel of {'×'.join(map(str, self.added))} "
                f"pixels, got a kernel of shape {list(shape)}"
            )
        return [math.prod(numbers) for numbers in itertools.product(*self.added)]


def convolution_geometry(
    kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int], groups: int = 1
) -> Geometry:
    """Return the norm of the kernel [d_out, d_in/groups, *kernel_size] of a convolution.

    Each group maps channels of its own, by taps. Where no two output pixels read the same input
    pixel, the kernel is one matrix from patches to pixels.

    Args:
        kernel_size, stride, dilation: one number for each pixel axis.
        groups: into which the channels are divided.

    Example:
        >>> from modula.geometry import convolution_geometry
        >>> type(convolution_geometry((3, 3), (2, 2), (1, 1))).__name__
        'Taps'
        >>> type(convolution_geometry((4, 4), (4, 4), (1, 1))).__name__
        'Flattened'
    """
    axes = len(kernel_size)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    is_apart = all(s >= span for s, span in zip(stride, spans, strict=True))
    block: Geometry = Taps(pixel_axes=axes)
    if is_apart and math.prod(kernel_size) > 1:
        block = Flattened(_RMS_TO_RMS, 1, 1 + axes)
    return block if groups == 1 else Stacked(block, groups)


def transposed_convolution_geometry(
    kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int], groups: int = 1
) -> Geometry:
    """Return the norm of the kernel [d_in, d_out/groups, *kernel_size] of a transposed convolution.

    Tap t adds to the output pixels s·p + d·t, for the pixels p of the input. So the taps that are
    added in one output pixel are those whose indices agree modulo s/gcd(s, d).

    Args:
        kernel_size, stride, dilation: one number for each pixel axis.
        groups: into which the channels are divided.

    Example:
        >>> from modula.geometry import transposed_convolution_geometry
        >>> transposed_convolution_geometry((4,), (2,), (1,)).block.added
        2
        >>> transposed_convolution_geometry((3,), (2,), (1,)).block.added  # 0 and 2, or 1
        ((2, 1, 2),)
    """
    each = zip(kernel_size, stride, dilation, strict=True)
    added = tuple([_agreeing(k, s // math.gcd(s, d)) for k, s, d in each])
    numbers = {math.prod(one) for one in itertools.product(*added)}
    taps = Taps(pixel_axes=len(kernel_size), added=added if len(numbers) > 1 else numbers.pop())
    block = Transposed(taps)
    return block if groups == 1 else Stacked(block, groups)


def _agreeing(length: int, period: int) -> tuple[int, ...]:
    """For each index below `length`, the number of those that agree with it modulo the period."""
    return tuple([len(range(i % period, length, period)) for i in range(length)])
