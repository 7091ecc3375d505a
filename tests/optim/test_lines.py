"""Rows and columns of the matrices of which weights consist."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import RMS, Conv2D, Embed, HeadLinear, Linear
from modula.geometry import Spectral, Stacked, Transposed
from modula.optim.rules.lines import lengths, lengths_by_matrix, spread
from tests.helpers import close

MATRIX = Spectral(RMS, RMS)
WEIGHTS = [
    (MATRIX, (4, 3)),
    (Transposed(MATRIX), (4, 3)),
    (Stacked(MATRIX, (2, 3)), (5, 4)),
    (Stacked(MATRIX, 2, axis=1), (3, 8)),
    *[
        (atom.plan().geometries[0], tuple(next(atom.parameters()).shape))
        for atom in (Linear(3, 5), HeadLinear(2, 4, 3), Conv2D(3, 2, 3), Conv2D(4, 4, 3, groups=2))
    ],
]


def normal(shape, seed, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)


@given(
    weight=st.sampled_from(WEIGHTS),
    of=st.sampled_from(["rows", "columns"]),
    seed=st.integers(0, 1000),
)
def test_lines_divided_by_their_lengths_have_the_length_1(weight, of, seed):
    geometry, shape = weight
    w = normal(shape, seed, batch=2)
    found = lengths(geometry, w, of)
    divided = w / spread(geometry, w.shape[1:], found, of)
    close(lengths(geometry, divided, of), torch.ones_like(found), rtol=1e-9)


@pytest.mark.parametrize(("geometry", "shape"), WEIGHTS)
@pytest.mark.parametrize("of", ["rows", "columns"])
def test_the_squares_of_all_lines_are_those_of_all_entries(geometry, shape, of):
    w = normal(shape, 0, batch=2)
    close(lengths(geometry, w, of).square().sum(dim=1), w.flatten(1).square().sum(dim=1), rtol=1e-9)


@pytest.mark.parametrize(("of", "dim"), [("rows", 1), ("columns", 0)])
def test_the_lines_of_one_matrix(of, dim):
    w = normal((4, 3), 0)
    close(lengths(MATRIX, w, of)[0], w[0].norm(dim=dim), rtol=1e-9)


def test_blocks_of_unequal_shapes_have_lines_of_their_own():
    w = normal((5, 4), 0)
    geometry = Stacked(MATRIX, (2, 3))
    shapes = [tuple(one.shape) for one in lengths_by_matrix(geometry, w, "columns")]
    assert shapes == [(1, 1, 4), (1, 1, 4)]
    of_blocks = torch.cat([w[0, :2].norm(dim=0), w[0, 2:].norm(dim=0)])
    close(lengths(geometry, w, "columns")[0], of_blocks, rtol=1e-9)


def test_tables_have_no_lines():
    geometry = Embed(6, 4).plan().geometries[0]
    assert lengths_by_matrix(geometry, normal((6, 4), 0), "rows") == []


def test_lines_of_16_bits_are_measured_in_32():
    w = torch.full((1, 2, 300), 1 / 3).bfloat16()
    found = lengths(MATRIX, w, "rows")
    assert found.dtype == torch.float32
    close(found, w.double().norm(dim=2).float(), rtol=1e-6)
