"""Build hook: the README as the package's page on PyPI, where relative links lead nowhere.

A link to a file of the repository becomes absolute if [project.urls] in pyproject.toml names the
Repository. Without that address the words stay without the link, a picture leaves its description,
and a paragraph of nothing but links goes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")

MENU = re.compile(rf"^(?:{LINK.pattern}[ ·]*\n?)+\n", re.MULTILINE)


def page(readme: str, repository: str | None) -> str:
    """Return the text with no link that is relative to the repository.

    Args:
        readme: Markdown.
        repository: the address of the repository, or None if it has none.
    """

    def replaced(link: re.Match[str]) -> str:
        picture, words, target = link.groups()
        if repository is None:
            return f"*(In the documentation: {words}.)*" if picture else words
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}]({repository.rstrip('/')}/{kind}/main/{target})"

    if repository is None:
        readme = MENU.sub(lambda menu: menu[0] if "![" in menu[0] else "", readme)
    return LINK.sub(replaced, readme)


class PackagePage(MetadataHookInterface):
    """Sets the readme of the package's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Read README.md, and replace its links."""
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = page(readme, metadata.get("urls", {}).get("Repository"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
