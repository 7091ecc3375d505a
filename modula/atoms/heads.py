"""`HeadLinear`: matrices from feature vectors to attention heads, one for each head."""

from __future__ import annotations

from typing import ClassVar

from einops import rearrange
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from modula.algebra.core import Atom, AtomOptions
from modula.checks import Acts, Claim
from modula.geometry import operator_geometry
from modula.norms import RMS, HeadRMS


class HeadLinear(Atom[RMS, HeadRMS]):
    """[batch, position, fan_in] -> [batch, num_heads, position, d_head], by one matrix a head.

    The weight has the layout [num_heads·d_head, fan_in] of a Linear that is followed by
    `SplitIntoHeads(num_heads)`, and computes the same. Its norm is the largest RMS → RMS norm of a
    head's block of d_head rows, and each block has a duality map of its own.

    Sensitivity 1, radius R: proved, since every head is a linear map of norm at most 1. Queries,
    keys and values of RMS at most 1, which `FunctionalAttention` asks for, follow from ‖x‖ ≤ 1 and
    ‖w‖ ≤ 1.

    Args:
        num_heads: the number of heads.
        d_head: the width of a head.
        fan_in: the width of the input.
        mass, device, dtype: as for every atom.

    Raises:
        ValueError: a number or a width below 1, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import HeadLinear
        >>> HeadLinear(4, 16, 64)(torch.randn(2, 10, 64)).shape
        torch.Size([2, 4, 10, 16])

    Source: Large et al. 2024 (arXiv:2405.14813), appendix B.3, with the norm of its heads taken
    head by head.
    """

    claim: Claim = "proved"
    acts: ClassVar[Acts] = "head_matrix"

    def __init__(
        self, num_heads: int, d_head: int, fan_in: int, **options: Unpack[AtomOptions]
    ) -> None:
        geometry = operator_geometry(RMS, HeadRMS, num_heads=num_heads)
        super().__init__(
            (num_heads * d_head, fan_in), geometry, fan_out=d_head, fan_in=fan_in, **options
        )
        self.num_heads = num_heads

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        return rearrange(
            F.linear(x, self.weight),
            "... position (head d_head) -> ... head position d_head",
            d_head=self.weight.shape[0] // self.num_heads,
        )

    def extra_repr(self) -> str:
        rows, fan_in = self.weight.shape
        return f"{self.num_heads}, {rows // self.num_heads}, {fan_in}"
