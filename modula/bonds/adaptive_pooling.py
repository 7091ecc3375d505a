"""Pooling over windows that divide an image of any size into a given number of pixels."""

from __future__ import annotations

from typing import ClassVar, Generic

from torch import Tensor
from torch.nn import functional as F

from modula.algebra.pixels import Sizes, check_layout, per_axis, written
from modula.bonds.base import SameSpace
from modula.checks import Claim
from modula.norms import ChannelRMS


class AdaptivePooling(SameSpace[ChannelRMS, ChannelRMS], Generic[Sizes]):
    """A bond that pools to a given number of pixels, along axes whose number a subclass sets.

    Args:
        output_size: of the result, a number for all pixel axes or a tuple.

    Raises:
        ValueError: a size below 1, or a tuple of another length.
    """

    pixel_axes: ClassVar[int]
    """The number of axes of pixels: 1 for sequences, 2 for images, 3 for volumes."""

    def __init__(self, output_size: int | Sizes) -> None:
        super().__init__()
        name = type(self).__name__
        self.output_size: tuple[int, ...] = per_axis(
            name, self.pixel_axes, "output_size", output_size
        )

    def extra_repr(self) -> str:
        return written(self.output_size)


class AdaptiveAveragePooling(AdaptivePooling[Sizes]):
    """The means of windows that divide an image of any size into a given number of pixels.

    Sensitivity 1, radius R: proved, since a mean of pixels is no longer than the longest.

    `AdaptiveAvgPool1D`, `AdaptiveAvgPool2D` and `AdaptiveAvgPool3D` take [batch, channel, *pixels]
    with 1, 2 and 3 pixel axes.

    Args:
        output_size: of the result, a number for all pixel axes or a tuple.

    Raises:
        ValueError: a size below 1, or a tuple of another length.

    Example:
        >>> import torch
        >>> from modula import AdaptiveAvgPool2D
        >>> AdaptiveAvgPool2D(4)(torch.randn(8, 16, 30, 19)).shape
        torch.Size([8, 16, 4, 4])
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        check_layout(self, self.pixel_axes, x)
        match self.output_size:
            case (positions,):
                return F.adaptive_avg_pool1d(x, positions)
            case (height, width):
                return F.adaptive_avg_pool2d(x, (height, width))
        depth, height, width = self.output_size
        return F.adaptive_avg_pool3d(x, (depth, height, width))


class AdaptiveMaxPooling(AdaptivePooling[Sizes]):
    """The largest value of each channel in windows that divide an image of any size.

    Sensitivity 1, radius R: conditional, as for `MaxPooling`, on images (and changes of them) whose
    entries are no larger than the largest RMS of a pixel.

    `AdaptiveMaxPool1D`, `AdaptiveMaxPool2D` and `AdaptiveMaxPool3D` take [batch, channel, *pixels]
    with 1, 2 and 3 pixel axes. An output size of 1 takes the maximum over all pixels.

    Args:
        output_size: of the result, a number for all pixel axes or a tuple.

    Raises:
        ValueError: a size below 1, or a tuple of another length.

    Example:
        >>> import torch
        >>> from modula import AdaptiveMaxPool2D
        >>> AdaptiveMaxPool2D(1)(torch.randn(8, 16, 30, 19)).shape
        torch.Size([8, 16, 1, 1])
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    def forward(self, x: Tensor) -> Tensor:
        check_layout(self, self.pixel_axes, x)
        pools = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
        pooled: Tensor = pools[self.pixel_axes - 1](x, self.output_size)
        return pooled


class AdaptiveAvgPool1D(AdaptiveAveragePooling[tuple[int]]):
    """The means of windows that divide sequences [batch, channel, position].

    Sensitivity 1, radius R: proved, as for `AdaptiveAveragePooling`, which has the arguments.
    """

    pixel_axes: ClassVar[int] = 1


class AdaptiveAvgPool2D(AdaptiveAveragePooling[tuple[int, int]]):
    """The means of windows that divide images [batch, channel, height, width].

    Sensitivity 1, radius R: proved, as for `AdaptiveAveragePooling`, which has the arguments.
    """

    pixel_axes: ClassVar[int] = 2


class AdaptiveAvgPool3D(AdaptiveAveragePooling[tuple[int, int, int]]):
    """The means of windows that divide volumes [batch, channel, depth, height, width].

    Sensitivity 1, radius R: proved, as for `AdaptiveAveragePooling`, which has the arguments.
    """

    pixel_axes: ClassVar[int] = 3


class AdaptiveMaxPool1D(AdaptiveMaxPooling[tuple[int]]):
    """The largest values in windows that divide sequences [batch, channel, position].

    Sensitivity 1, radius R: conditional, as for `AdaptiveMaxPooling`, which has the arguments.
    """

    pixel_axes: ClassVar[int] = 1


class AdaptiveMaxPool2D(AdaptiveMaxPooling[tuple[int, int]]):
    """The largest values in windows that divide images [batch, channel, height, width].

    Sensitivity 1, radius R: conditional, as for `AdaptiveMaxPooling`, which has the arguments.
    """

    pixel_axes: ClassVar[int] = 2


class AdaptiveMaxPool3D(AdaptiveMaxPooling[tuple[int, int, int]]):
    """The largest values in windows that divide volumes [batch, channel, depth, height, width].

    Sensitivity 1, radius R: conditional, as for `AdaptiveMaxPooling`, which has the arguments.
    """

    pixel_axes: ClassVar[int] = 3
