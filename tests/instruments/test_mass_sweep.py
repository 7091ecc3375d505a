"""A sweep trains what it says, under the seeds it says, once."""

import errno
import json
import math
import os

import matplotlib
import pytest
import torch

from modula import MLP, Linear, ReLU, ResMLP
from modula.instruments import MassSweep, Run, mass_sweep

matplotlib.use("Agg")
BUILD = {"small": lambda: MLP(2, 3, width=4, depth=2), "large": lambda: MLP(2, 3, width=8, depth=2)}


def parabola(model):
    """A loss that is least where the first layer has mass 2; no training at all."""
    return (math.log(model[0].mass) - math.log(2)) ** 2


def test_every_mass_is_set_where_it_should_be():
    seen = []
    mass_sweep(
        {"mlp": BUILD["small"]},
        lambda model: seen.append((model[0].mass, model[2].mass)) or 0.0,
        "0",
        [0.5, 4.0],
        progress=False,
    )
    assert seen == [(0.5, 1.0), (4.0, 1.0)]


def test_a_part_may_be_a_class():
    totals = []
    build = {"net": lambda: ResMLP(2, 3, width=4, num_blocks=2)}
    mass_sweep(
        build, lambda model: totals.append(model.mass) or 0.0, "Linear", [6.0], progress=False
    )
    assert totals == [pytest.approx(6.0)]


def test_the_best_is_found():
    sweep = mass_sweep(BUILD, parabola, "0", [1.0, 2.0, 4.0], progress=False)
    assert [sweep.best(model).mass for model in sweep.models] == [2.0, 2.0]


def test_it_tells_a_good_mass_from_a_bad_one():
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    y = torch.relu(x) @ torch.ones(3, 2)

    def train(model):
        for _ in range(40):
            loss = (model(x) - y).square().mean()
            model.weights -= model.dualize(model.gradient(loss), target_norm=0.2)
        return loss.item()

    sweep = mass_sweep(
        {"mlp": lambda: Linear(2, 16) @ ReLU() @ Linear(16, 3)},
        train,
        "2",
        [1e-3, 1.0],
        seeds=(0, 1),
        progress=False,
    )
    assert sweep.best("mlp").mass == 1.0


def test_seeds_decide_everything_and_the_callers_numbers_are_left_alone():
    def train(model):
        return (model[0].weight.sum() + torch.rand(())).item()

    before = torch.random.get_rng_state()
    sweep = mass_sweep(BUILD, train, "0", [1.0], seeds=(0, 1), progress=False)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert sweep == mass_sweep(BUILD, train, "0", [1.0], seeds=(0, 1), progress=False)
    assert len({run.loss for run in sweep.runs}) == 4


def test_a_sweep_that_was_stopped_goes_on(tmp_path):
    trained = []

    def train(model):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(model)
        return parabola(model)

    def run(train):
        return mass_sweep(
            BUILD,
            train,
            "0",
            [1.0, 2.0, 4.0],
            save=tmp_path / "deep" / "sweep.json",
            progress=False,
        )

    with pytest.raises(KeyboardInterrupt):
        run(train)
    rest = []
    whole = run(lambda model: rest.append(model) or parabola(model))
    assert (len(trained), len(rest)) == (3, 3)
    assert whole == mass_sweep(BUILD, parabola, "0", [1.0, 2.0, 4.0], progress=False)
    assert run(None) == whole


def test_more_masses_are_added_to_the_file(tmp_path):
    file = tmp_path / "sweep.json"
    mass_sweep(BUILD, parabola, "0", [1.0], save=file, progress=False)
    sweep = mass_sweep(BUILD, parabola, "0", [2.0], save=file, progress=False)
    assert {run.mass for run in sweep.runs} == {2.0}
    assert len(json.loads(file.read_text())["runs"]) == 4


def test_the_file_of_another_part_is_refused(tmp_path):
    mass_sweep(BUILD, parabola, "0", [1.0], save=tmp_path / "sweep.json", progress=False)
    with pytest.raises(ValueError, match="holds a sweep over the mass of '0', not of '2'"):
        mass_sweep(BUILD, parabola, "2", [1.0], save=tmp_path / "sweep.json", progress=False)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"at": "0", "runs": [1]}', b"3"])
def test_a_file_that_is_damaged_is_refused_and_stays(content, tmp_path):
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(ValueError, match="is not a file of sweeps"):
        mass_sweep(BUILD, parabola, "0", [1.0], save=tmp_path / "sweep.json", progress=False)
    assert (tmp_path / "sweep.json").read_bytes() == content


def sweep_of(*losses):
    return MassSweep(
        "0", tuple([Run("net", mass, seed, loss) for seed, (mass, loss) in enumerate(losses)])
    )


def test_a_curve_has_mean_and_range():
    (point,) = sweep_of((1.0, 2.0), (1.0, 4.0), (1.0, 6.0)).curve("net")
    assert (point.mean, point.low, point.high) == (4.0, 2.0, 6.0)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_mass_with_a_run_that_diverged_is_never_the_best(loss):
    sweep = sweep_of((1.0, 3.0), (2.0, loss), (2.0, 0.0))
    assert sweep.best("net").mass == 1.0
    assert "diverged" in str(sweep)


def test_if_everything_diverged_there_is_no_best():
    with pytest.raises(ValueError, match="every run of 'net' diverged"):
        sweep_of((1.0, math.nan)).best("net")


def test_the_text_has_a_row_for_each_mass():
    assert str(sweep_of((1.0, 3.0), (2.0, 1.0))).splitlines() == [
        "mass of 0  net",
        "        1    3",
        "        2    1",
        "best: 2 for net",
    ]


def test_the_plot_has_a_line_for_each_network():
    from matplotlib import pyplot

    axes = mass_sweep(BUILD, parabola, "0", [1.0, 2.0, 4.0], progress=False).plot()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["small", "large"]
    axes.figure.canvas.draw()
    pyplot.close(axes.figure)


@pytest.mark.parametrize("masses", [[], [0.0], [-1.0], [math.inf]])
def test_an_impossible_grid_is_refused(masses):
    with pytest.raises(
        ValueError, match=r"at least one network, one seed and one mass > 0|must be a finite number"
    ):
        mass_sweep(BUILD, parabola, "0", masses, progress=False)


def test_a_part_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no part 'blocks'"):
        mass_sweep(BUILD, parabola, "blocks", [1.0], progress=False)


def test_an_unknown_network_is_refused():
    with pytest.raises(KeyError, match="no network 'net' in this sweep"):
        mass_sweep(BUILD, parabola, "0", [1.0], progress=False).curve("net")


def test_a_bar_shows_how_far_it_is(capsys, tmp_path):
    mass_sweep(BUILD, parabola, "0", [1.0], save=tmp_path / "sweep.json", progress=False)
    mass_sweep(BUILD, parabola, "0", [1.0, 2.0], save=tmp_path / "sweep.json")
    assert "4/4" in capsys.readouterr().err


def test_a_write_that_fails_leaves_the_runs_that_were_there(tmp_path, monkeypatch):
    file = tmp_path / "sweep.json"
    mass_sweep(BUILD, parabola, "0", [1.0], save=file, progress=False)
    before = file.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        mass_sweep(BUILD, parabola, "0", [2.0], save=file, progress=False)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
