"""Movement of weights against the definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import Bias, Conv2D, LayoutError, Linear, Update, Weights
from modula.instruments import movement
from tests.helpers import close, rand, random_update
from tests.strategies import seeds


def weights(*shape, seed=0):
    return Weights({"weight": rand(seed, *shape)})


@given(seed=seeds)
def test_of_a_matrix_all_three_are_the_definition(seed):
    before, after = weights(4, 3, seed=seed), weights(4, 3, seed=seed + 1)
    a, b = before["weight"].numpy(), after["weight"].numpy()
    row = movement(before, after)["weight"]
    close(row.entries, np.abs(b - a).mean() / np.abs(a).mean())
    close(row.frobenius, np.linalg.norm(b - a) / np.linalg.norm(a))
    close(row.norm, np.linalg.norm(b - a, 2) / np.linalg.norm(a, 2))


@given(factor=st.floats(0.01, 100), shape=st.sampled_from([(4,), (4, 3), (2, 4, 3), (4, 3, 2, 2)]))
def test_growth_by_a_factor_moves_everything_by_it(factor, shape):
    before = weights(*shape)
    row = movement(before, before + Update({"weight": factor * before["weight"]}))["weight"]
    close([row.entries, row.frobenius, row.norm], [factor] * 3)


def test_for_a_linear_it_is_the_ratio_of_the_atoms_own_norms():
    layer = Linear(3, 8).double()
    update = random_update(layer, 0)
    row = movement(layer.weights.clone(), layer.weights + update)["weight"]
    norm = layer.geometry.norm
    close(row.norm, (norm(update["weight"][None]) / norm(layer.weight.detach()[None]))[0])


def test_for_a_convolution_it_is_the_ratio_of_the_atoms_own_norms():
    layer = Conv2D(3, 2).double()
    update = random_update(layer, 0)
    row = movement(layer.weights.clone(), layer.weights + update)["weight"]
    norm = layer.geometry.norm
    close(row.norm, (norm(update["weight"][None]) / norm(layer.weight.detach()[None]))[0])


def test_a_change_of_low_rank_moves_entries_less_than_the_norm():
    layer = Linear(64, 64).double()
    spike = Update({"weight": torch.outer(rand(0, 64), rand(1, 64)) / 64})
    row = movement(layer.weights.clone(), layer.weights + spike)["weight"]
    assert row.entries < 0.5 * row.norm


def test_what_starts_at_zero_has_no_relative_change():
    bias = Bias(3)
    row = movement(bias.weights.clone(), bias.weights + random_update(bias, 0))["weight"]
    assert (row.entries, row.frobenius, row.norm) == (None, None, None)


def test_a_live_view_is_refused():
    model = Linear(3, 4)
    with pytest.raises(ValueError, match=r"before = model.weights.clone\(\)"):
        movement(model.weights, model.weights)


def test_an_update_is_refused():
    model = Linear(3, 4)
    with pytest.raises(TypeError, match="takes Weights, before and after; got Update"):
        movement(model.weights, random_update(model, 0))


def test_another_model_is_refused():
    with pytest.raises(LayoutError):
        movement(Linear(3, 4).weights, Linear(4, 4).weights)
