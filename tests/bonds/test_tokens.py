"""Bonds on token ids."""

import pytest
import torch

from modula import Embed, Enumerate, OneHot
from modula.spaces import Space


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_ids_become_positions(dtype):
    ids = torch.tensor([[7, 7, 7], [1, 2, 3]], dtype=dtype)
    positions = Enumerate()(ids)
    assert positions.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert positions.dtype == dtype


def test_positions_do_not_depend_on_the_ids():
    assert torch.equal(Enumerate()(torch.tensor([[5, 9]])), Enumerate()(torch.tensor([[1, 1]])))


def test_learned_positions_are_added_to_tokens():
    tokens, positions = Embed(4, 9), Embed(4, 3)
    ids = torch.tensor([[8, 0, 8]])
    assert torch.equal(
        (tokens + positions @ Enumerate())(ids), tokens.weight[ids] + positions.weight
    )


def test_it_maps_ids_to_ids():
    assert (Enumerate().domain, Enumerate().codomain) == (Space(OneHot), Space(OneHot))
