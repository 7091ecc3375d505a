"""The wheel alone, in a fresh environment, has what the README uses; its metadata is complete."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tarfile
import venv
import zipfile
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Protocol, cast

import pytest

ROOT = Path(__file__).parents[1]
RUNNER = Path(__file__).parent / "run_snippets.py"

build = pytest.importorskip("hatchling.build", reason="the wheel is built by hatchling")


class Backend(Protocol):
    """What PEP 517 asks of a build backend."""

    def build_wheel(self, folder: str) -> str: ...
    def build_sdist(self, folder: str) -> str: ...


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    backend = cast("Backend", build)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        wheel, sdist = (make(str(folder)) for make in (backend.build_wheel, backend.build_sdist))
    return folder / wheel, folder / sdist


def required(name: str, found: dict[str, Path] | None = None) -> dict[str, Path]:
    """Return the top-level files of a distribution and of all that it requires, by name."""
    found = {} if found is None else found
    try:
        one = distribution(name)
    except PackageNotFoundError:  # for another system, or another Python
        return found
    tops = {file.parts[0] for file in one.files or () if not file.parts[0].startswith("..")}
    new = {top: Path(str(one.locate_file(top))) for top in tops - found.keys()}
    found.update(new)
    for requirement in one.requires or () if new else ():
        if "extra ==" not in requirement:
            required(re.split(r"[^\w.-]", requirement, maxsplit=1)[0], found)
    return found


@pytest.fixture
def fresh(archives: tuple[Path, Path], tmp_path: Path) -> Path:
    """The interpreter of an environment that holds the wheel and what it requires."""
    wheel, _ = archives
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    links = tmp_path / "required"
    links.mkdir()
    found: dict[str, Path] = {}
    for requirement in metadata.get_all("Requires-Dist") or ():
        if "extra ==" not in requirement:
            required(re.split(r"[^\w.-]", requirement, maxsplit=1)[0], found)
    for top, path in found.items():
        if path.exists():
            (links / top).symlink_to(path)
    venv.create(tmp_path / "venv", with_pip=False)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "required.pth").write_text(f"{links}\n")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)  # a wheel of Python alone is installed by unpacking it
    return tmp_path / "venv" / "bin" / "python"


def test_a_fresh_environment_with_the_wheel_alone_runs_each_snippet_of_the_readme(
    fresh: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [str(fresh), "-I", str(RUNNER), str(ROOT / "README.md")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    count, modula = done.stdout.splitlines()[-1].split(maxsplit=1)
    assert int(count) == len(re.findall(r"^```python$", (ROOT / "README.md").read_text(), re.M))
    assert Path(modula).is_relative_to(tmp_path / "venv")


def test_the_wheel_holds_the_library_and_the_types(archives: tuple[Path, Path]) -> None:
    wheel, _ = archives
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path for path in (ROOT / "modula").rglob("*") if path.suffix in (".py", ".pyi")]
    expected = {str(path.relative_to(ROOT)) for path in [*files, ROOT / "modula" / "py.typed"]}
    assert names == expected


def test_the_source_distribution_holds_what_its_tests_need(archives: tuple[Path, Path]) -> None:
    _, sdist = archives
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = [
        *["README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md"],
        *["Makefile", "conftest.py", "constraints.txt", "mkdocs.yml", "pyproject.toml"],
        *["tests/test_packaging.py", "docs/index.md", "benchmarks/plan.py", "examples/text.py"],
    ]
    assert names.issuperset(wanted)


def test_the_metadata_say_who_may_use_it_and_with_what(archives: tuple[Path, Path]) -> None:
    wheel, _ = archives
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    assert metadata.get_all("Project-URL")
    pythons = [c for c in metadata.get_all("Classifier") or () if re.search(r":: 3\.\d+$", c)]
    assert metadata["Requires-Python"] == f">={pythons[0].rpartition(' ')[2]}"
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_the_page_of_the_package_has_no_link_that_needs_the_repository(
    archives: tuple[Path, Path],
) -> None:
    wheel, _ = archives
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    assert "# modula" in text
    assert not re.findall(r"\]\((?!https?://|#)[^)]*\)", text)


def test_links_of_the_package_page_lead_to_the_repository_if_it_has_an_address() -> None:
    load = importlib.util.spec_from_file_location(
        "package_page", ROOT / "docs" / "_hooks" / "package_page.py"
    )
    assert load is not None
    assert load.loader is not None
    hook = importlib.util.module_from_spec(load)
    load.loader.exec_module(hook)
    text = "[FAQ](docs/faq.md#mass) ![a curve](docs/a.png) [paper](https://arxiv.org/x) [up](#top)"
    home = "https://example.org/modula"
    assert hook.page(text, home) == (
        f"[FAQ]({home}/blob/main/docs/faq.md#mass) ![a curve]({home}/raw/main/docs/a.png) "
        "[paper](https://arxiv.org/x) [up](#top)"
    )
    assert hook.page(text, None) == (
        "FAQ *(In the documentation: a curve.)* [paper](https://arxiv.org/x) [up](#top)"
    )
    menu = "One.\n\n[A](a.md) · [B](b.md) ·\n[C](c.md)\n\nTwo [A](a.md).\n"
    assert hook.page(menu, None) == "One.\n\nTwo A.\n"
    assert f"[C]({home}/blob/main/c.md)" in hook.page(menu, home)


def test_the_citation_names_the_version_of_the_package(archives: tuple[Path, Path]) -> None:
    wheel, _ = archives
    (cited,) = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert wheel.name.split("-")[1] == cited
