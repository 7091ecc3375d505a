"""Values: tensors, and tuples of values to any depth."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modula.values import leaves, map_leaves, rebuild, zip_leaves


def values() -> st.SearchStrategy:
    """Tensors of one number, in tuples of tuples."""
    single = st.integers(-9, 9).map(torch.tensor)
    return st.recursive(single, lambda parts: st.lists(parts, max_size=3).map(tuple))


def numbers(value) -> object:
    return tuple(map(numbers, value)) if isinstance(value, tuple) else int(value)


def test_leaves_come_in_order():
    nested = (torch.tensor(1), (torch.tensor(2), (), torch.tensor(3)))
    assert list(map(int, leaves(nested))) == [1, 2, 3]


@given(value=values())
def test_rebuild_is_the_inverse_of_leaves(value):
    assert numbers(rebuild(value, leaves(value))) == numbers(value)


@given(value=values())
def test_map_leaves_keeps_the_structure(value):
    doubled = map_leaves(lambda leaf: 2 * leaf, value)
    assert numbers(map_leaves(lambda leaf: leaf // 2, doubled)) == numbers(value)


@given(value=values())
def test_map_leaves_maps_each_leaf_once_in_order(value):
    seen: list[Tensor] = []
    map_leaves(lambda leaf: seen.append(leaf) or leaf, value)
    assert all(map(torch.equal, seen, leaves(value)))


@given(value=values())
def test_zip_leaves_pairs_each_leaf_with_its_counterpart(value):
    zero = zip_leaves(torch.sub, value, map_leaves(torch.clone, value))
    assert not any(leaf.any() for leaf in leaves(zero))


def test_a_single_tensor_is_its_own_leaf():
    x = torch.ones(3)
    assert next(leaves(x)) is x
    assert map_leaves(lambda leaf: leaf, x) is x


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((torch.ones(1),), (torch.ones(1), torch.ones(1))),
        ((torch.ones(1), torch.ones(1)), (torch.ones(1),)),
        (torch.ones(1), ()),
    ],
)
def test_values_with_different_numbers_of_tensors_are_refused(one, other):
    with pytest.raises(ValueError, match="zip"):
        zip_leaves(torch.add, one, other)
