"""Bonds that change the number of pixels of an image."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from torch import Tensor
from torch.nn import functional as F

from modula.algebra.core import Bond
from modula.algebra.pixels import check_layout, count_pixel_axes
from modula.bonds.base import SameSpace
from modula.bonds.multiples import meet_multiple
from modula.checks import Claim
from modula.graph import Radius
from modula.norms import ChannelRMS
from modula.spaces import AnySpace, Signature

Interpolation: TypeAlias = Literal["nearest", "linear"]
"""The value of a new pixel: that of the nearest one, or an average of those around it."""

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""The names of linear interpolation in torch, by the number of pixel axes."""


class Upsample(SameSpace[ChannelRMS, ChannelRMS]):
    """Images, sequences or volumes [batch, channel, *pixels] with more pixels.

    Sensitivity 1, radius R: proved, since every new pixel is a weighted average of pixels.

    Args:
        scale: the factor by which each pixel axis grows, finite and above 0.
        mode: "nearest", or "linear" along each axis, which is bilinear for images.

    Raises:
        ValueError: the scale is not a finite number above 0, or there is no such mode.

    Example:
        >>> import torch
        >>> from modula import Upsample
        >>> Upsample(2, "linear")(torch.randn(8, 16, 7, 7)).shape
        torch.Size([8, 16, 14, 14])
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def __init__(self, scale: float = 2, mode: Interpolation = "nearest") -> None:
        super().__init__()
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"Upsample takes a finite scale above 0, got {scale}")
        if mode not in ("nearest", "linear"):
            raise ValueError(f"Upsample takes the mode 'nearest' or 'linear', got {mode!r}")
        self.scale = scale
        self.mode: Interpolation = mode

    def forward(self, x: Tensor) -> Tensor:
        axes = count_pixel_axes(self, x)
        mode = self.mode if self.mode == "nearest" else _LINEAR[axes]
        return F.interpolate(x, scale_factor=float(self.scale), mode=mode)

    def extra_repr(self) -> str:
        return f"{self.scale:g}" + ("" if self.mode == "nearest" else f", {self.mode!r}")


class PixelShuffle(Bond[ChannelRMS, ChannelRMS]):
    """[batch, channel·r², height, width] -> [batch, channel, height·r, width·r].

    Sensitivity 1, radius R: conditional on pixels (and changes of them) whose mean square is spread
    evenly over the r² new pixels. The norm of a pixel with entries in one of them alone grows by r,
    which bounds every case.

    Args:
        r: the factor by which height and width grow.

    Raises:
        ValueError: r is below 1.

    Example:
        >>> from modula import Conv2D, PixelShuffle
        >>> str((PixelShuffle(2) @ Conv2D(16, 8)).codomain)
        'ChannelRMS(4)'

    Source: Shi et al. 2016 (arXiv:1609.05158), equation 4.
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    def __init__(self, r: int = 2) -> None:
        super().__init__()
        self.r: int = _checked_factor("PixelShuffle", r)

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        wide, narrow = super().unify(domain, codomain)
        narrow, wide = meet_multiple(narrow, wide, self.r**2, (ChannelRMS, ChannelRMS))
        return wide, narrow

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]  # under the condition of its sensitivity

    def forward(self, x: Tensor) -> Tensor:
        check_layout(self, 2, x)
        return F.pixel_shuffle(x, self.r)

    def extra_repr(self) -> str:
        return str(self.r)


class PixelUnshuffle(Bond[ChannelRMS, ChannelRMS]):
    """[batch, channel, height·r, width·r] -> [batch, channel·r², height, width].

    Sensitivity 1, radius R: proved, since the mean square over r² pixels is at most the largest of
    one of them.

    Args:
        r: the factor by which height and width shrink.

    Raises:
        ValueError: r is below 1.

    Example:
        >>> from modula import Conv2D, PixelUnshuffle
        >>> str((PixelUnshuffle(2) @ Conv2D(4, 3)).codomain)
        'ChannelRMS(16)'
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def __init__(self, r: int = 2) -> None:
        super().__init__()
        self.r: int = _checked_factor("PixelUnshuffle", r)

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        narrow, wide = super().unify(domain, codomain)
        return meet_multiple(narrow, wide, self.r**2, (ChannelRMS, ChannelRMS))

    def forward(self, x: Tensor) -> Tensor:
        check_layout(self, 2, x)
        return F.pixel_unshuffle(x, self.r)

    def extra_repr(self) -> str:
        return str(self.r)


def _checked_factor(name: str, r: int) -> int:
    if r < 1:
        raise ValueError(f"{name} takes a factor of at least 1, got {r}")
    return r
