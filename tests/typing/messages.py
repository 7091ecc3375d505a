"""The messages of all checkers for typical mistakes, as lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.typing.checkers import Place

LONGEST = 150
"""Characters of a message that are shown."""

EXAMPLES = (
    ("atoms.py", "Linear(4, 3) @ Conv2D(3, 1)"),
    ("bonds.py", "Embed(4, 9) @ ReLU()"),
    ("tuples.py", "Add() @ (a(), b())"),
    ("atoms.py", "Linear(4, 3) @ torch.nn.Linear(2, 3)"),
    ("algebra.py", "f() + e()"),
    ("algebra.py", "f() * f()"),
    ("algebra.py", "Embed(4, 4) ** 2"),
    ("algebra.py", "residual(e(), 4)"),
    ("vectors.py", "Linear(4, 4).weights -= g()"),
    ("vectors.py", "u() + g()"),
    ("vectors.py", "w() + w()"),
    ("lifted.py", "net @ Linear(4, 4)"),
)
"""Statements of the corpus: the file, and the statement as `ast.unparse` writes it."""


def message_list(
    places: Mapping[tuple[str, str], Place], messages: Iterable[tuple[str, Mapping[Place, str]]]
) -> list[str]:
    """Return each example in Markdown, with a list of what the checkers say below it.

    Args:
        places: of the statements of the corpus.
        messages: of each checker, with its name.
    """
    found = list(messages)
    lines: list[str] = []
    for example in EXAMPLES:
        said = [f"- {name}: {_shown(name, of.get(places[example]))}" for name, of in found]
        lines += [f"`{example[1]}`", "", *said, ""]
    return lines[:-1]


def _shown(name: str, message: str | None) -> str:
    if message is None:
        return "accepts it"
    text = message.removeprefix(f"{name}: ").partition("\n")[0].strip()
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()} …"
    return f"`` {shown} ``"
