"""A U-Net that takes noise out of images of Fashion-MNIST.

python examples/families/unet.py
python examples/families/unet.py --optimizer adamw
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, cast

import images
import torch
import torch.nn.functional as F
from torch import Tensor
from training import Family, Measure, main

from modula import AnyModule, UNet

BATCH = 32
TESTED = 500
"""The number of test images on which the error is measured."""
NOISE = 0.5
"""The standard deviation of the noise, for pixels from −1 to 1."""


class UNets(Family):
    """U-Nets that find the noise in noisy images of Fashion-MNIST.

    The score is the mean square of the noise that is left, relative to the noise that was added.
    """

    title: ClassVar[str] = "U-Net, denoising"
    measure: ClassVar[Measure] = Measure("noise left", is_error=True, format=".1%")
    widths: ClassVar[tuple[int, ...]] = (4, 8)
    steps: ClassVar[int] = 150
    rates: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "modula": (0.25, 0.5, 1.0, 2.0, 4.0),
        "adamw": (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
    }
    default_data: ClassVar[Path | None] = images.FASHION_MNIST

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)
        self.train, self.test = images.load(self.data or images.FASHION_MNIST)

    def network(self, width: int) -> AnyModule:
        channels = self.train.images.shape[1]
        widths = (width, 2 * width, 4 * width)
        return UNet(channels, channels, widths=widths, final_scale=5.0)

    def loss(self, model: AnyModule, generator: torch.Generator) -> Tensor:
        clean, _ = self.train.batch(BATCH, generator)
        noise = torch.randn(clean.shape, generator=generator)
        return F.mse_loss(cast("Tensor", model(clean + NOISE * noise)), noise)

    def score(self, model: AnyModule) -> float:
        """Return the share of the noise that is left in test images."""
        clean = self.test.images[:TESTED]
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        noisy = torch.split(clean + NOISE * noise, 250)
        found = torch.cat([cast("Tensor", model(part)) for part in noisy])
        return F.mse_loss(found, noise).item()


if __name__ == "__main__":
    main(UNets)
