"""`Patchify` makes an image a sequence of patches, `TakePosition` takes one vector out of it."""

from __future__ import annotations

import math

from einops import rearrange
from torch import Tensor

from modula.algebra.core import Bond
from modula.algebra.pixels import check_layout, per_axis, written
from modula.bonds.base import SameSpace
from modula.bonds.multiples import meet_multiple
from modula.checks import Claim
from modula.norms import RMS, ChannelRMS
from modula.spaces import AnySpace, Signature


class Patchify(Bond[ChannelRMS, RMS]):
    """Patches that do not overlap, as vectors in the order in which an image is read.

    [batch, channel, height, width] -> [batch, patch, channel·patch_height·patch_width].

    `Linear(d, …) @ Patchify(p)` is the convolution of kernel size and stride p, with one matrix as
    its weight, whose norm is the RMS → RMS norm of that matrix.

    Sensitivity 1, radius R: proved, since the mean square over a patch is at most the largest over
    one of its pixels.

    Args:
        patch_size: the height and the width of a patch, as a number or a tuple.

    Raises:
        ValueError: a size below 1; when an image is given, one that does not divide into patches.

    Example:
        >>> import torch
        >>> from modula import Linear, Patchify
        >>> embedded = Linear(64, 3 * 16 * 16) @ Patchify(16)
        >>> embedded(torch.randn(8, 3, 32, 48)).shape
        torch.Size([8, 6, 64])

    Source: Dosovitskiy et al. 2021 (arXiv:2010.11929), section 3.1.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def __init__(self, patch_size: int | tuple[int, int]) -> None:
        super().__init__()
        self.patch_size: tuple[int, ...] = per_axis("Patchify", 2, "patch_size", patch_size)

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        image, patches = super().unify(domain, codomain)
        return meet_multiple(image, patches, math.prod(self.patch_size), (ChannelRMS, RMS))

    def forward(self, x: Tensor) -> Tensor:
        check_layout(self, 2, x)
        height, width = self.patch_size
        if x.shape[-2] % height or x.shape[-1] % width:
            raise ValueError(
                f"{self!r} takes images that divide into patches of {height}×{width} pixels; got a "
                f"tensor of shape {list(x.shape)}"
            )
        return rearrange(
            x,
            "batch channel (row height) (column width) -> "
            "batch (row column) (channel height width)",
            height=height,
            width=width,
        )

    def extra_repr(self) -> str:
        return written(self.patch_size)


class TakePosition(SameSpace[RMS, RMS]):
    """The vector at one position, such as that of a class token: [..., position, d] -> [..., d].

    Sensitivity 1, radius R: proved, since the norm of a sequence is the largest of its vectors'.

    Args:
        index: of the position; negative ones count from the end.

    Raises:
        IndexError: when a sequence is given, one that has no such position.

    Example:
        >>> import torch
        >>> from modula import TakePosition
        >>> TakePosition(-1)(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([[3., 4.]])
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def __init__(self, index: int = 0) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2 or not -x.shape[-2] <= self.index < x.shape[-2]:
            raise IndexError(
                f"{self!r} takes [..., position, d] with a position {self.index}; got a tensor of "
                f"shape {list(x.shape)}"
            )
        return x.select(-2, self.index)

    def extra_repr(self) -> str:
        return str(self.index)
