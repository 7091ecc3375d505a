"""mkdocs hook: serve MathJax from the site itself, out of the package django-static-mathjax."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

SCRIPT = Path("es5/tex-chtml.js")
FONTS = Path("es5/output/chtml/fonts/woff-v2")
PLACE = "assets/mathjax"
"""Where the files are in the site; docs/assets/formulas.js loads the script from there."""


def library() -> Path:
    """Return the folder of MathJax in the installed package, which need not be imported.

    Raises:
        PluginError: the package is not installed.
    """
    spec = find_spec("mathjax")
    for folder in spec.submodule_search_locations or () if spec else ():
        if (root := Path(folder) / "static" / "mathjax").joinpath(SCRIPT).exists():
            return root
    raise PluginError(
        "the site serves MathJax, and django-static-mathjax, which has its files, is not "
        "installed; install the project's docs extra: pip install -e '.[docs]'"
    )


def served(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file with its place below `PLACE`: the script, its fonts, the licence."""
    yield root / SCRIPT, SCRIPT.name
    yield root / "LICENSE", "LICENSE"
    for font in sorted((root / FONTS).glob("*.woff")):
        yield font, str(font.relative_to(root / SCRIPT.parent))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files to the site."""
    for source, place in served(library()):
        files.append(File.generated(config, f"{PLACE}/{place}", abs_src_path=str(source)))
    return files
