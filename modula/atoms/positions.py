"""`PositionTable` and `ClassToken`: learned vectors that join a sequence of feature vectors."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from modula.algebra.core import Atom, AtomOptions
from modula.checks import Claim
from modula.geometry import Vectors
from modula.graph import Radius, total_radius
from modula.norms import RMS


class PositionTable(Atom[RMS, RMS]):
    """[..., position, d] -> the same plus the row of a table [context, d] for each position.

    Its norm is the largest RMS of a row.

    Sensitivity 1, radius R + 1: proved, since the derivative in x is the identity and no row is
    longer than the table's norm.

    Args:
        d: the width.
        context: the number of positions, at least that of any input.
        mass, device, dtype: as for every atom.

    Raises:
        ValueError: a width below 1, or a negative mass; in the forward pass, an input of more
            positions than the table has.

    Example:
        >>> import torch
        >>> from modula import PositionTable
        >>> PositionTable(16, context=8)(torch.randn(2, 5, 16)).shape
        torch.Size([2, 5, 16])
    """

    claim: Claim = "proved"

    def __init__(self, d: int, context: int, **options: Unpack[AtomOptions]) -> None:
        super().__init__((context, d), Vectors(RMS), fan_out=d, fan_in=d, **options)

    def radius(self, *inputs: Radius) -> Radius:
        return total_radius(inputs) + 1.0

    def weight_sensitivity(self, *inputs: Radius) -> float:
        return 1.0  # each position reads one row, whatever the input

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        context = self.weight.shape[0]
        if x.dim() < 2 or x.shape[-2] > context:
            raise ValueError(
                f"{self!r} takes [..., position, d] of at most {context} positions, got a tensor "
                f"of shape {list(x.shape)}: make the table longer or the sequence shorter"
            )
        return x + self.weight[: x.shape[-2]]

    def extra_repr(self) -> str:
        context, d = self.weight.shape
        return f"{d}, {context}"


class ClassToken(Atom[RMS, RMS]):
    """[..., position, d] -> [..., 1 + position, d]: a learned vector before all others.

    Sensitivity 1, radius max(R, 1): proved, since the norm of a sequence is the largest of its
    vectors'.

    Args:
        d: the width.
        mass, device, dtype: as for every atom.

    Raises:
        ValueError: a width below 1, or a negative mass; in the forward pass, an input without an
            axis of positions.

    Example:
        >>> import torch
        >>> from modula import ClassToken
        >>> ClassToken(16)(torch.randn(2, 5, 16)).shape
        torch.Size([2, 6, 16])

    Source: Devlin et al. 2019 (arXiv:1810.04805), section 3; for images Dosovitskiy et al. 2021
    (arXiv:2010.11929), equation 1.
    """

    claim: Claim = "proved"

    def __init__(self, d: int, **options: Unpack[AtomOptions]) -> None:
        super().__init__((d,), Vectors(RMS, axes=1), fan_out=d, fan_in=d, **options)

    def radius(self, *inputs: Radius) -> Radius:
        return max(total_radius(inputs), 1.0)

    def weight_sensitivity(self, *inputs: Radius) -> float:
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        if x.dim() < 2:
            raise ValueError(
                f"{self!r} takes [..., position, d], got a tensor of shape {list(x.shape)}"
            )
        token = self.weight.to(x.dtype).expand(*x.shape[:-2], 1, -1)
        return torch.cat((token, x), dim=-2)

    def extra_repr(self) -> str:
        return str(self.weight.shape[0])
