"""Tables of positions and class tokens are well-normed."""

import pytest
import torch

from modula import ClassToken, Embed, Enumerate, Linear, PositionTable
from modula.testing import check_atom, check_network
from tests.helpers import close, rand


@pytest.mark.parametrize("atom", [PositionTable(4, context=3), ClassToken(4)], ids=repr)
def test_its_laws_hold_and_the_bound_on_the_weight_is_attained(atom):
    ratios = check_atom(atom, rand(0, 2, 3, 4), steps=5)
    close(ratios.input, 1.0, rtol=1e-6)
    close(ratios.weights, 1.0, rtol=1e-6)


@pytest.mark.parametrize("atom", [PositionTable(4, context=2), ClassToken(4)], ids=repr)
def test_the_radius_is_reached(atom):
    atom.double().weight.data.fill_(1.0)
    y = atom(torch.ones(1, 2, 4).double())
    close(y.square().mean(-1).sqrt().max(), atom.radius(1.0))


def test_each_position_gets_its_row():
    table = PositionTable(4, context=5)
    x = torch.randn(2, 3, 4)
    close(table(x), x + table.weight[:3])


def test_a_table_of_positions_is_an_embedding_of_positions():
    table, ids = PositionTable(4, context=6), torch.tensor([[2, 0, 1]])
    tokens, positions = Embed(4, 3), Embed(4, 6)
    positions.weight.data.copy_(table.weight)
    close((table @ tokens)(ids), (tokens + positions @ Enumerate())(ids))


def test_a_class_token_comes_first():
    token, x = ClassToken(4), torch.randn(2, 3, 4)
    y = token(x)
    assert torch.equal(y[:, 1:], x)
    assert torch.equal(y[:, 0], token.weight.expand(2, 4))


@pytest.mark.parametrize(
    ("atom", "x"),
    [
        (PositionTable(4, context=2), torch.ones(1, 3, 4)),
        (PositionTable(4, context=2), torch.ones(4)),
        (ClassToken(4), torch.ones(4)),
    ],
)
def test_other_shapes_are_refused(atom, x):
    with pytest.raises(ValueError, match=r"takes \[\.\.\., position, d\]"):
        atom(x)


def test_they_compose_with_what_comes_before_and_after():
    model = Linear(2, 4) @ ClassToken(4) @ PositionTable(4, context=3) @ Linear(4, 3)
    check_network(model, torch.randn(2, 3, 3), steps=5)
