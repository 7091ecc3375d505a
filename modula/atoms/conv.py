"""`Conv2D`: a convolution of images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from modula.algebra.core import Atom, AtomOptions
from modula.checks import Claim
from modula.geometry import Taps
from modula.norms import ChannelRMS


class Conv2D(Atom[ChannelRMS, ChannelRMS]):
    """Convolution by a kernel of shape [out_channels, in_channels, k, k], zero beyond the border.

    Sensitivity 1, radius R: proved, since an output pixel is a sum of k² taps, each applied to one
    input pixel, and the norm of the kernel is k² times the largest RMS → RMS norm of a tap.

    Args:
        out_channels: the number of channels of the output.
        in_channels: the number of channels of the input.
        kernel_size: k.
        stride: the distance between input pixels under neighbouring output pixels.
        padding: pixels of zeros on each side; None takes k // 2, which keeps the image's size at
            stride 1 and odd k.
        mass, device, dtype: as for every atom.

    Raises:
        ValueError: a width, kernel size or stride below 1, negative padding, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import Conv2D
        >>> Conv2D(16, 3)(torch.randn(8, 3, 32, 32)).shape
        torch.Size([8, 16, 32, 32])

    Source: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4.1.
    """

    claim: Claim = "proved"

    def __init__(
        self,
        out_channels: int,
        in_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        **options: Unpack[AtomOptions],
    ) -> None:
        padding = kernel_size // 2 if padding is None else padding
        if stride < 1 or padding < 0:
            raise ValueError(
                "Conv2D takes a stride of at least 1 and padding of at least 0, got "
                f"stride={stride}, padding={padding}"
            )
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        super().__init__(shape, Taps(), fan_out=out_channels, fan_in=in_channels, **options)
        self.stride = stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        return F.conv2d(x, self.weight, stride=self.stride, padding=self.padding)

    def extra_repr(self) -> str:
        out_channels, in_channels, kernel_size, _ = self.weight.shape
        stride = f", stride={self.stride}" if self.stride != 1 else ""
        padding = f", padding={self.padding}" if self.padding != kernel_size // 2 else ""
        return f"{out_channels}, {in_channels}, kernel_size={kernel_size}{stride}{padding}"
