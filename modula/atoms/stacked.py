"""Several maps of one input in one tensor: `StackedLinear` and `StackedBias`.

Their outputs have an axis for the maps in front of the features. RMS takes the maximum over it, as
over every leading axis, so that all maps may move by a whole step at once; `Unbind` makes a tuple
of them, whose norm is the sum.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from modula.algebra.core import Atom, AtomOptions
from modula.checks import Claim
from modula.geometry import BallVectors, Spectral, Stacked
from modula.graph import Radius, total_radius
from modula.norms import RMS


class StackedLinear(Atom[RMS, RMS]):
    """[..., fan_in] -> [..., num, fan_out]: `num` matrices in one tensor, as fused gates are.

    The weight has torch's layout of fused maps, [num·fan_out, fan_in], in which each map is a block
    of rows. Its norm is the largest RMS → RMS norm of a block, and each block is dualized by
    itself.

    Sensitivity 1, radius R: proved, since each vector of the output is that of one block.

    Args:
        num: the number of maps.
        fan_out: the width of the output of each.
        fan_in: the width of the input.
        mass, device, dtype: as for every atom; the mass is that of all maps together, by default
            `num`, as `num` Linears have.

    Raises:
        ValueError: a number or width below 1, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import Gate, StackedLinear, Unbind
        >>> gated = Gate() @ Unbind(2) @ StackedLinear(2, 16, 8)  # as Gate() @ (Linear, Linear)
        >>> gated(torch.randn(3, 8)).shape, gated.mass
        (torch.Size([3, 16]), 2.0)
    """

    claim: Claim = "proved"

    def __init__(self, num: int, fan_out: int, fan_in: int, **options: Unpack[AtomOptions]) -> None:
        _check_count(self, num)
        options.setdefault("mass", float(num))
        super().__init__(
            (num * fan_out, fan_in),
            Stacked(Spectral(RMS, RMS), num),
            fan_out=fan_out,
            fan_in=fan_in,
            **options,
        )
        self.num: int = num

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        return torch.unflatten(F.linear(x, self.weight), -1, (self.num, -1))

    def extra_repr(self) -> str:
        rows, fan_in = self.weight.shape
        return f"{self.num}, {rows // self.num}, {fan_in}"


class StackedBias(Atom[RMS, RMS]):
    """x ↦ x + b for x of shape [..., num, d] and b of shape [num, d], one bias for each map.

    Its norm is the largest RMS of a row. It starts at zero.

    Sensitivity 1, radius R + 1: proved, as for `Bias`.

    Args:
        num: the number of maps.
        d: the width.
        mass, device, dtype: as for every atom.

    Raises:
        ValueError: a number or width below 1, or a negative mass; in the forward pass, an input
            with another number of maps.

    Example:
        >>> import torch
        >>> from modula import StackedBias, StackedLinear
        >>> (StackedBias(4, 16) @ StackedLinear(4, 16, 8))(torch.randn(3, 8)).shape
        torch.Size([3, 4, 16])
    """

    claim: Claim = "proved"

    def __init__(self, num: int, d: int, **options: Unpack[AtomOptions]) -> None:
        _check_count(self, num)
        super().__init__((num, d), BallVectors(RMS), fan_out=d, fan_in=d, **options)

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Set the biases to zero."""
        self.weight.zero_()

    def radius(self, *inputs: Radius) -> Radius:
        return total_radius(inputs) + 1.0

    def weight_sensitivity(self, *inputs: Radius) -> float:
        return 1.0  # the derivative in b is the identity, for every input

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        num = self.weight.shape[0]
        if x.dim() < 2 or x.shape[-2] != num:
            raise ValueError(
                f"{self!r} takes [..., {num}, d], got a tensor of shape {list(x.shape)}"
            )
        return x + self.weight

    def extra_repr(self) -> str:
        num, d = self.weight.shape
        return f"{num}, {d}"


def _check_count(owner: object, num: object) -> None:
    if not isinstance(num, int) or isinstance(num, bool) or num < 1:
        raise ValueError(f"{type(owner).__name__} has at least 1 map, got num={num!r}")
