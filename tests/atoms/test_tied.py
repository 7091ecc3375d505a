"""Heads that share the table of an embedding."""

import copy

import pytest
import torch
import torch.nn.functional as F

from modula import Embed, Linear, RMSNorm, SteepestDescent, TiedHead, tie
from modula.geometry import Intersection, Vectors
from modula.testing import check_atom, check_network
from tests.helpers import close, rand

IDS = torch.tensor([[0, 3, 1]])


def tied(scale=4.0):
    table = Embed(4, 6)
    return scale * TiedHead(table) @ RMSNorm() @ Linear(4, 4) @ table


def test_its_laws_hold_and_the_bounds_are_attained():
    ratios = check_atom(TiedHead(Embed(4, 6)), rand(0, 3, 4))
    close(ratios.input, 1.0, rtol=1e-6)
    close(ratios.weights, 1.0, rtol=1e-6)


def test_the_norm_of_the_head_is_that_of_the_table():
    table = Embed(4, 6)
    assert TiedHead(table).geometry == table.geometry == Vectors(table.geometry.vector_norm)


def test_it_is_the_table_over_the_width():
    table, x = Embed(4, 6), torch.randn(3, 4)
    close(TiedHead(table)(x), x @ table.weight.T / 4, rtol=1e-6, atol=1e-7)


def test_the_weight_counts_once_and_moves_once():
    model = tied()
    assert len(model.weights) == 2
    assert model.mass == 2.0
    table = model[0].weight
    optimizer = SteepestDescent(model, lr=0.1, method="svd")
    before = table.detach().clone()
    F.cross_entropy(model(IDS).flatten(0, 1), IDS.flatten()).backward()
    optimizer.step()
    moved = (table.detach() - before).square().mean(-1).sqrt()
    # S of the table: 4 through each of its uses, so its coefficient is 1/2 of the mass over 8
    close(moved.max(), 0.1 * (1 / 2) / 8, rtol=1e-4)


def test_a_copy_is_tied_too():
    model = copy.deepcopy(tied())
    assert model[0].weight is model[3].weight
    check_network(model, IDS, steps=5)


def test_tie_measures_the_weight_by_both_norms():
    table = Embed(4, 6)
    model = tie(Linear(6, 4), table) @ RMSNorm() @ table
    (geometry,) = model.plan().geometries
    assert isinstance(geometry, Intersection)
    check_network(model, IDS, steps=3)


def test_tie_takes_the_mass_of_the_table():
    table = Embed(4, 6, mass=0.5)
    assert tie(Linear(6, 4), table).mass == 0.5


def test_other_shapes_are_not_tied():
    with pytest.raises(ValueError, match="fan_out=6 and fan_in=4"):
        tie(Linear(4, 6), Embed(4, 6))
