"""A ResNet and a ViT as they are usually written in torch: `ResNet18` and `ViT`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions with BatchNorm, added to the input or to a projection of it."""

    def __init__(self, fan_out: int, fan_in: int, stride: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(fan_in, fan_out, 3, stride, padding=1, bias=False)
        self.norm_1 = nn.BatchNorm2d(fan_out)
        self.conv_2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.norm_2 = nn.BatchNorm2d(fan_out)
        self.skip = (
            nn.Identity()
            if (fan_out, stride) == (fan_in, 1)
            else nn.Sequential(
                nn.Conv2d(fan_in, fan_out, 1, stride, bias=False), nn.BatchNorm2d(fan_out)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu(self.norm_1(self.conv_1(x)))
        return F.relu(self.norm_2(self.conv_2(inside)) + self.skip(x))


class ResNet18(nn.Module):
    """A ResNet-18 for small images: its first convolution has 3×3 taps and no stride.

    Args:
        classes: number of logits.
        channels: of the images.
        width: channels of the first of four stages, which double from stage to stage.

    Example:
        >>> ResNet18(10, channels=1, width=8)(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])

    Source: He et al. 2015 (arXiv:1512.03385), table 1, and section 4.2 for small images.
    """

    def __init__(self, classes: int, *, channels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.Sequential(
            *[
                nn.Sequential(Residual(out, into, stride), Residual(out, out, 1))
                for into, out, stride in zip(widths, widths[1:], (1, 2, 2, 2), strict=False)
            ]
        )
        self.head = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [batch, class] for images [batch, channel, height, width]."""
        x = self.stages(F.relu(self.norm(self.stem(x))))
        logits: Tensor = self.head(reduce(x, "batch channel height width -> batch channel", "mean"))
        return logits


class ViT(nn.Module):
    """A vision transformer: patches, learned positions, torch's encoder layers, a class token.

    Args:
        classes: number of logits.
        channels: of the images.
        size: height and width of the images.
        patch: height and width of a patch, a divisor of the size.
        width: number of features.
        heads: attention heads, which divide the width.
        blocks: number of layers.

    Example:
        >>> model = ViT(10, channels=1, size=28, patch=4, width=48, heads=4, blocks=3)
        >>> model(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])

    Source: Dosovitskiy et al. 2020 (arXiv:2010.11929), section 3.1.
    """

    def __init__(
        self,
        classes: int,
        *,
        channels: int,
        size: int,
        patch: int,
        width: int,
        heads: int,
        blocks: int,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(
            *[
                nn.TransformerEncoderLayer(
                    width,
                    heads,
                    4 * width,
                    dropout=0.0,
                    activation="gelu",
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(blocks)
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [batch, class] for images [batch, channel, height, width]."""
        patches = rearrange(self.patches(x), "batch width row column -> batch (row column) width")
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], dim=1) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(tokens)[:, 0]))
        return logits
