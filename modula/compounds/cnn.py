"""`ResCNN`: residual networks of convolutions."""

from __future__ import annotations

from modula.algebra.core import Composition, Elementwise
from modula.atoms import Conv2D, Linear
from modula.bonds import AvgPool, ReLU
from modula.compounds.residual import residual
from modula.norms import RMS, ChannelRMS


class ResCNN(Composition[ChannelRMS, RMS]):
    """A residual network of convolutions that classifies images of any size.

    A convolution into the width, L residual blocks of `block_depth` pairs Conv2D @ activation, the
    mean over all pixels, and a Linear.

    Sensitivity 1 and radius R for an activation with these: proved, if the activation's are.

    Args:
        fan_out: the width of the output, such as the number of classes.
        in_channels: of the images.
        width: the channels of the blocks.
        num_blocks: L, at least 1.
        block_depth: convolutions in a block, at least 1.
        block_mass: the mass of all blocks together; the first and the last layer have 1 each.
        kernel_size: of all convolutions.
        activation: an elementwise bond; None takes ReLU.

    Raises:
        ValueError: a count or width below 1, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import ResCNN
        >>> ResCNN(10, 3, width=16, num_blocks=2)(torch.randn(4, 3, 32, 32)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        fan_out: int,
        in_channels: int,
        *,
        width: int,
        num_blocks: int,
        block_depth: int = 2,
        block_mass: float = 1.0,
        kernel_size: int = 3,
        activation: Elementwise | None = None,
    ) -> None:
        if num_blocks < 1 or block_depth < 1:
            raise ValueError(
                f"ResCNN has at least 1 block of at least 1 layer, got num_blocks={num_blocks}, "
                f"block_depth={block_depth}"
            )
        bond = ReLU() if activation is None else activation
        block = (Conv2D(width, width, kernel_size) @ bond) ** block_depth
        blocks = (residual(block, num_blocks) ** num_blocks).tare(block_mass)
        super().__init__(
            Linear(fan_out, width)
            @ AvgPool()
            @ bond
            @ blocks
            @ Conv2D(width, in_channels, kernel_size)
        )
        self.arguments: str = (
            f"{fan_out}, {in_channels}, width={width}, num_blocks={num_blocks}, "
            f"block_depth={block_depth}"
        )

    def extra_repr(self) -> str:
        return self.arguments
