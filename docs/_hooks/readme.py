"""mkdocs hook: warn of links in README.md that lead to no file, which a strict build refuses."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger

LINK = re.compile(r"\]\((?!https?://)([^)#\s]+)")

logger = get_plugin_logger(__name__)


def on_pre_build(config: MkDocsConfig) -> None:
    """Look up the target of each relative link."""
    home = Path(config.config_file_path).parent
    for target in LINK.findall((home / "README.md").read_text(encoding="utf-8")):
        if not (home / target).exists():
            logger.warning("README.md links to %s, which does not exist", target)
