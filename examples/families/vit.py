"""A vision transformer that classifies Fashion-MNIST.

python examples/families/vit.py
python examples/families/vit.py --optimizer adamw
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from classifying import Classifier
from training import main

from modula import AnyModule, ViT


class ViTs(Classifier):
    """Vision transformers on Fashion-MNIST, whose patches are a quarter of an image wide."""

    title: ClassVar[str] = "ViT, Fashion-MNIST"
    widths: ClassVar[tuple[int, ...]] = (32, 64)
    steps: ClassVar[int] = 200
    rates: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "modula": (0.25, 0.5, 1.0, 2.0, 4.0),
        "adamw": (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2),
    }

    def network(self, width: int) -> AnyModule:
        _, channels, height, rows = self.train.images.shape
        return ViT(
            self.classes,
            channels,
            image_size=(height, rows),
            patch_size=(height // 4, rows // 4),
            d_embed=width,
            num_heads=4,
            num_blocks=2,
            final_scale=10.0,
        )


if __name__ == "__main__":
    main(ViTs)
