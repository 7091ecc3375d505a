"""`Bias` adds a vector to every feature vector, and `Gain` multiplies each by one."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from modula.algebra.core import Atom, AtomOptions
from modula.checks import Claim
from modula.geometry import BallVectors
from modula.graph import Radius, total_radius
from modula.norms import RMS, Linf


class Bias(Atom[RMS, RMS]):
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

    claim: Claim = "proved"

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
        return x + self.weight

    def extra_repr(self) -> str:
        return str(self.weight.shape[0])


class Gain(Atom[RMS, RMS]):
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

    claim: Claim = "proved"

    def __init__(self, d: int, **options: Unpack[AtomOptions]) -> None:
        super().__init__((d,), BallVectors(Linf, axes=1), fan_out=d, fan_in=d, **options)

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Set the gain to one."""
        self.weight.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        return self.weight * x

    def extra_repr(self) -> str:
        return str(self.weight.shape[0])
