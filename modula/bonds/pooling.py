"""Pooling over windows of pixels, with images as the result.

`adaptive_pooling` has windows that divide an image of any size; `AvgPool` pools over all pixels.
"""

from __future__ import annotations

from typing import ClassVar, Generic

from torch import Tensor
from torch.nn import functional as F

from modula.algebra.pixels import Sizes, check_layout, per_axis, written
from modula.bonds.base import SameSpace
from modula.checks import Claim
from modula.norms import ChannelRMS


class Windows(SameSpace[ChannelRMS, ChannelRMS], Generic[Sizes]):
    """A bond that pools over windows of pixels, in a number of dimensions that a subclass sets.

    Args:
        kernel_size: of a window, a number for all pixel axes or a tuple.
        stride: the distance between windows; None takes the size of a window.
        padding: pixels on each side, at most half of a window.

    Raises:
        ValueError: a size or stride below 1, padding below 0 or above half of a window, or a tuple
            of another length.
    """

    pixel_axes: ClassVar[int]
    """The number of axes of pixels: 1 for sequences, 2 for images, 3 for volumes."""

    def __init__(
        self,
        kernel_size: int | Sizes = 2,
        stride: int | Sizes | None = None,
        padding: int | Sizes = 0,
    ) -> None:
        super().__init__()
        name, axes = type(self).__name__, self.pixel_axes
        self.kernel_size: tuple[int, ...] = per_axis(name, axes, "kernel_size", kernel_size)
        step = kernel_size if stride is None else stride
        self.stride: tuple[int, ...] = per_axis(name, axes, "stride", step)
        self.padding: tuple[int, ...] = per_axis(name, axes, "padding", padding)
        if any(p > k // 2 for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(
                f"{name} takes padding of at most half of a window; got padding={padding}, "
                f"kernel_size={kernel_size}"
            )

    def extra_repr(self) -> str:
        stride = "" if self.stride == self.kernel_size else f", stride={written(self.stride)}"
        padding = f", padding={written(self.padding)}" if any(self.padding) else ""
        return f"{written(self.kernel_size)}{stride}{padding}"


class MaxPooling(Windows[Sizes]):
    """The largest value of each channel in each window.

    Sensitivity 1, radius R: conditional on images (and changes of them) whose entries are no larger
    than the largest RMS of a pixel. If each channel takes its maximum from another pixel, the RMS
    of an output pixel grows by up to the square root of the number of pixels in a window, or of
    channels if these are fewer, which bounds every case.

    `MaxPool1D`, `MaxPool2D` and `MaxPool3D` take [batch, channel, *pixels] with 1, 2 and 3 pixel
    axes.

    Args:
        kernel_size, stride, padding: of the windows; the values of padding pixels do not count.

    Raises:
        ValueError: as for all windows.

    Example:
        >>> import torch
        >>> from modula import MaxPool2D
        >>> MaxPool2D(3, stride=2, padding=1)(torch.randn(8, 16, 32, 32)).shape
        torch.Size([8, 16, 16, 16])
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    def forward(self, x: Tensor) -> Tensor:
        check_layout(self, self.pixel_axes, x)
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[self.pixel_axes - 1]
        return pool(x, self.kernel_size, self.stride, self.padding)


class MaxPool1D(MaxPooling[tuple[int]]):
    """The largest value in each window of sequences [batch, channel, position].

    Sensitivity 1, radius R: conditional, as for `MaxPooling`, which has the arguments.
    """

    pixel_axes: ClassVar[int] = 1


class MaxPool2D(MaxPooling[tuple[int, int]]):
    """The largest value in each window of images [batch, channel, height, width].

    Sensitivity 1, radius R: conditional, as for `MaxPooling`, which has the arguments.
    """

    pixel_axes: ClassVar[int] = 2


class MaxPool3D(MaxPooling[tuple[int, int, int]]):
    """The largest value in each window of volumes [batch, channel, depth, height, width].

    Sensitivity 1, radius R: conditional, as for `MaxPooling`, which has the arguments.
    """

    pixel_axes: ClassVar[int] = 3


class AveragePooling(Windows[Sizes]):
    """The mean of each channel in each window.

    Sensitivity 1, radius R: proved, since a mean of pixels is no longer than the longest, and
    padding pixels are zero.

    `AvgPool1D`, `AvgPool2D` and `AvgPool3D` take [batch, channel, *pixels] with 1, 2 and 3 pixel
    axes.

    Args:
        kernel_size, stride, padding: of the windows; padding pixels count as zeros.

    Raises:
        ValueError: as for all windows.

    Example:
        >>> import torch
        >>> from modula import AvgPool2D
        >>> AvgPool2D(2)(torch.randn(8, 16, 32, 32)).shape
        torch.Size([8, 16, 16, 16])
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        check_layout(self, self.pixel_axes, x)
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[self.pixel_axes - 1]
        return pool(x, self.kernel_size, self.stride, self.padding)


class AvgPool1D(AveragePooling[tuple[int]]):
    """The mean of each window of sequences [batch, channel, position].

    Sensitivity 1, radius R: proved, as for `AveragePooling`, which has the arguments.
    """

    pixel_axes: ClassVar[int] = 1


class AvgPool2D(AveragePooling[tuple[int, int]]):
    """The mean of each window of images [batch, channel, height, width].

    Sensitivity 1, radius R: proved, as for `AveragePooling`, which has the arguments.
    """

    pixel_axes: ClassVar[int] = 2


class AvgPool3D(AveragePooling[tuple[int, int, int]]):
    """The mean of each window of volumes [batch, channel, depth, height, width].

    Sensitivity 1, radius R: proved, as for `AveragePooling`, which has the arguments.
    """

    pixel_axes: ClassVar[int] = 3
