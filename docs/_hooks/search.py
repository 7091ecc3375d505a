"""mkdocs hook: write the formulas of the search index in Unicode, since results are not typeset."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from pylatexenc.latex2text import LatexNodes2Text

INDEX = Path("search/search_index.json")

_FORMULA = re.compile(r"\\\((.*?)\\\)|\\\[(.*?)\\\]", re.DOTALL)
_CONVERTER = LatexNodes2Text()


def in_unicode(text: str) -> str:
    r"""Return a text of the index with each \(…\) and \[…\] as plain characters.

    Example:
        >>> in_unicode(r"at most \(\lVert w\rVert\), so")
        'at most ‖w‖, so'
    """

    def converted(found: re.Match[str]) -> str:
        formula = html.unescape(found[1] or found[2])
        return html.escape(_CONVERTER.latex_to_text(formula).strip(), quote=False)

    return _FORMULA.sub(converted, text)


def on_post_build(config: MkDocsConfig) -> None:
    """Rewrite the index that the search plugin has left in the site."""
    path = Path(config.site_dir) / INDEX
    index = json.loads(path.read_text(encoding="utf-8"))
    for entry in index["docs"]:
        entry["text"] = in_unicode(entry["text"])
    path.write_text(json.dumps(index, separators=(",", ":")), encoding="utf-8")
