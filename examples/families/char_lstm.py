"""An LSTM that predicts the next character of a text.

python examples/families/char_lstm.py
python examples/families/char_lstm.py --optimizer adamw --data FILE
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from training import LOSS, Family, Measure, main

from modula import LSTM, AnyModule, Embed, Linear

sys.path.append(str(Path(__file__).parents[1]))

import text

BATCH = 16
LENGTH = 64
TESTED = 20_000
"""The number of characters on which the loss is measured."""


class CharacterLSTMs(Family):
    """LSTMs on characters: of Python's standard library, or of a UTF-8 file."""

    title: ClassVar[str] = "LSTM, characters"
    measure: ClassVar[Measure] = LOSS
    widths: ClassVar[tuple[int, int]] = (32, 64)
    steps: ClassVar[int] = 120
    rates: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "modula": (0.5, 1.0, 2.0, 4.0, 8.0),
        "adamw": (4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2),
    }

    def __init__(self, data: Path | None = None) -> None:
        super().__init__(data)
        self.corpus = text.load("stdlib" if self.data is None else str(self.data))

    def network(self, width: int) -> AnyModule:
        characters = len(self.corpus.characters)
        return 16 * Linear(characters, width) @ LSTM(width, width) @ Embed(width, characters)

    def loss(self, model: AnyModule, generator: torch.Generator) -> Tensor:
        return _loss(model, *text.batch(self.corpus.train, BATCH, LENGTH, generator))

    def score(self, model: AnyModule) -> float:
        """Return the loss on the first characters of the validation split."""
        inputs, targets = text.windows(self.corpus.validation[: TESTED + 1], LENGTH)
        return _loss(model, inputs, targets).item()


def _loss(model: AnyModule, inputs: Tensor, targets: Tensor) -> Tensor:
    logits = cast("Tensor", model(inputs))
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


if __name__ == "__main__":
    main(CharacterLSTMs)
