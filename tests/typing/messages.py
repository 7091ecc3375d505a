"""The messages of all checkers for typical mistakes, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.typing.checkers import Place

LONGEST = 150
"""Characters of a message that the table shows."""

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


def message_table(
    places: Mapping[tuple[str, str], Place], messages: Iterable[tuple[str, Mapping[Place, str]]]
) -> list[str]:
    """Return a table in Markdown with a row for each example and a column for each checker.

    Args:
        places: of the statements of the corpus.
        messages: of each checker, with its name.
    """
    columns = list(messages)
    names = [name for name, _ in columns]
    rows = [f"| line | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
    for example in EXAMPLES:
        place = places[example]
        cells = [_cell(name, found.get(place)) for name, found in columns]
        rows.append(f"| `{example[1]}` | {' | '.join(cells)} |")
    return rows


def _cell(name: str, message: str | None) -> str:
    if message is None:
        return "accepts it"
    text = message.removeprefix(f"{name}: ").partition("\n")[0].replace("|", "\\|").strip()
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()} …"
    return f"`` {shown} ``"
