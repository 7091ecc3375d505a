"""The convex residual connection."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import residual
from tests.helpers import close, rand
from tests.strategies import feature_trees

few = settings(max_examples=20)


@few
@given(block=feature_trees(3), branches=st.integers(2, 9))
def test_it_averages_the_block_with_its_input(block, branches):
    x = rand(0, 2, 3)
    close(residual(block, branches)(x), (1 - 1 / branches) * x + block(x) / branches)


@few
@given(block=feature_trees(3), branches=st.integers(2, 9))
def test_its_sensitivity_is_the_same_average(block, branches):
    close(residual(block, branches).sensitivity, 1 - 1 / branches + block.sensitivity / branches)


@few
@given(block=feature_trees(3))
def test_one_branch_is_the_block_alone(block):
    assert residual(block, 1) is block


def test_no_branches_are_refused():
    from modula import Linear

    with pytest.raises(ValueError, match="num_branches=0"):
        residual(Linear(3, 3), 0)
