"""The search for the GPT's settings compares what it says, and the examples have its result."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import gpt_search
from benchmarks.gpt_search import Outcome, Search, Stage, Trainer, Trial

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import text
from gpt_settings import SETTINGS, Settings, network, torch_optimizers
from trials import Runs

START = Trial("modula", 0.2, momentum=0.85)


def runs_in(folder: Path) -> Runs[Trial, Outcome]:
    return Runs(folder / "gpt_search.json", Trial, Outcome, {"data": "none"})


def loss_of(trial: Trial) -> Outcome:
    """Return a loss that is lowest at the rate 0.4 and the momentum 0.9; 0.8 diverges."""
    distance = abs(math.log(trial.lr / 0.4)) + abs(trial.momentum - 0.9)
    return Outcome(None if trial.momentum == 0.8 else distance)


def test_a_search_goes_from_setting_to_setting(tmp_path: Path) -> None:
    search = Search(
        START,
        [Stage("lr", [0.1, 0.4]), Stage("momentum", [0.8, 0.9])],
        [Stage("momentum", [0.92])],
    )
    tried = gpt_search.Comparison(runs_in(tmp_path), loss_of).search(search, search.start)
    assert [each.name for each in tried] == ["lr", "momentum", "lr", "momentum", "lr"]
    assert tried[1].best == replace(START, lr=0.4, momentum=0.9)
    assert tried[1].losses[0.8] == math.inf
    assert {each.best.length for each in tried[2:]} == {gpt_search.LONG}
    assert tried[2].best.lr == pytest.approx(max(gpt_search.LONG_FACTORS) * 0.4)
    assert set(tried[3].losses) == {0.9, 0.92}
    best = tried[3].best.lr
    assert tried[-1].best.lr == pytest.approx(max(gpt_search.NEAR_FACTORS) * best, rel=0.02)


def test_trials_that_are_stored_are_not_repeated(tmp_path: Path) -> None:
    search = Search(START, [Stage("lr", [0.1, 0.4])])
    made: list[Trial] = []

    def counted(trial: Trial) -> Outcome:
        made.append(trial)
        return loss_of(trial)

    first = gpt_search.Comparison(runs_in(tmp_path), counted).search(search, search.start)
    count = len(made)
    again = gpt_search.Comparison(runs_in(tmp_path), counted).search(search, search.start)
    assert again == first
    assert len(made) == count == 3 + len(gpt_search.LONG_FACTORS + gpt_search.NEAR_FACTORS)


def test_every_search_tries_settings_that_exist_and_matter_to_its_optimizer() -> None:
    for search in gpt_search.SEARCHES.values():
        stages = [*search.stages, *search.long_stages]
        assert all(hasattr(search.start, stage.name) for stage in stages)


@pytest.mark.parametrize("name", gpt_search.SEARCHES)
def test_trainer_and_example_take_the_same_steps(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import train_gpt

    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog, and then rests. " * 300)
    for name_of, value in {"BATCH": 2, "CONTEXT": 8, "WIDTH": 16, "HEADS": 2, "BLOCKS": 1}.items():
        monkeypatch.setattr(gpt_search, name_of, value)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    trial = Trial(**vars(SETTINGS[name]), length=5)
    corpus = text.load(str(path))
    found = Trainer(corpus, seed=0, windows=10**6)(trial)
    size = "--steps 5 --batch 2 --context 8 --width 16 --heads 2 --blocks 1 --device cpu"
    result = train_gpt.main(
        ["--data", str(path), "--out", str(tmp_path), "--optimizer", name, *size.split()]
    )
    assert found.loss is not None
    assert math.isclose(found.loss, result["validation_loss"], rel_tol=1e-5)


def test_the_examples_have_the_settings_that_the_stored_search_ends_with() -> None:
    def refuse(trial: Trial) -> Outcome:
        raise AssertionError(f"{trial} is not stored")

    tried = gpt_search.search_all(gpt_search.stored_runs(), refuse)
    for name, best in gpt_search.chosen(tried).items():
        assert Trial(**vars(SETTINGS[name]), length=gpt_search.LONG) == best
    rates = next(each for each in tried if each.best.length == gpt_search.LONG)
    loop = Trial(**vars(SETTINGS["dualize"]), length=gpt_search.LONG)
    assert replace(loop, optimizer="modula") == rates.best


def test_all_optimizers_had_the_same_number_of_trials_in_one_network() -> None:
    assert len(set(gpt_search.count_trials().values())) == 1
    assert len({(s.token_shift, s.rope_base) for s in SETTINGS.values()}) == 1


def test_muon_trains_the_blocks_and_adamw_the_rest() -> None:
    model = network(11, Settings("muon", 0.02, momentum=0.9), width=8, heads=2, blocks=1)
    muon, adamw = torch_optimizers(Settings("muon", 0.02, momentum=0.9), model)
    taken = [*muon.param_groups[0]["params"], *adamw.param_groups[0]["params"]]
    assert {id(p) for p in taken} == {id(p) for p in model.parameters()}
    assert len(taken) == len(list(model.parameters()))
    assert [p.shape for p in adamw.param_groups[0]["params"]] == [(11, 8), (11, 8)]


def test_the_guide_to_rates_quotes_the_settings_of_the_example() -> None:
    loop, chosen = SETTINGS["dualize"], SETTINGS["modula"]
    guide = (Path(__file__).parents[1] / "docs" / "guides" / "rates-and-masses.md").read_text()
    assert (
        f"2,000 steps, momentum {loop.momentum:g} | {loop.lr:g} | `examples/train_gpt.py" in guide
    )
    assert f"the same, weight decay {chosen.decay:g} and" in guide
    assert f" | {chosen.lr:g} | `examples/train_gpt.py` |" in guide
