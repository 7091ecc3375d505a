"""Tables that a benchmark writes onto a page of the documentation."""

from __future__ import annotations

from pathlib import Path


def write_between(page: Path, name: str, text: str) -> None:
    """Replace the text between the marks <!-- name:begin --> and <!-- name:end --> of a page.

    Raises:
        SystemExit: the page does not have each mark exactly once.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    content = page.read_text(encoding="utf-8")
    if content.count(begin) != 1 or content.count(end) != 1:
        raise SystemExit(
            f"{page} must have {begin} and {end} once each: put them where the table belongs"
        )
    before, rest = content.split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")
