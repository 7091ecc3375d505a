"""Convolutions of sequences, images and volumes."""

from __future__ import annotations

import itertools
from typing import ClassVar, Literal, TypeAlias

from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from modula.algebra.core import AtomOptions
from modula.algebra.pixels import Sizes
from modula.atoms.conv_kernel import Kernel
from modula.geometry import convolution_geometry

PaddingMode: TypeAlias = Literal["zeros", "reflect", "replicate", "circular"]
"""The values of the pixels that pad an image: zeros, or those of existing pixels."""

_MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "replicate",
    "circular": "circular",
}
"""The names of the modes in `torch.nn.functional.pad`."""


class Convolution(Kernel[Sizes]):
    """Convolution by a kernel of shape [out_channels, in_channels/groups, *kernel_size].

    Sensitivity 1, radius R: proved. An output pixel is a sum of one tap for each pixel of the
    kernel, each applied to one input pixel, which padding makes zero or takes from elsewhere in the
    image. The norm of the kernel is the number of taps times the largest RMS → RMS norm of a tap
    within a group. Where no two output pixels read the same input pixel, it is the RMS → RMS norm
    of one matrix for each group, from the patch to the output pixel.

    `Conv1D`, `Conv2D` and `Conv3D` take [batch, in_channels, *pixels] with 1, 2 and 3 pixel axes.

    Args:
        out_channels: the number of channels of the output.
        in_channels: the number of channels of the input.
        kernel_size: of each pixel axis, a number for all or a tuple.
        stride: the distance between input pixels under neighbouring output pixels.
        padding: pixels on each side; "same" keeps the size of the image, at stride 1; None takes
            dilation·(kernel_size // 2), which does so for odd kernels.
        dilation: the distance between input pixels under neighbouring taps.
        groups: the channels are divided into groups, each of which is mapped by itself; as many as
            there are channels for a depthwise convolution.
        padding_mode: the padding pixels are zero, or mirrored ("reflect"), or the nearest
            ("replicate"), or those of the opposite side ("circular").
        mass, device, dtype: as for every atom.

    Raises:
        ValueError: a width, size, stride or dilation below 1, negative padding, a tuple of another
            length, channels that do not split into the groups, "same" with a stride, or a negative
            mass.

    Example:
        >>> import torch
        >>> from modula import Conv1D
        >>> Conv1D(16, 8, 5, padding="same", groups=4)(torch.randn(2, 8, 100)).shape
        torch.Size([2, 16, 100])

    Source: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4.1.
    """

    def __init__(
        self,
        out_channels: int,
        in_channels: int,
        kernel_size: int | Sizes = 3,
        stride: int | Sizes = 1,
        padding: int | Sizes | Literal["same"] | None = None,
        *,
        dilation: int | Sizes = 1,
        groups: int = 1,
        padding_mode: PaddingMode = "zeros",
        **options: Unpack[AtomOptions],
    ) -> None:
        kernel = self.per_axis("kernel_size", kernel_size)
        self.check_groups(groups, out_channels, in_channels)
        strides = self.per_axis("stride", stride)
        dilations = self.per_axis("dilation", dilation)
        before, after = self._padding(padding, kernel, strides, dilations)
        if padding_mode not in _MODES:
            raise ValueError(
                f"{type(self).__name__} takes a padding_mode among {', '.join(map(repr, _MODES))}; "
                f"got {padding_mode!r}"
            )
        super().__init__(
            (out_channels, in_channels // groups, *kernel),
            convolution_geometry(kernel, strides, dilations, groups),
            out_channels=out_channels,
            in_channels=in_channels,
            groups=groups,
            **options,
        )
        self.stride: tuple[int, ...] = strides
        self.dilation: tuple[int, ...] = dilations
        self.padding: tuple[int, ...] = before
        self.padding_after: tuple[int, ...] = after
        self.padding_mode: PaddingMode = padding_mode

    def forward(self, x: Tensor) -> Tensor:
        self.check_image(x)
        padding = self.padding
        if self.padding_mode != "zeros" or self.padding != self.padding_after:
            sides = zip(reversed(self.padding), reversed(self.padding_after), strict=True)
            x = F.pad(x, list(itertools.chain(*sides)), _MODES[self.padding_mode])
            padding = (0,) * self.pixel_axes
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.pixel_axes - 1]
        return convolve(x, self.weight, None, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        ones = (1,) * self.pixel_axes
        symmetric = self.padding == self.padding_after
        usual = _halves(tuple(self.weight.shape[2:]), self.dilation)
        return self.written_arguments(
            {
                "stride": (self.stride, ones),
                "padding": (self.padding if symmetric else "same", usual),
                "dilation": (self.dilation, ones),
                "groups": (self.groups, 1),
                "padding_mode": (self.padding_mode, "zeros"),
            }
        )

    @classmethod
    def _padding(
        cls,
        padding: int | tuple[int, ...] | Literal["same"] | None,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The padding before and after the pixels of each axis.

        Raises:
            ValueError: the padding is negative, or "same" with a stride.
        """
        if padding is None:
            sides = _halves(kernel, dilation)
            return sides, sides
        if not isinstance(padding, str):
            sides = cls.per_axis("padding", padding)
            return sides, sides
        if padding != "same" or max(stride) > 1:
            raise ValueError(
                f"{cls.__name__} takes padding as numbers, or as 'same' at stride 1, which keeps "
                f"the size of an image; got padding={padding!r}, stride={stride}"
            )
        spans = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple([s // 2 for s in spans]), tuple([s - s // 2 for s in spans])


class Conv1D(Convolution[tuple[int]]):
    """Convolution of sequences [batch, channel, position].

    Sensitivity 1, radius R: proved, as for `Convolution`, which has the arguments.

    Example:
        >>> import torch
        >>> from modula import Conv1D
        >>> Conv1D(16, 3)(torch.randn(8, 3, 100)).shape
        torch.Size([8, 16, 100])
    """

    pixel_axes: ClassVar[int] = 1


class Conv2D(Convolution[tuple[int, int]]):
    """Convolution of images [batch, channel, height, width].

    Sensitivity 1, radius R: proved, as for `Convolution`, which has the arguments.

    Example:
        >>> import torch
        >>> from modula import Conv2D
        >>> Conv2D(16, 3)(torch.randn(8, 3, 32, 32)).shape
        torch.Size([8, 16, 32, 32])
    """

    pixel_axes: ClassVar[int] = 2


class Conv3D(Convolution[tuple[int, int, int]]):
    """Convolution of volumes [batch, channel, depth, height, width].

    Sensitivity 1, radius R: proved, as for `Convolution`, which has the arguments.

    Example:
        >>> import torch
        >>> from modula import Conv3D
        >>> Conv3D(16, 3)(torch.randn(2, 3, 8, 8, 8)).shape
        torch.Size([2, 16, 8, 8, 8])
    """

    pixel_axes: ClassVar[int] = 3


def _halves(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """The padding that keeps the size of an image, for odd kernels at stride 1."""
    return tuple([d * (k // 2) for k, d in zip(kernel, dilation, strict=True)])
