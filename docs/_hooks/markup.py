"""mkdocs hook: write the pairing <g, t> in angle brackets, and highlight consoles as such."""

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


class PairingExtension(Extension):
    """Write `<g, t>` outside code as ⟨g, t⟩, which Markdown would take for an HTML tag and drop."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Register the pattern after code spans (priority 190) and ahead of inline HTML (90)."""
        md.inlinePatterns.register(_Pairing(r"<([A-Za-z_]+), ([^<>]+?)>", md), "pairing", 100)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the extension to the pages and to the docstrings."""
    config.markdown_extensions.append(PairingExtension())  # type: ignore[arg-type]
    return config


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Name the language of code blocks that begin with a prompt, which the highlighter needs."""
    return markdown.replace("```python\n>>>", "```pycon\n>>>")
