"""The scripts and the notebooks of the documentation run, and its pages show them as they are."""

import importlib.util
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks import transfer_picture

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
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
notebooks = load(DOCS / "_hooks" / "notebooks.py")
markup = load(DOCS / "_hooks" / "markup.py")


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


def code_cells(markdown: str) -> list[str]:
    cells = notebooks.notebook(markdown)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_notebook_has_the_code_of_its_page_in_order(page):
    text = page.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    expected = [
        line
        for block in blocks
        for line in (
            [line[4:] for line in block.splitlines() if line.startswith((">>> ", "... "))]
            if block.startswith(">>>")
            else block.splitlines()
        )
    ]
    made = [line for source in code_cells(text) for line in source.splitlines()]
    assert [line for line in made if line] == [line for line in expected if line]
    for source in code_cells(text):
        compile(source, page.name, "exec")


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_notebook_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for source in code_cells(page.read_text()):
        exec(compile(source, page.name, "exec"), namespace)


def test_a_notebook_is_nbformat_4():
    text = "# Title\n\nProse.\n\n```python\nx = 1\n```\n\n```python\n>>> x\n1\n```\n"
    made = notebooks.notebook(text)
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    assert [cell["cell_type"] for cell in made["cells"]] == ["markdown", "code", "code"]
    assert len({cell["id"] for cell in made["cells"]}) == 3
    assert made["cells"][2]["outputs"][0]["text"] == ["1\n"]


def test_the_picture_of_transfer_is_drawn_for_wide_and_narrow_screens(tmp_path):
    transfer_picture.main(["--out", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {"transfer.png", "transfer-narrow.png"}


@pytest.mark.parametrize(("system", "percent"), [("dualize", 0.7), ("muon", 0.1), ("adamw", 40)])
def test_the_cost_of_a_narrow_networks_rate_is_the_one_that_is_stated(system, percent):
    """README and home: by how much the best rate of width 32 raises the loss of wider networks."""
    found = transfer_picture.curves(transfer_picture.RUNS, system, 2)
    kept = min(found[32], key=lambda lr: found[32][lr])
    costs = [100 * (losses[kept] / min(losses.values()) - 1) for losses in found.values()]
    assert max(costs) == pytest.approx(percent, rel=0.3)


def test_punctuation_stays_with_its_formula():
    formula = '<span class="arithmatex">\\(x &lt; 1\\)</span>'
    html = f"<p>If {formula}, then ({formula}) holds, and {formula} too.</p>"
    kept = [f'<span class="unbroken">{one}</span>' for one in (f"{formula},", f"({formula})")]
    assert markup.unbroken(html) == f"<p>If {kept[0]} then {kept[1]} holds, and {formula} too.</p>"


PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "api")
NOT_PROSE = re.compile(
    r"^ *```.*?^ *```|^<!-- [\w-]+:begin.*?:end -->|^#.*?$|^    .*?$|``.*?``|`[^`]*`",
    re.DOTALL | re.MULTILINE,
)
"""Code, tables that commands write, headings, and output: they have plain characters."""
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$]+\$", re.DOTALL)
SYMBOLS = "‖†√Σσδ∂ᵢⱼᵀ₀₁₂⁻²³⁸½⅛∞≤≥⟨⟩ηλβ"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_formulas_have_one_notation(page):
    prose = NOT_PROSE.sub("", page.read_text())
    assert not re.findall(f".*[{SYMBOLS}].*", FORMULA.sub("", prose)), "formulas are TeX, in $…$"
    formulas = "".join(FORMULA.findall(prose))
    assert not set(formulas) & set(SYMBOLS), "TeX has commands for symbols"


SHOWN = [
    path
    for page in (DOCS / "api").glob("*.md")
    for path in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)
]
"""What the pages of the reference show, as dotted paths."""


def is_module(path: str) -> bool:
    """Whether a dotted path names a file or a folder of the library, and nothing inside one."""
    try:
        return importlib.util.find_spec(path) is not None
    except ModuleNotFoundError:  # below what is no package
        return False


def test_the_reference_has_functions_and_not_the_files_of_the_same_name():
    """A path such as modula.polar.orthogonalize is a function, and the generator takes the file."""
    assert len(SHOWN) > 200
    assert is_module("modula.polar.orthogonalize")
    assert not [path for path in SHOWN if is_module(path)]


@pytest.mark.parametrize(
    "package", ["modula", *(f"modula.{one}" for one in ("instruments", "lift", "optim", "polar"))]
)
def test_the_reference_has_every_public_name(package):
    public = import_module(package)
    names = {one for one in public.__all__ if not isinstance(getattr(public, one), ModuleType)}
    assert names <= {path.rpartition(".")[2] for path in SHOWN}


WRITTEN = r"^<!-- [\w-]+:begin.*?:end -->|^<!-- begin [\w-]+ -->.*?^<!-- end"
BLOCKS = re.compile(rf"^ *```.*?^ *```|{WRITTEN}", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "README.md"], ids=lambda page: page.stem)
def test_lines_of_prose_end_at_100_columns(page):
    lines = BLOCKS.sub("", page.read_text()).splitlines()
    free = ("|", "![", "    ")  # tables, pictures and code cannot be broken
    long = [line for line in lines if len(line) > 100 and not line.startswith(free)]
    assert not [line for line in long if "http" not in line]


README = DOCS.parent / "README.md"
TABLE = re.compile(r"results:begin -->(.*?)\n\n", re.DOTALL)
SENTENCE = re.compile(r"[^.]*(?:GPT below|that GPT|GPT of the README|README's GPT)(?:[^.]|\.\d)*")


def unsupported(prose: str, table: str) -> list[str]:
    """The losses and times that sentences about the README's GPT quote, and its table lacks."""
    quoted = [n for s in SENTENCE.findall(prose) for n in re.findall(r"\b[1-9]\.\d{2,3}\b", s)]
    return [number for number in quoted if number not in re.findall(r"[\d.]+", table)]


@pytest.mark.parametrize("page", ["README.md", "docs/faq.md", "docs/guides/from-muon.md"])
def test_prose_quotes_the_losses_and_times_of_the_readmes_table(page):
    table = TABLE.search(README.read_text())
    assert table is not None
    assert unsupported(BLOCKS.sub("", (DOCS.parent / page).read_text()), table[1]) == []


def test_a_quoted_number_that_the_table_lacks_is_found():
    table = "| modula | 0.1 | 1.521 ± 0.001 | 170 s | 1.17 |"
    assert unsupported("On the README's GPT modula ends at 1.521, in 1.17 times.", table) == []
    assert unsupported("Loss 1.9. On the GPT below it ends at 1.566, not 1.521.", table) == [
        "1.566"
    ]
