"""`ResNet`: residual networks of convolutions in stages, each of half the image's size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

from modula.algebra.core import Composition, Elementwise, Module
from modula.atoms import Conv2D, Linear
from modula.bonds import AvgPool, ChannelGroupNorm, ChannelRMSNorm, ReLU
from modula.compounds.residual import residual
from modula.norms import RMS, ChannelRMS

ImageNorm: TypeAlias = Callable[[int], Module[ChannelRMS, ChannelRMS]]
"""Makes the normalisation of images from their number of channels, as `ChannelBatchNorm` does."""


class ResNet(Composition[ChannelRMS, RMS]):
    """A residual network of convolutions that classifies images of any size.

    A convolution into the first width, stages of basic blocks, a norm, the activation, the mean
    over all pixels, and a Linear. A block is Conv2D @ activation @ norm, twice, averaged with its
    input as by `residual`. The first block of every stage but the first has stride 2 and goes to
    the width of its stage; a 1×1 convolution takes the place of its input.

    Sensitivity |final_scale| and radius |final_scale| for an activation of sensitivity 1:
    conditional as the norm is; an estimate with one that is an estimate.

    Args:
        fan_out: the width of the output, such as the number of classes.
        in_channels: of the images.
        widths: the number of channels of each stage.
        blocks: the number of blocks in a stage.
        norm: makes a norm from a number of channels; None takes `ChannelRMSNorm`. With
            `ChannelBatchNorm` the network has running statistics.
        kernel_size: of the convolutions, odd.
        activation: an elementwise bond; None takes ReLU.
        block_mass: the mass of all blocks together; the first and the last layer have 1 each.
        final_scale: multiplies the logits.

    Raises:
        ValueError: no stage, a count or width below 1, an even kernel, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import ChannelBatchNorm, ResNet
        >>> model = ResNet(10, 3, widths=(8, 16), blocks=1, norm=ChannelBatchNorm)
        >>> model(torch.randn(4, 3, 32, 32)).shape
        torch.Size([4, 10])

    Source: He et al. 2016 (arXiv:1603.05027), section 3, for the order of the layers in a block.
    """

    def __init__(
        self,
        fan_out: int,
        in_channels: int,
        *,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 2,
        norm: ImageNorm | None = None,
        kernel_size: int = 3,
        activation: Elementwise | None = None,
        block_mass: float = 5.0,
        final_scale: float = 1.0,
    ) -> None:
        if not widths or blocks < 1 or kernel_size % 2 == 0:
            raise ValueError(
                "ResNet has at least 1 stage of at least 1 block, whose kernels are odd; got "
                f"widths={tuple(widths)}, blocks={blocks}, kernel_size={kernel_size}"
            )
        made = plain_norm if norm is None else norm
        bond = ReLU() if activation is None else activation
        channels = [width for width in widths for _ in range(blocks)]
        network: Module[ChannelRMS, ChannelRMS] = Conv2D(widths[0], in_channels, kernel_size)
        for i, (inside, outside) in enumerate(pairwise([widths[0], *channels])):
            stride = 2 if i and i % blocks == 0 else 1
            block = _block(outside, inside, stride, made, bond, kernel_size, len(channels))
            network = block.tare(block_mass / len(channels)) @ network
        last = unit(bond) @ made(widths[-1])
        head = Linear(fan_out, widths[-1]) @ AvgPool() @ last
        super().__init__(final_scale * (head @ network))
        self.arguments: str = f"{fan_out}, {in_channels}, widths={tuple(widths)}, blocks={blocks}"

    def extra_repr(self) -> str:
        return self.arguments


def plain_norm(width: int) -> Module[ChannelRMS, ChannelRMS]:
    """Return the norm of every pixel by its RMS."""
    return ChannelRMSNorm()


def whole_norm(width: int) -> Module[ChannelRMS, ChannelRMS]:
    """Return the norm of an image by the statistics of all its entries."""
    return ChannelGroupNorm(1)


def normalized(
    layer: Module[ChannelRMS, ChannelRMS], width: int, norm: ImageNorm, activation: Elementwise
) -> Module[ChannelRMS, ChannelRMS]:
    """Return a layer of the activation, scaled to sensitivity 1, of normalised pixels.

    Args:
        layer: a convolution.
        width: the number of its input channels.
        norm: makes the norm from it.
        activation: an elementwise bond.
    """
    return layer @ unit(activation) @ norm(width)


def unit(activation: Elementwise) -> Elementwise:
    """Return an activation scaled to sensitivity 1."""
    s = activation.sensitivity
    return activation if s == 1 else activation / s


def _block(
    outside: int,
    inside: int,
    stride: int,
    norm: ImageNorm,
    activation: Elementwise,
    kernel_size: int,
    num_branches: int,
) -> Module[ChannelRMS, ChannelRMS]:
    """A basic block from `inside` to `outside` channels."""
    first = normalized(Conv2D(outside, inside, kernel_size, stride), inside, norm, activation)
    second = normalized(Conv2D(outside, outside, kernel_size), outside, norm, activation)
    branch = second @ first
    if stride == 1 and inside == outside:
        return residual(branch, num_branches)
    return residual(branch, num_branches, Conv2D(outside, inside, 1, stride))
