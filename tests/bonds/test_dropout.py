"""Dropout: its sensitivity follows the mode of the network, and bounds every choice of entries."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import RMS, ChannelRMS, Conv2D, Dropout, Linear, ReLU
from modula.spaces import Space
from modula.testing import check_bond
from tests.helpers import close, rand


class OneChoice(Dropout):
    """A dropout that takes the same entries each time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return super().forward(x)


@pytest.mark.parametrize("training", [True, False])
def test_bounds_hold_for_one_choice_of_entries_under_every_norm(training):
    ratios = check_bond(OneChoice(0.25).train(training), rand(0, 4, 6), steps=4)
    close(ratios.input, 1.0, rtol=1e-6)


@given(p=st.floats(0, 0.99))
def test_the_sensitivity_follows_the_mode(p):
    model = ReLU() @ Dropout(p) @ Linear(4, 4)
    close([model.sensitivity, model.eval().sensitivity], [1 / (1 - p), 1.0])
    close(model.train().sensitivity, 1 / (1 - p))


def test_steps_follow_the_mode():
    model = Dropout(0.5) @ Linear(4, 4)
    assert model.graph().weight_sensitivities() == {"0.weight": 2.0}
    assert model.eval().graph().weight_sensitivities() == {"0.weight": 1.0}
    model[1].train()
    assert model.graph().weight_sensitivities() == {"0.weight": 2.0}


def test_entries_are_dropped_in_training_alone():
    x = torch.ones(1000)
    dropped = Dropout(0.25)(x)
    close(dropped[dropped != 0].unique(), torch.tensor([4 / 3]), rtol=1e-6)
    assert 0.15 < (dropped == 0).float().mean() < 0.35
    assert torch.equal(Dropout(0.25).eval()(x), x)


def test_it_is_as_wide_as_its_neighbour():
    assert (Dropout() @ Linear(5, 3)).codomain == Space(RMS, 5)
    assert (Conv2D(5, 3) @ Dropout()).domain == Space(ChannelRMS, 3)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_an_impossible_probability_is_refused(p):
    with pytest.raises(ValueError, match="a probability from 0 to below 1"):
        Dropout(p)


def test_a_sensitivity_cannot_be_set():
    with pytest.raises(AttributeError):
        Dropout().sensitivity = 1.0
