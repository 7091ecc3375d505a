"""The examples of lifted models run at a small size and do what they say."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from tests.families.data import write_dataset

pytestmark = pytest.mark.usefixtures("examples_on_path")


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


# Coordinate check

NARROW = ["--widths", "32", "128", "--seeds", "1", "--steps", "2"]


def largest_exponents(family: str, out: Path) -> dict[str, float]:
    """Return the largest exponent of the width among the modules of a family, by optimizer."""
    coord_check = load("coord_check")
    found = coord_check.main([*NARROW, "--family", family, "--out", str(out)])
    return {
        name: max(abs(coord_check.exponent(change)) for change in changes.values())
        for name, changes in found.items()
    }


def test_changes_of_a_lifted_gpt_do_not_depend_on_its_width(tmp_path: Path) -> None:
    assert largest_exponents("gpt", tmp_path)["lifted"] < 0.2
    assert (tmp_path / "coord_check.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_changes_depend_on_the_width_less_than_by_adamw(family: str, tmp_path: Path) -> None:
    exponents = largest_exponents(family, tmp_path)
    assert exponents["lifted"] < 0.75 * exponents["adamw"]


def test_the_exponent_of_a_power_is_found() -> None:
    change = {width: 3.0 * width**-0.5 for width in (8, 16, 64)}
    assert load("coord_check").exponent(change) == pytest.approx(-0.5)


def test_a_family_of_ones_own_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "families_of_mine.py").write_text(
        "import torch\n"
        "def make(width):\n"
        "    model = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 1))\n"
        "    return model, torch.randn(8, 4), lambda y: (y - 1).square().mean()\n"
    )
    monkeypatch.chdir(tmp_path)
    sample = load("coord_check").family("families_of_mine:make")(16)
    assert sample.loss(sample.model(sample.inputs)).isfinite()
    with pytest.raises(SystemExit, match="file:function"):
        load("coord_check").family("families_of_mine:nothing")


def test_rescaled_weights_have_norm_1() -> None:
    import modula

    net = modula.lift(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.ones(3, 4))
    load("coord_check").rescale(net)
    for weight in net.graph().weights.values():
        norm = weight.geometry.norm(weight.tensor.detach()[None])
        assert float(norm) in (0.0, pytest.approx(1.0, rel=1e-3))


# Vision


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    write_dataset(folder)
    return folder


def vision(images: Path, *more: str) -> float:
    small = ["--steps", "2", "--batch", "4", "--width", "4", "--images", "20", "--test", "10"]
    return load("train_vision").main(["--data", str(images), *small, *more])


@pytest.mark.parametrize("model", ["resnet", "vit"])
@pytest.mark.parametrize("optimizer", ["lifted", "adamw", "sgd"])
def test_train_vision_trains_its_models_by_each_optimizer(
    images: Path, model: str, optimizer: str
) -> None:
    accuracy = vision(images, "--model", model, "--optimizer", optimizer)
    assert 0 <= accuracy <= 1


@pytest.mark.parametrize("model", ["resnet", "vit"])
def test_a_lifted_vision_model_learns_a_batch(model: str) -> None:
    from images import Images

    train_vision = load("train_vision")
    labels = torch.arange(16) % 4
    pixels = torch.randn(4, 1, 8, 8)[labels] + 0.1 * torch.randn(16, 1, 8, 8)
    same = Images(pixels, labels)
    build = {
        "resnet": lambda: load("plain_vision").ResNet18(4, channels=1, width=4),
        "vit": lambda: load("plain_vision").ViT(
            4, channels=1, size=8, patch=4, width=16, heads=2, blocks=1
        ),
    }[model]
    options = train_vision.parse(["--steps", "60", "--batch", "16"])
    task = train_vision.Task(same, same, build)
    assert train_vision.train(task, "lifted", 0.2, options, show=False) > 0.9


def test_a_missing_library_is_named(images: Path) -> None:
    with pytest.raises(SystemExit, match="torchvision or timm"):
        vision(images, "--model", "elsewhere:resnet18")


def test_the_rate_rises_and_falls_to_zero() -> None:
    schedule = load("train_vision").schedule
    rates = [schedule(step, 100, 0.1) for step in range(101)]
    assert rates[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert max(rates) == 1.0
    assert rates[100] == 0.0
    assert math.isclose(schedule(0, 100, 0.0), 1.0)


# Plain nanoGPT

TINY = ["--steps", "2", "--batch", "2", "--context", "8", "--blocks", "1", "--width", "8"]


def arguments_of(corpus: Path, out: Path) -> list[str]:
    small = [*TINY, "--heads", "2", "--seeds", "2", "--turns", "1"]
    return ["--data", str(corpus), "--out", str(out), *small]


def nanogpt(corpus: Path, out: Path, *more: str) -> None:
    from benchmarks import nanogpt as benchmark

    benchmark.main([*arguments_of(corpus, out), *more])


def test_nanogpt_compares_systems_and_writes_the_table(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- nanogpt:begin -->\n<!-- nanogpt:end -->\n")
    nanogpt(corpus, tmp_path / "runs", "--write", str(page))
    rows = [line for line in page.read_text().splitlines() if line.startswith(("| un", "| tied"))]
    assert len(rows) == 6


def test_nanogpt_measures_the_time_of_a_step_and_trains_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import nanogpt as benchmark

    monkeypatch.setattr(benchmark, "train", lambda *_: pytest.fail("a run was made"))
    page = tmp_path / "page.md"
    page.write_text("<!-- nanogpt-times:begin -->\n<!-- nanogpt-times:end -->\n")
    nanogpt(corpus, tmp_path / "runs", "--times", "--write", str(page))
    assert "of AdamW's processor time lifted" in page.read_text()
    assert not (tmp_path / "runs").exists()


def test_nanogpt_takes_lower_rates_for_longer_runs(corpus: Path, tmp_path: Path) -> None:
    from benchmarks import nanogpt as benchmark

    def rates(steps: int) -> tuple[float, ...]:
        options = benchmark.parse([*arguments_of(corpus, tmp_path), "--steps", str(steps)])
        return benchmark.rates_of("lifted", options)

    assert rates(benchmark.LONG) == benchmark.LIFTED
    assert max(rates(benchmark.LONG + 1)) < max(benchmark.LIFTED)
    assert len(rates(benchmark.LONG + 1)) == len(benchmark.LIFTED)


def test_nanogpt_repeats_no_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import nanogpt as benchmark

    nanogpt(corpus, tmp_path, "--tied", "no")

    def fail(*_: object) -> None:
        pytest.fail("a run was repeated")

    monkeypatch.setattr(benchmark, "train", fail)
    nanogpt(corpus, tmp_path, "--tied", "no")


def test_nanogpt_shows_the_runs_that_were_made(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from benchmarks import nanogpt as benchmark

    nanogpt(corpus, tmp_path, "--tied", "no", "--only", "muon", "--rates", "0.04", "0.02")
    capsys.readouterr()
    monkeypatch.setattr(benchmark, "train", lambda *_: pytest.fail("a run was made"))
    nanogpt(corpus, tmp_path, "--table")
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| untied")]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[:3] == ["untied", "torch.optim.Muon, AdamW for the rest", "0.02, 0.04"]
    assert cells[3] in ("0.02", "0.04")
    assert cells[4] == "2"


def test_nanogpt_compares_settings_of_lifting(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nanogpt(corpus, tmp_path, "--choose", "--tied", "yes", "--seeds", "1")
    printed = capsys.readouterr().out
    assert "attention 2, MLPs 3" in printed
    assert "AdamW" not in printed


def test_lifted_masses_writes_a_row_for_each_training_of_each_network(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import lifted_masses as benchmark

    for name, training in benchmark.TRAININGS.items():
        monkeypatch.setitem(benchmark.TRAININGS, name, replace(training, rates=training.rates[:2]))
    page = tmp_path / "page.md"
    page.write_text("<!-- lifted_masses:begin -->\n<!-- lifted_masses:end -->\n")
    few = ["--steps", "2", "--seeds", "2", "--batch", "2", "--context", "8"]
    out = ["--out", str(tmp_path), "--write", str(page)]
    benchmark.main(["--data", str(corpus), *few, *out])
    rows = [line.split(" | ")[:2] for line in page.read_text().splitlines() if " ± " in line]
    trainings = [training.name for training in benchmark.TRAININGS.values()]
    expected = [[f"| {network}", name] for network in benchmark.NETWORKS for name in trainings]
    assert rows == expected


def test_the_masses_that_are_halved_and_doubled_are_the_defaults() -> None:
    import modula
    from benchmarks import lifted_masses as benchmark

    ids = torch.zeros(2, 8, dtype=torch.long)
    for build in benchmark.NETWORKS.values():
        model = build(16)
        default = modula.lift(model, ids).report()
        given = modula.lift(model, ids, masses=model.masses).report()
        for row in default:
            assert given[row.name].mass_fraction == pytest.approx(row.mass_fraction)


@pytest.mark.parametrize("system", ["lifted", "muon", "adamw"])
def test_nanogpt_gives_a_system_the_weight_decay_of_its_setting(system: str) -> None:
    from benchmarks import nanogpt as benchmark

    model = load("plain_gpt").PlainGPT(5, context=4, width=4, heads=1, blocks=1)
    example = torch.zeros(1, 4, dtype=torch.long)
    trained = benchmark.made(f"{system}, decay 0.03", model, example, 0.1)
    assert trained[0].param_groups[0]["weight_decay"] == 0.03


def test_nanogpt_stores_the_runs_on_a_part_of_the_text_apart(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    nanogpt(corpus, out, "--characters", "5000", "--only", "lifted", "--tied", "no")
    assert [path.name for path in out.iterdir()] == [f"{corpus.stem}-5000-8-2.json"]


@pytest.mark.parametrize("characters", [-5, 0, 999, 10**9])
def test_a_part_that_the_text_does_not_have_is_refused(characters: int, corpus: Path) -> None:
    with pytest.raises(
        SystemExit, match=rf"--characters takes 1,000 to [\d,]+, .* got {characters}"
    ):
        load("text").load(str(corpus), characters)


def test_a_corpus_is_cut_to_so_many_characters(corpus: Path) -> None:
    text = load("text")
    part, whole = text.load(str(corpus), 5000), text.load(str(corpus))
    assert len(part.train) + len(part.validation) == 5000
    assert part.decode(part.train[:50].tolist()) == whole.decode(whole.train[:50].tolist())
