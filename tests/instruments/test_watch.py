"""A watch records what the instruments say, when it is due, and leaves the run as it was."""

import csv
import sys

import matplotlib
import pytest
import torch

from modula import MLP, Linear
from modula.instruments import (
    Moment,
    alignment,
    feature_learning,
    movement,
    sensitivity,
    spectra,
    watch,
)
from modula.instruments.watch import RECORDERS
from tests.helpers import rand

matplotlib.use("Agg")
EVERYTHING = list(RECORDERS)


def model_and_data():
    torch.manual_seed(0)
    return MLP(3, 4, width=5).double(), rand(0, 6, 4)


def train(model, x, watcher, steps):
    """A plain loop; the losses."""
    losses = []
    for _ in range(steps):
        loss = (model(x) - torch.randn(6, 3)).square().mean()
        gradient = model.gradient(loss)
        update = model.dualize(gradient, target_norm=0.1)
        if watcher:
            watcher.step(x, gradient=gradient, update=update, loss=loss)
        model.weights -= update
        losses.append(loss.item())
    return losses


def read(path):
    """(step, name) -> value, from a CSV."""
    with path.open(newline="") as file:
        return {
            (int(line["step"]), line["name"]): float(line["value"]) for line in csv.DictReader(file)
        }


def test_a_run_that_is_watched_is_the_same_run(tmp_path):
    alone, x = model_and_data()
    watched, _ = model_and_data()
    torch.manual_seed(1)
    losses = train(alone, x, None, 5)
    torch.manual_seed(1)
    with watch(watched, every=2, log=tmp_path / "run.csv", record=EVERYTHING) as watcher:
        assert train(watched, x, watcher, 5) == losses
    assert all(map(torch.equal, alone.parameters(), watched.parameters()))


def test_it_records_every_nth_step(tmp_path):
    model, x = model_and_data()
    with watch(model, every=3, log=tmp_path / "run.csv") as watcher:
        losses = train(model, x, watcher, 7)
    written = read(tmp_path / "run.csv")
    assert sorted({step for step, _ in written}) == [0, 3, 6]
    assert [written[step, "loss"] for step in (0, 3, 6)] == [losses[step] for step in (0, 3, 6)]


def test_it_writes_what_the_instruments_say():
    model, x = model_and_data()
    gradient = model.gradient(model(x).square().mean())
    update = model.dualize(gradient)
    with watch(model, log=lambda step, numbers: None, record=EVERYTHING, rows=None) as watcher:
        numbers = watcher.step(x, gradient=gradient, update=update)
    expected = (
        alignment(model, x, update).scalars()
        | feature_learning(model, update, x).scalars()
        | sensitivity(model, x).scalars()
    )
    expected |= (
        spectra(gradient).scalars() | spectra(update).scalars() | spectra(model.weights).scalars()
    )
    expected |= {
        "norm/update": model.norm(update).item(),
        "dual_norm/gradient": model.dual_norm(gradient).item(),
    }
    assert expected.items() <= numbers.items()


def test_movement_is_that_since_the_last_record():
    model, x = model_and_data()
    written = {}
    with watch(model, every=2, log=written.__setitem__, record=["movement"]) as watcher:
        before = model.weights.clone()
        train(model, x, watcher, 2)
        expected = movement(before, model.weights).scalars()
        train(model, x, watcher, 1)
    assert written[2].items() >= expected.items()
    assert set(written[0]) == {"loss"}


def test_due_tells_when_a_step_will_be_recorded():
    model, x = model_and_data()
    with watch(model, every=2, log=lambda step, numbers: None, record=[]) as watcher:
        told = []
        for _ in range(5):
            due = watcher.due
            told.append(due == (watcher.step(x) is not None))
    assert all(told)


def test_a_function_of_ones_own_sees_the_moment():
    model, x = model_and_data()
    seen = []

    def mine(moment: Moment):
        seen.append(moment)
        return {"mine": 7.0}

    with watch(model, log=lambda step, numbers: None, record=[mine], start=3, every=3) as watcher:
        assert watcher.step(x) == {"mine": 7.0}
    assert (seen[0].model, seen[0].step, seen[0].update) == (model, 3, None)
    assert torch.equal(seen[0].x, x[:4])


def test_rows_of_every_part_of_the_input_are_taken():
    seen = []
    with watch(
        Linear(3, 4),
        log=lambda step, numbers: None,
        record=[lambda moment: seen.append(moment.x) or {}],
        rows=2,
    ) as watcher:
        watcher.step((torch.zeros(5, 4), torch.ones(5, 3)))
    assert [part.shape for part in seen[0]] == [(2, 4), (2, 3)]


def test_a_run_that_goes_on_keeps_what_was_before_and_replaces_what_comes_after(tmp_path):
    model, x = model_and_data()
    path = tmp_path / "run.csv"
    with watch(model, every=1, log=path, record=[]) as watcher:
        first = train(model, x, watcher, 4)
    with watch(model, every=1, log=path, record=[], start=2) as watcher:
        second = train(model, x, watcher, 2)
    written = read(path)
    assert [written[step, "loss"] for step in range(4)] == first[:2] + second
    assert len(path.read_text().splitlines()) == 5


def test_a_run_that_starts_afresh_starts_its_table_afresh(tmp_path):
    model, x = model_and_data()
    for steps in (3, 1):
        with watch(model, every=1, log=tmp_path / "deep" / "run.csv", record=[]) as watcher:
            train(model, x, watcher, steps)
    assert len(read(tmp_path / "deep" / "run.csv")) == 1


def test_what_is_written_is_there_before_the_end(tmp_path):
    model, x = model_and_data()
    watcher = watch(model, log=tmp_path / "run.csv", record=[])
    train(model, x, watcher, 1)
    assert len(read(tmp_path / "run.csv")) == 1
    watcher.close()


def test_tensorboard_gets_scalars(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model, x = model_and_data()
    with watch(model, every=2, log=tmp_path / "board", record=["norm", "dual_norm"]) as watcher:
        losses = train(model, x, watcher, 3)
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert {"loss", "norm/update", "dual_norm/gradient"} == set(events.Tags()["scalars"])
    assert [
        (event.step, pytest.approx(event.value, rel=1e-6)) for event in events.Scalars("loss")
    ] == [(0, losses[0]), (2, losses[2])]


def test_without_tensorboard_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        ImportError,
        match=r"pip install 'modula-torch\[tensorboard\]', or give a path that ends in .csv",
    ):
        watch(Linear(3, 4), log=tmp_path / "board")


class Board:
    """A writer of somebody else's."""

    def __init__(self):
        self.written = []

    def add_scalar(self, tag, scalar_value, global_step):
        self.written.append((tag, scalar_value, global_step))


def test_a_writer_is_written_to():
    model, x = model_and_data()
    board = Board()
    with watch(model, log=board, record=[]) as watcher:
        (loss,) = train(model, x, watcher, 1)
    assert board.written == [("loss", loss, 0)]


@pytest.mark.parametrize("name", ["alignment", "feature_learning"])
def test_what_an_instrument_lacks_is_named(name):
    model, x = model_and_data()
    with (
        watch(model, log=lambda step, numbers: None, record=[name]) as watcher,
        pytest.raises(ValueError, match=r"needs update: pass it, as in watcher.step"),
    ):
        watcher.step(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "got every=0"),
        ({"start": -1}, "start=-1"),
        ({"rows": 0}, "rows=0"),
        ({"record": ["speed"]}, "cannot record 'speed'"),
    ],
)
def test_impossible_options_are_refused_before_a_file_is_made(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        watch(Linear(3, 4), log=tmp_path / "run.csv", **options)
    assert not (tmp_path / "run.csv").exists()


def test_the_history_is_plotted_by_pattern():
    from matplotlib import pyplot

    model, x = model_and_data()
    with watch(model, every=1, log=lambda step, numbers: None) as watcher:
        losses = train(model, x, watcher, 3)
    (line,) = watcher.plot("loss").lines
    assert list(line.get_ydata()) == losses
    with pytest.raises(
        ValueError, match=r"fits 'speed'; there are alignment, loss, movement, norm, spectra"
    ):
        watcher.plot("speed")
    pyplot.close("all")
