"""`UNet`: images to images, at several resolutions that skip connections join."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modula.algebra.core import Composition, Elementwise, Identity, Module
from modula.atoms import Conv2D, ConvTranspose2D
from modula.bonds import Concat, ReLU
from modula.compounds.resnet import ImageNorm, normalized, whole_norm
from modula.norms import ChannelRMS
from modula.values import Value, leaves


class UNet(Composition[ChannelRMS, ChannelRMS]):
    """A network of convolutions from images to images of the same size, at several resolutions.

    At each level but the last, an image is convolved, goes down to half its size by a convolution
    of stride 2, through the levels below and up again by a transposed convolution, is joined with
    the image that went down by `Concat`, and is convolved again. The joined image is divided by √2,
    so that the two ways together have sensitivity 1.

    Sensitivity |final_scale| and radius |final_scale| for an activation of sensitivity 1:
    estimates, as `ChannelGroupNorm` is; conditional with a norm that is.

    Args:
        out_channels, in_channels: of the images.
        widths: the number of channels of each level, from the whole image down.
        norm: makes a norm from a number of channels; None takes `ChannelGroupNorm(1)`, which
            normalises an image as a whole. `ChannelRMSNorm` would make all pixels of equal size.
        kernel_size: of the convolutions, odd.
        activation: an elementwise bond; None takes ReLU.
        level_mass: the mass of all levels together; the first and the last layer have 1 each.
        final_scale: multiplies the output.

    Raises:
        ValueError: no level, a width below 1, an even kernel, or a negative mass; in the forward
            pass, an image whose height and width are not multiples of 2^(levels − 1).

    Example:
        >>> import torch
        >>> from modula import UNet
        >>> UNet(1, 1, widths=(8, 16, 32))(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 1, 28, 28])

    Source: Ronneberger et al. 2015 (arXiv:1505.04597), figure 1.
    """

    def __init__(
        self,
        out_channels: int,
        in_channels: int,
        *,
        widths: Sequence[int] = (16, 32, 64),
        norm: ImageNorm | None = None,
        kernel_size: int = 3,
        activation: Elementwise | None = None,
        level_mass: float = 5.0,
        final_scale: float = 1.0,
    ) -> None:
        if not widths or kernel_size % 2 == 0:
            raise ValueError(
                f"UNet has at least 1 level and odd kernels; got widths={tuple(widths)}, "
                f"kernel_size={kernel_size}"
            )
        made = whole_norm if norm is None else norm
        bond = ReLU() if activation is None else activation
        levels = _levels(widths, made, bond, kernel_size).tare(level_mass)
        head = normalized(Conv2D(out_channels, widths[0], 1), widths[0], made, bond)
        super().__init__(
            final_scale * (head @ levels @ Conv2D(widths[0], in_channels, kernel_size))
        )
        self.multiple: int = 2 ** (len(widths) - 1)
        self.arguments: str = f"{out_channels}, {in_channels}, widths={tuple(widths)}"

    def forward(self, x: Value) -> Value:
        for image in leaves(x):
            if any(size % self.multiple for size in image.shape[2:]):
                raise ValueError(
                    f"{self!r} takes images whose height and width are multiples of "
                    f"{self.multiple}; got a tensor of shape {list(image.shape)}: pad it"
                )
        return super().forward(x)

    def extra_repr(self) -> str:
        return self.arguments


def _levels(
    widths: Sequence[int], norm: ImageNorm, activation: Elementwise, kernel_size: int
) -> Module[ChannelRMS, ChannelRMS]:
    """The level of the first width, with all levels below it."""
    width, *below = widths
    before = normalized(Conv2D(width, width, kernel_size), width, norm, activation)
    if not below:
        return before
    down = normalized(Conv2D(below[0], width, 2, 2, 0), width, norm, activation)
    up = ConvTranspose2D(width, below[0])
    ways = Concat(width, width, norm=ChannelRMS) @ (
        Identity(),
        up @ _levels(below, norm, activation, kernel_size) @ down,
    )
    after = normalized(Conv2D(width, 2 * width, kernel_size), 2 * width, norm, activation)
    return after @ (math.sqrt(1 / 2) * ways) @ before
