"""A residual network of convolutions that classifies Fashion-MNIST.

python examples/families/resnet.py
python examples/families/resnet.py --optimizer adamw
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from classifying import Classifier
from training import main

from modula import AnyModule, ResNet


class ResNets(Classifier):
    """Residual networks of convolutions on Fashion-MNIST."""

    title: ClassVar[str] = "ResNet, Fashion-MNIST"
    widths: ClassVar[tuple[int, ...]] = (4, 8)
    steps: ClassVar[int] = 150
    rates: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "modula": (0.5, 1.0, 2.0, 4.0, 8.0),
        "adamw": (5e-4, 1e-3, 2e-3, 4e-3, 8e-3),
    }

    def network(self, width: int) -> AnyModule:
        widths = (width, 2 * width, 4 * width)
        return ResNet(self.classes, self.channels, widths=widths, blocks=1, final_scale=10.0)


if __name__ == "__main__":
    main(ResNets)
