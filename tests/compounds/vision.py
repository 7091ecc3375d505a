"""Small networks for images, with an input of each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from modula import ChannelBatchNorm, ChannelGroupNorm, Module, ResNet, UNet, ViT

Network = Callable[[], Module]

NETWORKS: dict[str, tuple[Network, tuple[int, ...]]] = {
    "ResNet": (lambda: ResNet(3, 2, widths=(4, 6), blocks=1), (2, 2, 6, 5)),
    "ResNet, batch norm": (
        lambda: ResNet(3, 2, widths=(4, 4), blocks=2, norm=ChannelBatchNorm),
        (3, 2, 4, 4),
    ),
    "UNet": (lambda: UNet(1, 2, widths=(4, 6, 8)), (2, 2, 8, 4)),
    "UNet, group norm": (
        lambda: UNet(2, 1, widths=(4,), norm=lambda width: ChannelGroupNorm(2)),
        (2, 1, 3, 5),
    ),
    "ViT": (
        lambda: ViT(3, 2, image_size=(4, 6), patch_size=2, d_embed=8, num_heads=2, num_blocks=1),
        (2, 2, 4, 6),
    ),
    "ViT, class token": (
        lambda: ViT(
            3, 1, image_size=4, patch_size=2, d_embed=8, num_heads=2, num_blocks=1, pooling="class"
        ),
        (2, 1, 4, 4),
    ),
}


def made(name: str) -> tuple[Module, Tensor]:
    """A network with weights that follow from a seed, and an input."""
    network, size = NETWORKS[name]
    torch.manual_seed(0)
    return network(), torch.randn(size)
