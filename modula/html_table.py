"""`html_table`: a table as notebooks show it, with every cell escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_CELL = "white-space: pre; text-align: left"
"""Keeps the branches of a printed tree in line."""


def html_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    before: str = "",
    after: Sequence[str] = (),
) -> str:
    """Return a table in HTML, which scrolls sideways where it is wider than the page.

    Args:
        header: the names of the columns.
        rows: the cells, as text; markup in them is escaped.
        before: a line above the table.
        after: lines under it.
    """
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f"{_paragraph(before) if before else ''}"
        f'<div style="overflow-x: auto"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
        f"{''.join(map(_paragraph, after))}"
    )


def html_text(text: str) -> str:
    """Return lines of text in HTML, in columns as they are printed."""
    return f'<pre style="overflow-x: auto">{html.escape(text)}</pre>'


def _cell(text: str) -> str:
    return f'<td style="{_CELL}">{html.escape(text)}</td>'


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"
