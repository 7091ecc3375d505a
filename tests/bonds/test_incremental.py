"""What bonds that continue a sequence keep of the positions so far."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from modula.bonds.incremental import Positions
from tests.helpers import rand

pieces = st.lists(st.integers(1, 5), min_size=1, max_size=12)


@given(lengths=pieces, most=st.one_of(st.none(), st.integers(0, 6)))
def test_each_piece_comes_with_those_kept_of_the_ones_before(lengths, most):
    x, positions, end = rand(0, 2, sum(lengths), 3), Positions(most), 0
    for length in lengths:
        found = positions.append(x[:, end : end + length])
        first = 0 if most is None else max(0, end - most)
        end += length
        assert torch.equal(found, x[:, first:end])


def capacity(found: torch.Tensor) -> int:
    """The number of positions for which the tensor behind a view has memory."""
    return found.untyped_storage().nbytes() // found.element_size() // found.shape[-1]


def test_a_window_takes_no_more_memory_however_long_the_sequence():
    positions = Positions(3)
    sizes = [capacity(positions.append(torch.zeros(1, 2))) for _ in range(200)]
    assert max(sizes) <= 2 * (3 + 1)


def test_all_positions_are_copied_a_constant_number_of_times():
    positions = Positions()
    sizes = [capacity(positions.append(torch.zeros(1, 2))) for _ in range(1000)]
    grown = sorted(set(sizes))
    assert sum(grown) <= 4 * 1000
    assert grown[-1] <= 2 * 1000
