"""The command that makes the pictures of docs/guides/instruments.md runs at toy size."""

import importlib
import random
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def test_it_leaves_a_picture_for_every_instrument_and_the_table_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    words = tmp_path / "words.txt"
    words.write_text(" ".join(random.Random(0).choices(["dual", "norm", "mass"], k=3000)))
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- bounds:begin -->\nold\n<!-- bounds:end -->\nbetween\n"
        "<!-- radii:begin -->\nold\n<!-- radii:end -->\nafter\n"
    )
    small = [
        "--steps",
        "3",
        "--width",
        "16",
        "--blocks",
        "1",
        "--context",
        "8",
        "--search",
        "1",
        "--sweep-steps",
        "1",
        "--seeds",
        "1",
    ]
    files = [
        "--data",
        str(words),
        "--out",
        str(tmp_path / "out"),
        "--write",
        str(page),
        "--log",
        str(tmp_path / "watch.csv"),
    ]
    importlib.import_module("instruments").main([*files, *small])
    pictures = {
        path.stem
        for path in (tmp_path / "out").glob("*.png")
        if path.read_bytes().startswith(b"\x89PNG")
    }
    assert pictures == {
        "sensitivity",
        "well_normed",
        "radii",
        "feature_learning",
        "alignment",
        "spectra",
        "movement",
        "watch",
        "mass_sweep",
    }
    lines = page.read_text().splitlines()
    assert [line for line in lines if line in ("before", "between", "after", "old")] == [
        "before",
        "between",
        "after",
    ]
    assert sum(line.startswith("| `RMSNorm` | ") for line in lines) == 2
