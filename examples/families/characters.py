"""What networks that predict the next character of a text have in common."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from training import LOSS, Family, Measure

from modula import AnyModule

sys.path.append(str(Path(__file__).parents[1]))

import text

BATCH = 16
LENGTH = 64
TESTED = 20_000
"""The number of characters on which the loss is measured."""


class CharacterModel(Family):
    """Networks from characters to the logits of the next: of Python's standard library, or a file.

    Data are "stdlib", or a UTF-8 file.
    """

    measure: ClassVar[Measure] = LOSS

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)
        self.corpus = text.load("stdlib" if self.data is None else str(self.data))

    @property
    def characters(self) -> int:
        """The number of distinct characters."""
        return self.corpus.size

    def loss(self, model: AnyModule, generator: torch.Generator) -> Tensor:
        return _loss(model, *text.batch(self.corpus.train, BATCH, LENGTH, generator))

    def score(self, model: AnyModule) -> float:
        """Return the loss on the first characters of the validation split."""
        inputs, targets = text.windows(self.corpus.validation[: TESTED + 1], LENGTH)
        return _loss(model, inputs, targets).item()


def _loss(model: AnyModule, inputs: Tensor, targets: Tensor) -> Tensor:
    logits = cast("Tensor", model(inputs))
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
