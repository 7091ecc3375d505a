"""A Llama that predicts the next character of a text.

python examples/families/char_llama.py
python examples/families/char_llama.py --optimizer adamw --data FILE
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from characters import CharacterModel
from training import main

from modula import AnyModule, Llama


class CharacterLlamas(CharacterModel):
    """Llamas of two blocks on characters: of Python's standard library, or of a UTF-8 file."""

    title: ClassVar[str] = "Llama, characters"
    widths: ClassVar[tuple[int, ...]] = (32, 64, 128)
    steps: ClassVar[int] = 120
    rates: ClassVar[Mapping[str, tuple[float, ...]]] = {
        "modula": (0.1, 0.2, 0.4, 0.8, 1.6),
        "adamw": (4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2),
    }

    def network(self, width: int) -> AnyModule:
        return Llama(
            self.characters,
            d_embed=width,
            num_heads=4,
            num_kv_heads=2,
            num_blocks=2,
        )


if __name__ == "__main__":
    main(CharacterLlamas)
