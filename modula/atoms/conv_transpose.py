"""Transposed convolutions of sequences, images and volumes."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from modula.algebra.core import AtomOptions
from modula.algebra.pixels import Sizes
from modula.atoms.conv_kernel import Kernel
from modula.geometry import transposed_convolution_geometry


class TransposedConvolution(Kernel[Sizes]):
    """Transposed convolution by a kernel of shape [in_channels, out_channels/groups, *kernel_size].

    Sensitivity 1, radius R: proved. An output pixel is a sum of those taps that reach it from an
    input pixel, which are those whose indices agree modulo the stride (over its common divisor with
    the dilation). The norm of the kernel is the largest of these sums' numbers of taps times the
    RMS → RMS norm of one of their taps, within a group.

    `ConvTranspose1D`, `ConvTranspose2D` and `ConvTranspose3D` take [batch, in_channels, *pixels]
    with 1, 2 and 3 pixel axes. By default they double the size of an image.

    Args:
        out_channels: the number of channels of the output.
        in_channels: the number of channels of the input.
        kernel_size: of each pixel axis, a number for all or a tuple.
        stride: the distance between output pixels under neighbouring input pixels.
        padding: pixels of the output that are left out on each side.
        output_padding: pixels by which the output is larger at the end of each axis.
        dilation: the distance between output pixels under neighbouring taps.
        groups: the channels are divided into groups, each of which is mapped by itself.
        mass, device, dtype: as for every atom.

    Raises:
        ValueError: a width, size, stride or dilation below 1, negative padding, a tuple of another
            length, channels that do not split into the groups, output padding that is not below
            stride or dilation, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import ConvTranspose2D
        >>> ConvTranspose2D(16, 32)(torch.randn(8, 32, 7, 7)).shape
        torch.Size([8, 16, 14, 14])
    """

    def __init__(
        self,
        out_channels: int,
        in_channels: int,
        kernel_size: int | Sizes = 2,
        stride: int | Sizes = 2,
        padding: int | Sizes = 0,
        *,
        output_padding: int | Sizes = 0,
        dilation: int | Sizes = 1,
        groups: int = 1,
        **options: Unpack[AtomOptions],
    ) -> None:
        kernel = self.per_axis("kernel_size", kernel_size)
        strides = self.per_axis("stride", stride)
        dilations = self.per_axis("dilation", dilation)
        added = self.per_axis("output_padding", output_padding)
        self.check_groups(groups, out_channels, in_channels)
        if any(p >= max(s, d) for p, s, d in zip(added, strides, dilations, strict=True)):
            raise ValueError(
                f"{type(self).__name__} takes an output_padding below the stride or the dilation; "
                f"got output_padding={output_padding}, stride={stride}, dilation={dilation}"
            )
        sides = self.per_axis("padding", padding)
        super().__init__(
            (in_channels, out_channels // groups, *kernel),
            transposed_convolution_geometry(kernel, strides, dilations, groups),
            out_channels=out_channels,
            in_channels=in_channels,
            groups=groups,
            **options,
        )
        self.stride: tuple[int, ...] = strides
        self.dilation: tuple[int, ...] = dilations
        self.padding: tuple[int, ...] = sides
        self.output_padding: tuple[int, ...] = added

    def forward(self, x: Tensor) -> Tensor:
        self.check_image(x)
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.pixel_axes - 1]
        return convolve(
            x,
            self.weight,
            None,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )

    def extra_repr(self) -> str:
        ones = (1,) * self.pixel_axes
        zeros = (0,) * self.pixel_axes
        return self.written_arguments(
            {
                "stride": (self.stride, None),
                "padding": (self.padding, zeros),
                "output_padding": (self.output_padding, zeros),
                "dilation": (self.dilation, ones),
                "groups": (self.groups, 1),
            }
        )


class ConvTranspose1D(TransposedConvolution[tuple[int]]):
    """Transposed convolution of sequences [batch, channel, position].

    Sensitivity 1, radius R: proved, as for `TransposedConvolution`, which has the arguments.

    Example:
        >>> import torch
        >>> from modula import ConvTranspose1D
        >>> ConvTranspose1D(16, 3)(torch.randn(8, 3, 50)).shape
        torch.Size([8, 16, 100])
    """

    pixel_axes: ClassVar[int] = 1


class ConvTranspose2D(TransposedConvolution[tuple[int, int]]):
    """Transposed convolution of images [batch, channel, height, width].

    Sensitivity 1, radius R: proved, as for `TransposedConvolution`, which has the arguments.

    Example:
        >>> import torch
        >>> from modula import ConvTranspose2D
        >>> ConvTranspose2D(16, 3, 4, 2, 1)(torch.randn(8, 3, 16, 16)).shape
        torch.Size([8, 16, 32, 32])
    """

    pixel_axes: ClassVar[int] = 2


class ConvTranspose3D(TransposedConvolution[tuple[int, int, int]]):
    """Transposed convolution of volumes [batch, channel, depth, height, width].

    Sensitivity 1, radius R: proved, as for `TransposedConvolution`, which has the arguments.

    Example:
        >>> import torch
        >>> from modula import ConvTranspose3D
        >>> ConvTranspose3D(16, 3)(torch.randn(2, 3, 4, 4, 4)).shape
        torch.Size([2, 16, 8, 8, 8])
    """

    pixel_axes: ClassVar[int] = 3
