"""An LSTM that predicts the next character of a text.

python examples/families/char_lstm.py
python examples/families/char_lstm.py --optimizer adamw --data FILE
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from characters import CharacterModel
from training import main

from modula import LSTM, AnyModule, Embed, Linear


class CharacterLSTMs(CharacterModel):
    """LSTMs on characters: of Python's standard library, or of a UTF-8 file."""

    title: ClassVar[str] = "LSTM, characters"
    widths: ClassVar[tuple[int, ...]] = (32, 64)
    steps: ClassVar[int] = 120
    rates: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "modula": (0.5, 1.0, 2.0, 4.0, 8.0),
        "adamw": (4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2),
    }

    def network(self, width: int) -> AnyModule:
        return (
            16 * Linear(self.characters, width) @ LSTM(width, width) @ Embed(width, self.characters)
        )


if __name__ == "__main__":
    main(CharacterLSTMs)
