"""Each benchmark's command runs, at a size at which its numbers mean nothing."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from benchmarks.docs_tables import write_between

SMALL = {
    "heads": [
        *["--data", "README.md", "--steps", "1", "--width", "8"],
        *["--blocks", "1", "--seeds", "1", "--rates", "0.1"],
    ],
    "generation": ["--width", "16", "--blocks", "1", "--longest", "64", "--rounds", "1"],
    "orthogonalize": ["--works", "batch", "--rounds", "1"],
    "rejected_ideas": ["--size", "48", "--rounds", "1"],
    "peers": ["--only", "zero"],
    "lift_time": ["--blocks", "1", "--width", "16", "--heads", "2", "--context", "8"],
    "lift_zoo": ["experts", "state space", "--report"],
    "plan": ["--atoms", "20", "--repeats", "2"],
    "projection": [],
    "compositions": [
        *["--steps", "0", "--width", "32", "--blocks", "1", "--batch", "2", "--context", "8"],
    ],
    "real_gradients": [
        "--steps",
        "0",
        "1",
        "--width",
        "32",
        "--blocks",
        "1",
        "--batch",
        "2",
        "--context",
        "8",
        "--rounds",
        "1",
    ],
    "train_step": [
        "--turns",
        "1",
        "--batch",
        "2",
        "--context",
        "8",
        "--blocks",
        "1",
        "--width",
        "16",
        "--heads",
        "2",
        "--compile",
        "eager",
    ],
    "typecheck": ["--modules", "3", "--runs", "1"],
    "warm_starts": [
        *["--steps", "2", "--width", "32", "--blocks", "1", "--batch", "2", "--context", "8"],
    ],
    "watch": ["--width", "16", "--blocks", "1", "--repeats", "1"],
}
TINY = ["--width", "8", "--blocks", "1", "--steps", "2", "--batch", "2", "--context", "8"]
WRITES = [
    "compositions",
    "generation",
    "heads",
    "lift_zoo",
    "orthogonalize",
    "rejected_ideas",
    "projection",
    "peers",
    "warm_starts",
]


def run(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    importlib.import_module(f"benchmarks.{name}").main()


@pytest.mark.parametrize("name", SMALL)
def test_the_command_prints_what_it_measures(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(name, SMALL[name], monkeypatch)
    assert any(character.isdigit() for character in capsys.readouterr().out)


@pytest.mark.parametrize("name", WRITES)
def test_the_tables_go_between_the_marks_of_a_page(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- {name}:begin -->\nold\n<!-- {name}:end -->\nafter\n")
    run(name, [*SMALL[name], "--write", str(page)], monkeypatch)
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "|---|" in written
    assert "old" not in written


def test_the_ways_to_treat_rows_are_compared_on_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = importlib.import_module("benchmarks.dead_rows")
    page = tmp_path / "guides" / "optimizer.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- dead_rows:begin -->\nold\n<!-- dead_rows:end -->\nafter\n")
    pictures = tmp_path / "experiments"
    monkeypatch.setattr(benchmark, "DOCS", tmp_path)
    monkeypatch.setattr("trials.PICTURES", pictures)
    arguments = ["--data", "README.md", "--steps", "2", "--seeds", "1", "--out", str(pictures)]
    run("dead_rows", arguments, monkeypatch)
    written = page.read_text()
    for way in (*benchmark.WAYS, benchmark.ADAMW):
        assert f"| {way} | " in written
    assert "old" not in written
    assert "seeds: 1" in " ".join(capsys.readouterr().out.split())
    assert (pictures / "dead_rows.png").exists()


def test_a_page_without_marks_is_refused_and_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks\n")
    with pytest.raises(
        SystemExit,
        match="must have <!-- rejected_ideas:begin --> and <!-- rejected_ideas:end --> once each",
    ):
        write_between(page, "rejected_ideas", "a table")
    assert page.read_text() == "no marks\n"


def test_the_conditions_of_the_readmes_table_are_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = importlib.import_module("benchmarks.tiny_shakespeare")
    numbers = {"validation_loss": 1.5, "seconds": 100.0, "lr": 0.1}
    monkeypatch.setattr(benchmark, "run", lambda *run: numbers)
    monkeypatch.setattr(benchmark, "step_times", lambda out: dict.fromkeys(benchmark.NAMES, 1.0))
    lines = benchmark.table("shakespeare", Path(), 2).splitlines()
    assert max(len(line) for line in lines if not line.startswith("|")) <= 100


def test_the_readmes_table_has_the_mean_of_every_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = importlib.import_module("benchmarks.tiny_shakespeare")

    def trained(data: str, out: Path, optimizer: str, seed: int) -> dict[str, float]:
        """Return numbers that grow by 0.1 from seed to seed."""
        start = {"modula": 1.4, "dualize": 1.41, "muon": 1.5, "adamw": 1.6, "plain": 1.45}[
            optimizer
        ]
        return {"validation_loss": start + 0.1 * seed, "lr": 0.1}

    monkeypatch.setattr(benchmark, "run", trained)
    (tmp_path / "steps.json").write_text(
        json.dumps(
            {
                "SteepestDescent": 92.0,
                "model.dualize": 90.0,
                "torch.optim.Muon": 100.0,
                "torch.optim.AdamW": 80.0,
            }
        )
    )
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- results:begin -->\nold\n<!-- results:end -->\nafter\n")
    arguments = ["--seeds", "3", "--out", str(tmp_path), "--write", str(page)]
    run("tiny_shakespeare", arguments, monkeypatch)
    written = page.read_text()
    assert "| torch.optim.AdamW | 0.1 | 1.700 ± 0.100 | 80 ms | 1.00 |" in written
    assert (
        "| `SteepestDescent`, `SecondMoments` of rows | 0.1 | 1.500 ± 0.100 | 92 ms | 1.15 |"
        in written
    )
    assert "| `model.dualize` | 0.1 | 1.510 ± 0.100 | 90 ms | 1.12 |" in written
    assert "Seeds: 3." in written
    assert written.endswith("after\n")


@pytest.mark.parametrize(
    ("name", "more", "choices"),
    [
        ("rules", ["--only", "Cautious", "Steepest", "average of weights, 0.95"], 4),
        ("byte_pairs", ["--vocabulary", "300"], 3),
    ],
)
def test_choices_are_compared_at_the_best_rate_of_each(
    name: str,
    more: list[str],
    choices: int,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = ["--data", str(corpus), "--seeds", "2", "--out", str(tmp_path)]
    run(name, [*TINY, *data, *more], monkeypatch)
    runs = json.loads((tmp_path / f"{name}.json").read_text())["runs"]
    by_choice: dict[str, dict[int, list[float]]] = {}
    for one in runs:
        trial = one["trial"]
        seeds = by_choice.setdefault(trial["choice"], {0: [], 1: []})
        seeds[trial["seed"]].append(one["result"]["loss"])
    assert len(by_choice) == choices
    assert all(len(seeds[0]) == 5 and len(seeds[1]) == 1 for seeds in by_choice.values())
    out = capsys.readouterr().out
    for seeds in by_choice.values():
        assert f"{(min(seeds[0]) + seeds[1][0]) / 2:.3f} (" in out
    assert (tmp_path / f"{name}.png").exists()


def test_the_losses_over_byte_pairs_go_onto_a_page(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- byte_pairs:begin -->\nold\n<!-- byte_pairs:end -->\nafter\n")
    size = [*TINY, "--data", str(corpus), "--vocabulary", "300", "--seeds", "1"]
    run("byte_pairs", [*size, "--out", str(tmp_path), "--write", str(page)], monkeypatch)
    written = page.read_text()
    runs = json.loads((tmp_path / "byte_pairs.json").read_text())["runs"]
    for choice in {one["trial"]["choice"] for one in runs}:
        best = min(one["result"]["loss"] for one in runs if one["trial"]["choice"] == choice)
        (row,) = [line for line in written.splitlines() if line.startswith(f"| {choice} ")]
        assert f"| {best:.3f} (" in row
    assert "old" not in written
    assert written.endswith("after\n")


def test_the_counts_of_each_library_and_of_all_are_sums_over_models() -> None:
    command = importlib.import_module("benchmarks.lift_zoo.command")
    wrong = tuple(range(len(command.RULES)))
    rows = [
        command.Row("torch", "a", 1, 2, 3, 4, wrong),
        command.Row("torch", "b", 10, 20, 30, 40, wrong),
        command.Row("timm", "c", 100, 200, 300, 400, wrong),
        command.Row("timm", "d", error="a reason"),
    ]
    sums, models = command.page(rows).split("<summary>")
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in sums.splitlines()}
    assert cells["torch"][:5] == ["2", "11", "22", "33", "44"]
    assert cells["timm"][:5] == ["1", "100", "200", "300", "400"]
    assert cells["all"][:5] == ["3", "111", "222", "333", "444"]
    assert [int(cell.strip("| ")) for cell in cells["all"][5:]] == [3 * one for one in wrong]
    assert "- timm, d: a reason" in sums
    assert models.count("\n| t") == len(rows) - 1
