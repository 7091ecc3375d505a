"""`ResCNN`: well-normed as a whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import ResCNN
from tests.helpers import close, full, largest_gain, largest_weight_gain, rand
from tests.reference import atoms
from tests.strategies import seeds

few = settings(max_examples=5)


def network(**options: int) -> ResCNN:
    return ResCNN(3, 2, **{"width": 4, "num_blocks": 2} | options).double()


@few
@given(seed=seeds)
def test_no_change_of_the_input_grows_beyond_the_sensitivity(seed):
    assert largest_gain(network(), rand(seed, 1, 2, 4, 4), starts=3) <= 1 + 1e-6


@few
@given(seed=seeds)
def test_no_change_of_the_weights_moves_the_output_beyond_its_norm(seed):
    made = network()
    assert (
        largest_weight_gain(made, full(made.domain, rand(seed, 1, 2, 4, 4)), starts=2) <= 1 + 1e-6
    )


@given(num_blocks=st.integers(1, 4), block_depth=st.integers(1, 3))
def test_depth_leaves_the_sensitivity(num_blocks, block_depth):
    close(network(num_blocks=num_blocks, block_depth=block_depth).sensitivity, 1.0)


@given(num_blocks=st.integers(1, 4))
def test_blocks_share_one_unit_of_mass(num_blocks):
    first, *blocks, last = atoms(network(num_blocks=num_blocks))
    close([first.mass, last.mass, sum(atom.mass for atom in blocks)], [1, 1, 1])


@pytest.mark.parametrize("size", [(4, 4), (7, 5), (1, 1)])
def test_images_of_any_size_are_taken(size):
    assert network()(torch.ones(2, 2, *size).double()).shape == (2, 3)


@pytest.mark.parametrize("arguments", [{"num_blocks": 0}, {"block_depth": 0}])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="ResCNN has at least 1 block of at least 1 layer"):
        network(**arguments)
