"""Each experiment's command runs at a small size, continues where it was stopped, and measures."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tests.families.data import write_dataset

pytestmark = pytest.mark.usefixtures("examples_on_path")


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


LR_TRANSFER = [
    "--widths",
    "8",
    "16",
    "--depths",
    "1",
    "2",
    "--steps",
    "2",
    "--batch",
    "2",
    "--context",
    "8",
    "--systems",
    "dualize",
    "adamw",
]
SMALL = {
    "lr_transfer": LR_TRANSFER,
    "update_geometry": ["--widths", "16", "32"],
    "weight_erasure": [
        "--width",
        "40",
        "--steps",
        "2",
        "--batch",
        "8",
        "--widths",
        "8",
        "16",
        "--batches",
        "2",
        "4",
    ],
    "block_mass": ["--quick", "--steps", "1"],
    "grokking": ["--p", "5", "--width", "8", "--steps", "2", "--every", "1"],
    "adaptive_masses": [
        "--width",
        "8",
        "--blocks",
        "1",
        "--steps",
        "2",
        "--batch",
        "2",
        "--context",
        "8",
    ],
    "norms": [
        "--width",
        "8",
        "--blocks",
        "1",
        "--steps",
        "2",
        "--batch",
        "2",
        "--context",
        "8",
        "--rates",
        "0.1",
        "1.0",
    ],
    "spectra": [
        "--width",
        "8",
        "--blocks",
        "1",
        "--steps",
        "2",
        "--batch",
        "2",
        "--context",
        "8",
        "--rates",
        "0.1",
        "1.0",
    ],
}
ON_TEXT = ("lr_transfer", "norms", "adaptive_masses", "spectra")


def small(name: str, corpus: Path, out: Path) -> list[str]:
    data = ["--data", str(corpus)] if name in ON_TEXT else []
    return [*SMALL[name], *data, "--seeds", "2", "--out", str(out)]


@pytest.mark.parametrize("name", SMALL)
def test_the_command_leaves_a_picture_numbers_and_a_table(
    name: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(name).main(small(name, corpus, tmp_path))
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads(
        (tmp_path / f"{name}.json").read_text(),
        parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"),
    )
    assert {run["trial"]["seed"] for run in content["runs"]} == {0, 1}
    assert "| --- |" in capsys.readouterr().out


class InterruptionError(Exception):
    pass


@pytest.mark.parametrize("name", SMALL)
def test_an_interrupted_experiment_ends_at_the_same_numbers(
    name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load(name)
    module.main(small(name, corpus, tmp_path / "whole"))
    store, stored = load("trials").Runs._store, 0

    def stop(self: object) -> None:
        nonlocal stored
        store(self)
        stored += 1
        if stored == 5:
            raise InterruptionError

    with monkeypatch.context() as patched:
        patched.setattr(load("trials").Runs, "_store", stop)
        with pytest.raises(InterruptionError):
            module.main(small(name, corpus, tmp_path / "parts"))
    first = (tmp_path / "parts" / f"{name}.json").read_text()
    module.main(small(name, corpus, tmp_path / "parts"))
    whole, parts = (
        (tmp_path / folder / f"{name}.json").read_text() for folder in ("whole", "parts")
    )
    assert parts == whole
    assert len(json.loads(first)["runs"]) == 5


def test_the_prose_of_a_page_is_wrapped_and_its_tables_are_not() -> None:
    row, prose = f"| {'cell ' * 30}|", "word " * 30
    wrapped = load("trials").wrapped(f"{row}\n\n{prose}").splitlines()
    assert wrapped == [row, "", ("word " * 20).strip(), ("word " * 10).strip()]


@dataclass(frozen=True)
class Trial:
    lr: float


@dataclass(frozen=True)
class Outcome:
    loss: float


def test_runs_of_other_settings_are_refused_and_forgotten_on_demand(tmp_path: Path) -> None:
    trials = load("trials")

    def make(steps: int, fresh: bool = False) -> int:
        kept = trials.Runs(tmp_path / "runs.json", Trial, Outcome, {"steps": steps}, fresh=fresh)
        with trials.Bar(lambda trial: 1.0, [], made=[]) as bar:
            kept.make([Trial(float(steps))], lambda trial: Outcome(trial.lr), bar)
        return len(kept.results)

    assert make(1) == make(1) == 1
    with pytest.raises(SystemExit, match=r"steps 1, now 2.*--fresh"):
        make(2)
    assert make(2, fresh=True) == 1


def test_progress_counts_the_runs_that_are_expected_alone() -> None:
    trials = load("trials")
    expected = [Trial(0.1), Trial(0.1)]
    for made, fraction in (([], 0), ([Trial(0.2)], 0.5), ([Trial(1.0), Trial(2.0), Trial(3.0)], 1)):
        with trials.Bar(lambda trial: 1.0, expected, made) as bar:
            assert bar.bar.n / bar.bar.total == fraction
    with trials.Bar(lambda trial: 1.0, expected, [Outcome(0.1)] * 3) as bar:
        assert bar.bar.n == 0


def test_numbers_come_back_from_the_file_exactly(tmp_path: Path) -> None:
    trials = load("trials")
    kept = trials.Runs(tmp_path / "runs.json", Trial, Outcome, {})
    with trials.Bar(lambda trial: 1.0, [], made=[]) as bar:
        kept.make([Trial(2**0.5)], lambda trial: Outcome(math.pi / 3), bar)
    assert trials.Runs(tmp_path / "runs.json", Trial, Outcome, {}).results == kept.results


def test_every_choice_has_a_curve_of_its_own(tmp_path: Path) -> None:
    best, trials = load("best_rates"), load("trials")
    choices = [f"choice {i}" for i in range(30)]
    runs = trials.Runs(tmp_path / "runs.json", best.Trial, best.Outcome, {})
    comparison = best.Comparison(runs, dict.fromkeys(choices, (0.1, 0.2)), seeds=1)
    comparison.make(lambda trial: best.Outcome(trial.lr))
    axes = comparison.plot().axes[0]
    drawn = [line for line in axes.lines if line.get_label() in choices]
    assert [line.get_label() for line in drawn] == choices
    assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == len(choices)


@pytest.mark.parametrize("start", [2**-9.0, 1.0, 2**6.0])
def test_the_walk_finds_the_lowest_rate_from_anywhere(start: float) -> None:
    lowest = 2**-2.5
    assert load("lr_transfer").walk(lambda lr: abs(math.log2(lr / lowest)), start) == pytest.approx(
        lowest
    )


def test_the_walk_ends_where_every_rate_diverges() -> None:
    assert math.isfinite(load("lr_transfer").walk(lambda lr: math.inf, 1.0))


def test_the_walk_goes_around_rates_that_diverge() -> None:
    lowest = 2**-2.0
    assert load("lr_transfer").walk(
        lambda lr: math.inf if lr > lowest else -lr, 2**-4.0
    ) == pytest.approx(lowest)


def test_the_vertex_of_a_parabola_is_found_between_the_rates_of_the_grid() -> None:
    lr_transfer = load("lr_transfer")
    losses: dict[float, list[float | None]] = {2.0**k: [3 * (k - 0.3) ** 2] for k in range(-3, 4)}
    assert math.log2(lr_transfer.vertex(losses)) == pytest.approx(0.3)


def test_the_plan_trains_nothing(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load("lr_transfer").main([*small("lr_transfer", corpus, tmp_path), "--plan"])
    assert "minutes" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_mu_p_exponents_are_those_of_updates_from_a_batch_of_fixed_size() -> None:
    module = load("update_geometry")
    results = {
        module.Trial("fixed batch", width, 0): module.fixed_batch(width, seed=0)
        for width in (64, 128)
    }
    for kind in ("weights", "update"):
        for layer, exponent in module.MU_P[kind].items():
            assert module.slope(results, "fixed batch", kind, layer) == pytest.approx(
                exponent, abs=0.02
            )


def test_shampoo_is_the_inverse_root_to_rounding() -> None:
    errors = load("update_geometry").shampoo(24, seed=0)
    assert errors["inverse_root"]["float64"] < 1e-13
    assert errors["inverse_root, both sides"]["float64"] < 1e-10


def test_shampoos_definition_is_the_polar_factor_of_a_matrix_of_low_rank() -> None:
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.normal(size=(8, 3)))[0] for _ in range(2))
    G = U @ np.diag([3.0, 1.0, 0.1]) @ V.T
    np.testing.assert_allclose(load("update_geometry").shampoo_update(G), U @ V.T, atol=1e-10)


def test_the_picture_is_drawn_and_correlates_with_itself_alone() -> None:
    module = load("weight_erasure")
    mark = module.picture(80)
    noise = torch.randn(80, 80, generator=torch.Generator().manual_seed(0))
    assert set(mark.unique().tolist()) == {0.0, 1.0}
    assert module.correlation(mark, mark) == pytest.approx(1)
    assert abs(module.correlation(noise, mark)) < 0.05
    module.draw(noise, mark)
    assert module.correlation(noise, mark) > 0.4


def test_a_matrix_too_narrow_for_the_picture_is_refused() -> None:
    with pytest.raises(SystemExit, match="--width 20"):
        load("weight_erasure").picture(20)


def test_sums_are_split_without_overlap() -> None:
    x, y, unseen, hidden = load("grokking").sums(7, 0.5, seed=0)
    assert len({tuple(row) for row in [*x.tolist(), *unseen.tolist()]}) == 49
    assert torch.equal(torch.cat((x, unseen))[:, :2].sum(dim=-1) % 7, torch.cat((y, hidden)))


def test_steps_to_a_level_are_those_of_the_first_measurement_that_reached_it() -> None:
    steps_to = load("grokking").steps_to
    assert steps_to([0.1, 0.96, 0.9, 1.0], 0.95, every=20) == 40
    assert steps_to([0.1], 0.95, every=20) is None


def test_norms_are_exchanged_and_initial_weights_kept() -> None:
    module = load("norms")
    torch.manual_seed(0)
    model = module.GPT(12, d_embed=8, num_heads=2, num_blocks=1)
    before = model.weights.clone()
    grad = model.gradient(model(torch.arange(12)[None]).square().mean())
    spectral = model.dualize(grad)
    module.measure_by(model, module.CHOICES["L1→Linf (signs)"])
    signs = model.dualize(grad)
    assert all(map(torch.equal, model.weights.tensors, before.tensors))
    for g, u in zip(grad.tensors, signs.tensors, strict=True):
        assert torch.equal(u.sign(), g.sign())
    assert not all(map(torch.equal, spectral.tensors, signs.tensors))


def singular_vectors(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    G = torch.randn(rows, columns, dtype=torch.float64, generator=generator)
    U, _, Vh = torch.linalg.svd(G, full_matrices=False)
    return U, Vh


@pytest.mark.parametrize(
    ("dual", "low", "high"),
    [("exactly 1", 1.0, 1.0), ("random in [0.5, 1.5]", 0.5, 1.5), ("σ^½", 0.5, 1.0)],
)
def test_an_update_has_the_gradient_s_vectors_and_its_own_values(
    dual: str, low: float, high: float
) -> None:
    U, Vh = singular_vectors(5, 9)
    S = torch.tensor([8.0, 6.0, 4.0, 2.0, 0.0], dtype=torch.float64)
    method = load("spectra").DUALS[dual](3)
    made = U.T @ method((U * S @ Vh)[None])[0] @ Vh.T
    values = made.diagonal()
    torch.testing.assert_close(made, values.diag(), rtol=0, atol=1e-9)
    assert values[-1].abs() < 1e-9  # a direction that the gradient does not touch stays dark
    assert low - 1e-9 <= values[:-1].min()
    assert values[:-1].max() <= high + 1e-9


@pytest.mark.parametrize(
    ("dual", "exponent"), [("σ^¼", 0.25), ("σ^½", 0.5), ("σ^¾", 0.75), ("σ", 1)]
)
def test_a_power_is_taken_of_the_singular_values_over_the_largest(
    dual: str, exponent: float
) -> None:
    U, Vh = singular_vectors(4, 4)
    S = torch.tensor([3.0, 1.0, 0.5, 1e-3], dtype=torch.float64)
    made = load("spectra").DUALS[dual](0)((U * S @ Vh)[None])[0]
    torch.testing.assert_close(made, U * (S / 3) ** exponent @ Vh, rtol=1e-9, atol=1e-9)


def test_random_values_are_drawn_anew_and_follow_from_the_seed() -> None:
    make, X = load("spectra").DUALS["random in [0.5, 1.5]"], torch.eye(6)[None]
    first, again = make(0), make(0)
    one, two = first(X), first(X)
    assert not torch.equal(one, two)
    assert torch.equal(one, again(X))


@pytest.mark.parametrize("name", ["RMS→RMS", "L1→RMS", "RMS→Linf", "Linf→Linf", "L1→Linf"])
def test_a_unit_update_changes_outputs_of_features_of_size_1_by_at_most_1(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    G = torch.randn(6, 10, dtype=torch.float64, generator=generator)
    update = load("norms").geometry(name, fan_in=10).dualize(G[None], "svd")[0]
    signs = torch.randint(2, (50, 10), generator=generator).double() * 2 - 1
    assert (signs @ update.T).square().mean(dim=-1).sqrt().amax() <= 1 + 1e-9


def test_a_plain_gpt_is_lifted(corpus: Path, tmp_path: Path) -> None:
    small = [*LR_TRANSFER[:-2], "dualize", "muon"]
    options = [*small, "--lifted", "--data", str(corpus), "--seeds", "1", "--out", str(tmp_path)]
    runs = load("lr_transfer").main(options)
    assert {trial.network for trial in runs.results} == {"plain", "heads", "scaled", "tied"}
    assert {t.width for t in runs.results if t.network == "scaled"} == {16}
    for network in ("heads", "tied"):
        assert len({t.depth for t in runs.results if t.network == network}) == 1


@pytest.mark.parametrize(("network", "heads"), [("plain", 4), ("heads", 2)])
def test_the_heads_of_a_wider_gpt_stay_four_or_stay_as_wide(
    network: str, heads: int, corpus: Path, tmp_path: Path
) -> None:
    module = load("lr_transfer")
    options = module.parse(["--data", str(corpus), "--context", "8", "--out", str(tmp_path)])
    net = module.task(network, options).build(module.Size(network, 32, 1))
    assert net.torch_module.blocks[0].heads == heads


def test_transfer_of_a_plain_gpt_leaves_numbers_and_a_picture(corpus: Path, tmp_path: Path) -> None:
    options = [*LR_TRANSFER[:-2], "dualize", "muon", "--lifted", "--networks", "tied"]
    runs = load("lr_transfer").main(
        [*options, "--data", str(corpus), "--seeds", "1", "--out", str(tmp_path)]
    )
    assert {trial.system for trial in runs.results} == {"dualize", "muon"}
    assert (tmp_path / "lr_transfer_lifted.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "lr_transfer_lifted.json").exists()


def test_lifted_vision_compares_three_optimizers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("lifted_vision")
    monkeypatch.setattr(module, "RATES", {key: rates[1:3] for key, rates in module.RATES.items()})
    images = tmp_path / "images"
    images.mkdir()
    write_dataset(images)
    small = ["--steps", "2", "--batch", "4", "--width", "4", "--images", "20", "--test", "10"]
    out = ["--out", str(tmp_path / "out"), "--data", str(images)]
    runs = module.main([*small, *out, "--seeds", "2"])
    assert len(runs.results) == 6 * 3
    assert all(0 <= outcome.accuracy <= 1 for outcome in runs.results.values())
    assert (tmp_path / "out" / "lifted_vision.png").exists()
