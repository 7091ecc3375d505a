"""What networks that classify images have in common."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, cast

import images
import torch
import torch.nn.functional as F
from torch import Tensor
from training import ACCURACY, Family, Measure

from modula import AnyModule

BATCH = 64
TESTED = 2000
"""The number of test images on which accuracy is measured."""


class Classifier(Family):
    """Networks that classify images."""

    measure: ClassVar[Measure] = ACCURACY
    default_data: ClassVar[Path | None] = images.FASHION_MNIST

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)
        self.train, self.test = images.load(self.data or images.FASHION_MNIST)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.train.labels.max()) + 1

    @property
    def channels(self) -> int:
        """The number of channels of an image."""
        return self.train.images.shape[1]

    def loss(self, model: AnyModule, generator: torch.Generator) -> Tensor:
        x, labels = self.train.batch(BATCH, generator)
        return F.cross_entropy(cast("Tensor", model(x)), labels)

    def score(self, model: AnyModule) -> float:
        """Return the accuracy on the first of the test images."""
        x, labels = self.test.images[:TESTED], self.test.labels[:TESTED]
        logits = torch.cat([cast("Tensor", model(part)) for part in torch.split(x, 500)])
        return (logits.argmax(dim=-1) == labels).float().mean().item()
