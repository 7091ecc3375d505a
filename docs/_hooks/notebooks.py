"""Make a notebook of each tutorial: as files for download in the site, or by a command.

    python docs/_hooks/notebooks.py                  # writes runs/notebooks/*.ipynb
    python docs/_hooks/notebooks.py --out FOLDER

Prose becomes Markdown cells, and blocks of Python become code cells, those with prompts without the
prompts; what the page shows as printed becomes the cell's output.
"""

from __future__ import annotations

import argparse
import doctest
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def notebook(markdown: str) -> dict[str, Any]:
    """Return the notebook of a page, as nbformat 4.5 has it."""
    made = [
        {"id": f"cell-{i}", "metadata": {}, **cell} for i, cell in enumerate(cells(markdown), 1)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def cells(markdown: str) -> Iterator[dict[str, Any]]:
    """Yield the cells of a page, in order."""
    end = 0
    for block in BLOCK.finditer(markdown):
        yield from prose(markdown[end : block.start()])
        yield from code(block[1])
        end = block.end()
    yield from prose(markdown[end:])


def prose(text: str) -> Iterator[dict[str, Any]]:
    """Yield a Markdown cell, if there is any text."""
    if text.strip():
        yield {"cell_type": "markdown", "source": lines(text.strip())}


def code(block: str) -> Iterator[dict[str, Any]]:
    """Yield one cell of a block without prompts, and one of each example with them."""
    if not block.startswith(">>>"):
        yield cell(block, "")
        return
    for example in doctest.DocTestParser().get_examples(block):
        yield cell(example.source, example.want)


def cell(source: str, printed: str) -> dict[str, Any]:
    """Return a code cell with what it prints."""
    outputs = [{"output_type": "stream", "name": "stdout", "text": lines(printed)}]
    return {
        "cell_type": "code",
        "execution_count": None,
        "source": lines(source.rstrip()),
        "outputs": outputs if printed else [],
    }


def lines(text: str) -> list[str]:
    """Return the lines of a text with their ends, as nbformat stores them."""
    return text.splitlines(keepends=True)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the notebooks to the site, beside the pages."""
    for page in sorted((DOCS / "tutorials").glob("*.md")):
        content = json.dumps(notebook(page.read_text(encoding="utf-8")), ensure_ascii=False)
        path = f"tutorials/{page.stem}.ipynb"
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Link each tutorial's notebook below the title."""
    path = Path(page.file.src_uri)
    if path.parent != Path("tutorials"):
        return markdown
    link = f"[Download this page as a notebook]({path.stem}.ipynb){{ .notebook download }}"
    title, _, rest = markdown.partition("\n")
    return f"{title}\n\n{link}\n{rest}"


def main() -> None:
    """Write the notebooks to a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/notebooks"),
        help="folder of the notebooks (default %(default)s)",
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for page in sorted((DOCS / "tutorials").glob("*.md")):
        made = json.dumps(notebook(page.read_text(encoding="utf-8")), indent=1, ensure_ascii=False)
        path = options.out / f"{page.stem}.ipynb"
        path.write_text(made + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
