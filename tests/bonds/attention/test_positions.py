"""Sinusoidal positions, and rotary ones where there are fewer queries than keys."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import RMS, Embed, Rope, Sinusoid
from modula.spaces import Space
from modula.testing import check_bond
from tests.helpers import close, rand

IDS = torch.randint(9, (2, 7), generator=torch.Generator().manual_seed(0))


@given(d_embed=st.sampled_from([2, 4, 10]), base=st.floats(2.0, 1e5))
def test_every_position_has_rms_one(d_embed, base):
    close(RMS.norm(Sinusoid(d_embed, base)(IDS)), torch.ones(2, 7), rtol=1e-5)


def test_entries_are_sines_and_cosines_of_the_position():
    table = Sinusoid(4, base=100.0)(IDS)[0]
    for position in range(7):
        angles = [position, position / 10]
        expected = [math.sqrt(2) * f(a) for a in angles for f in (math.sin, math.cos)]
        close(table[position], expected, rtol=1e-5, atol=1e-6)


def test_positions_do_not_depend_on_ids():
    assert torch.equal(Sinusoid(4)(IDS), Sinusoid(4)(IDS.flip(0)))


def test_sinusoids_have_the_spaces_of_an_embedding():
    sinusoid = Sinusoid(6)
    assert sinusoid.codomain == Space(RMS, 6)
    assert (0.5 * Embed(6, 9) + 0.5 * sinusoid)(IDS).shape == (2, 7, 6)


def test_sinusoids_keep_the_laws_of_bonds():
    check_bond(Sinusoid(6), IDS)


@pytest.mark.parametrize("d_embed", [0, 3])
def test_an_odd_width_is_refused(d_embed):
    with pytest.raises(ValueError, match=f"even d_embed, got {d_embed}"):
        Sinusoid(d_embed)


def test_a_base_without_wavelengths_is_refused():
    with pytest.raises(ValueError, match="Sinusoid takes a base > 0"):
        Sinusoid(4, 0.0)


@pytest.mark.parametrize("queries", [1, 3])
def test_fewer_queries_are_at_the_last_positions(queries):
    query, key = rand(0, 1, 2, 5, 4), rand(1, 1, 2, 5, 4)
    whole, _ = Rope(4)((query, key))
    last, keys = Rope(4)((query[..., -queries:, :], key))
    close(last, whole[..., -queries:, :])
    close(keys, Rope(4)((query, key))[1])
