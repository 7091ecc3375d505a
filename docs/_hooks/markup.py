"""mkdocs hook: write the pairing <g, t> in angle brackets, link papers, highlight consoles.

It also keeps punctuation on the line of the formula that it belongs to.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from mkdocs.config.defaults import MkDocsConfig


class _Pairing(InlineProcessor):
    def handleMatch(  # noqa: N802
        self, m: re.Match[str], data: str
    ) -> tuple[ElementTree.Element | str, int, int]:
        return f"⟨{m.group(1)}, {m.group(2)}⟩", m.start(0), m.end(0)


class _Paper(InlineProcessor):
    ANCESTOR_EXCLUDES = ("a",)

    def handleMatch(  # noqa: N802
        self, m: re.Match[str], data: str
    ) -> tuple[ElementTree.Element | str, int, int]:
        link = ElementTree.Element("a", {"href": f"https://arxiv.org/abs/{m.group(1)}"})
        link.text = m.group(0)
        return link, m.start(0), m.end(0)


class Notation(Extension):
    """Write `<g, t>` outside code as ⟨g, t⟩, and make a link of each arXiv number.

    Markdown would take the pairing for an HTML tag, and drop it.
    """

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Register the patterns after code spans (priority 190) and ahead of inline HTML (90)."""
        md.inlinePatterns.register(_Pairing(r"<([A-Za-z_]+), ([^<>]+?)>", md), "pairing", 100)
        md.inlinePatterns.register(_Paper(r"arXiv:(\d{4}\.\d{4,5})", md), "paper", 99)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the extension to the pages and to the docstrings."""
    config.markdown_extensions.append(Notation())  # type: ignore[arg-type]
    return config


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Name the language of code blocks that begin with a prompt, which the highlighter needs."""
    return markdown.replace("```python\n>>>", "```pycon\n>>>")


_FORMULA = re.compile(r'([(\[]?)(<span class="arithmatex">[^<]*</span>)([,.;:?!)\]]*)')


def unbroken(html: str) -> str:
    """Return HTML in which a formula and the punctuation at its sides cannot be separated.

    A browser may break a line at either side of a typeset formula.
    """

    def joined(found: re.Match[str]) -> str:
        alone = not (found[1] or found[3])
        return found[0] if alone else f'<span class="unbroken">{found[0]}</span>'

    return _FORMULA.sub(joined, html)


def on_page_content(html: str, **kwargs: Any) -> str:
    """Keep the punctuation of a page on the lines of its formulas."""
    return unbroken(html)
