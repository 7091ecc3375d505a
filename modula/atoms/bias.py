"""Atoms that add a vector to every vector, and that multiply each by one entry by entry."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import Unpack

from modula.algebra.core import Atom, AtomOptions, S, T
from modula.checks import Claim
from modula.geometry import BallVectors
from modula.graph import Radius, total_radius
from modula.norms import RMS, ChannelRMS, Linf


class Shift(Atom[S, T]):
    """x ↦ x + b for the vectors along one axis, which a subclass sets."""

    claim: Claim = "proved"
    axis: ClassVar[int] = -1
    """The axis of the vectors."""

    def __init__(self, d: int, **options: Unpack[AtomOptions]) -> None:
        super().__init__((d,), BallVectors(RMS, axes=1), fan_out=d, fan_in=d, **options)

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Set the bias to zero."""
        self.weight.zero_()

    def radius(self, *inputs: Radius) -> Radius:
        return total_radius(inputs) + 1.0

    def weight_sensitivity(self, *inputs: Radius) -> float:
        return 1.0  # the derivative in b is the identity, for every input

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        return x + _along(self.axis, self.weight, x)

    def extra_repr(self) -> str:
        return str(self.weight.shape[0])


class Bias(Shift[RMS, RMS]):
    """x ↦ x + b for b of shape [d], measured by its RMS.

    Sensitivity 1, radius R + 1: proved, since the derivative in x is the identity and ‖b‖ ≤ 1. The
    bias starts at zero.

    Args:
        d: the width.
        mass, device, dtype: as for every atom.

    Raises:
        ValueError: a width below 1, or a negative mass.

    Example:
        >>> from modula import Bias, Linear
        >>> (Bias(10) @ Linear(10, 256)).mass
        2.0
    """


class ChannelBias(Shift[ChannelRMS, ChannelRMS]):
    """x ↦ x + b at every pixel, for b of shape [channel], measured by its RMS.

    Sensitivity 1, radius R + 1: proved, as for `Bias`. The bias starts at zero.

    Args:
        d: the number of channels.
        mass, device, dtype: as for every atom.

    Raises:
        ValueError: a width below 1, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import ChannelBias, Conv2D
        >>> (ChannelBias(8) @ Conv2D(8, 3))(torch.randn(2, 3, 5, 5)).shape
        torch.Size([2, 8, 5, 5])
    """

    axis: ClassVar[int] = ChannelRMS.axis


class Scale(Atom[S, T]):
    """x ↦ g·x, entry by entry, for the vectors along one axis, which a subclass sets."""

    claim: Claim = "proved"
    axis: ClassVar[int] = -1
    """The axis of the vectors."""

    def __init__(self, d: int, **options: Unpack[AtomOptions]) -> None:
        super().__init__((d,), BallVectors(Linf, axes=1), fan_out=d, fan_in=d, **options)

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Set the gain to one."""
        self.weight.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        return _along(self.axis, self.weight, x) * x

    def extra_repr(self) -> str:
        return str(self.weight.shape[0])


class Gain(Scale[RMS, RMS]):
    """x ↦ g·x, entry by entry, for g of shape [d], measured by its largest entry.

    Sensitivity 1, radius R: proved, since ‖g·x‖ ≤ max |g|·‖x‖. The gain starts at one.

    Args:
        d: the width.
        mass, device, dtype: as for every atom.

    Raises:
        ValueError: a width below 1, or a negative mass.

    Example:
        >>> from modula import Gain, RMSNorm
        >>> str((Gain(64) @ RMSNorm()).domain)
        'RMS(64)'
    """


class ChannelGain(Scale[ChannelRMS, ChannelRMS]):
    """x ↦ g·x, channel by channel, for g of shape [channel], measured by its largest entry.

    Sensitivity 1, radius R: proved, as for `Gain`. The gain starts at one.

    Args:
        d: the number of channels.
        mass, device, dtype: as for every atom.

    Raises:
        ValueError: a width below 1, or a negative mass.

    Example:
        >>> from modula import ChannelGain, ChannelRMSNorm
        >>> str((ChannelGain(64) @ ChannelRMSNorm()).domain)
        'ChannelRMS(64)'
    """

    axis: ClassVar[int] = ChannelRMS.axis


def _along(axis: int, vector: Tensor, x: Tensor) -> Tensor:
    """The vector with axes of length 1 behind it, so that it lies along one axis of `x`."""
    behind = x.dim() - 1 - axis % x.dim()
    return vector.view(-1, *[1] * behind) if behind else vector
