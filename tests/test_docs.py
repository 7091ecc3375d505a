"""The scripts of the documentation run, and its pages show them as they are."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"
SCRIPTS = sorted((DOCS / "guides" / "scripts").glob("*.py"))


def load(path: Path) -> ModuleType:
    """Import a file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


diffs = load(DOCS / "_hooks" / "diffs.py")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_of_the_guides_trains(path):
    script = load(path)
    before, after = script.main(steps=1, lr=0.0), script.main(steps=30)
    assert after > before + 0.05


def test_pages_show_the_differences_of_the_scripts():
    pages = sorted((DOCS / "guides").glob("from-*.md"))
    shown = set()
    for page in pages:
        text = page.read_text()
        assert diffs.updated(text) == text, "python docs/_hooks/diffs.py writes the page"
        shown |= {found[2] for found in diffs.PLACE.finditer(text)}
    assert shown == {path.stem.removesuffix("_after") for path in SCRIPTS if "after" in path.stem}


def test_a_difference_replaces_what_the_page_shows():
    text = "<!-- diff:mup -->\n```diff\n+ old\n```\n\n```python\nx = 1\n```\n"
    updated = diffs.updated(text)
    assert "+ old" not in updated
    assert updated.endswith("```\n\n```python\nx = 1\n```\n")
    assert "+from modula import" in updated
