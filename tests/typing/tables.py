"""Tables that a command writes into a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def write_table(page: Path, name: str, rows: Iterable[str]) -> None:
    """Replace a table of a page.

    Args:
        page: with the lines `<!-- begin NAME -->` and `<!-- end NAME -->` around the table.
        name: of the table.
        rows: in Markdown.

    Raises:
        ValueError: the page has no such lines.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page} lacks the lines {begin} and {end}, between which the table goes")
    table = "\n".join(rows)
    page.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}", encoding="utf-8")
