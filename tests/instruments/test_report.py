"""What all reports have in common: look-up, text, numbers, plots."""

import builtins
import math

import matplotlib
import pytest
import torch

from modula import GELU, GPT, MLP, Linear, RMSNorm
from modula.instruments import (
    alignment,
    calibrate,
    feature_learning,
    movement,
    sensitivity,
    spectra,
    well_normed,
)
from modula.instruments.report import SHOWN, prominent, table
from tests.helpers import random_update

matplotlib.use("Agg")


def model_and_data():
    torch.manual_seed(0)
    return MLP(3, 4, width=5, activation=GELU()), torch.randn(6, 4)


def reports():
    model, x = model_and_data()
    update = random_update(model, 0)
    return {
        "sensitivity": sensitivity(model, x, steps=3),
        "well_normed": well_normed(model, x, steps=3),
        "feature_learning": feature_learning(model, update, x),
        "alignment": alignment(model, x, update),
        "spectra": spectra(update),
        "movement": movement(model.weights.clone(), model.weights + update),
        "calibrate": calibrate(Linear(3, 4) @ RMSNorm(), x),
    }


REPORTS = reports()
each = pytest.mark.parametrize("name", REPORTS)


@each
def test_every_row_is_in_the_text(name):
    text = str(REPORTS[name])
    assert all((row.path or "model") in text for row in REPORTS[name])


@each
def test_columns_stand_under_their_headers(name):
    lines = [line for line in str(REPORTS[name]).splitlines() if "  " in line]
    assert len(lines) >= 1 + len(REPORTS[name])
    assert all(len(line) <= 140 for line in lines)


@each
def test_a_row_is_found_by_its_path(name):
    for row in REPORTS[name]:
        assert REPORTS[name][row.path] is row


@each
def test_an_unknown_path_is_refused_with_those_there_are(name):
    with pytest.raises(KeyError, match=r"no row 'nowhere' in this \w+Report; there are '"):
        REPORTS[name]["nowhere"]


@each
def test_numbers_have_names_of_their_instrument(name):
    numbers = REPORTS[name].scalars()
    assert numbers
    assert all(
        key.startswith(f"{name}/") and math.isfinite(value) for key, value in numbers.items()
    )


@each
def test_it_plots_on_a_figure_of_its_own_and_on_given_axes(name):
    from matplotlib import pyplot

    axes = REPORTS[name].plot()
    assert axes.has_data()
    assert REPORTS[name].plot(axes) is axes
    axes.figure.canvas.draw()
    pyplot.close(axes.figure)


@each
def test_a_report_cannot_be_changed(name):
    with pytest.raises(AttributeError, match="cannot assign"):
        REPORTS[name].rows = ()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'modula-torch\[plots\]'"):
        REPORTS["spectra"].plot()


def test_a_large_model_shows_the_rows_that_matter():
    model = GPT(7, d_embed=8, num_heads=2, num_blocks=3)
    report = sensitivity(model, torch.tensor([[1, 2, 3]]), steps=1, directions=1)
    lines = str(report).splitlines()
    assert f"… {len(report) - SHOWN} more, none nearer to its bound; all are in .rows" in lines
    worst = max(report, key=lambda row: row.tightness or 0)
    assert any(line.startswith(worst.path) for line in lines)


def test_the_most_prominent_rows_keep_their_order():
    rows, left_out = prominent(list(range(100)), [float(i % 50) for i in range(100)])
    assert rows == sorted(rows)
    assert left_out == 100 - SHOWN
    assert {49, 99} <= set(rows)


def test_numbers_are_aligned_right_and_names_left():
    assert table(["a", "bb", "c"], [["x", "y", "10"]]) == "a  bb   c\nx  y   10"
