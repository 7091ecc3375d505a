"""Run-time spaces and their unification."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import L1, RMS, HeadRMS, OneHot
from modula.errors import MismatchError
from modula.spaces import (
    ANY_DENSE,
    ANYTHING,
    AnySpace,
    Product,
    Space,
    Unknown,
    measure,
    meet,
    space_of,
)
from tests import strategies
from tests.helpers import close, rand

spaces = strategies.spaces()


def try_meet(*several: AnySpace | None) -> AnySpace | None:
    """The meet of all, from the left; None if there is none."""
    met = several[0]
    for space in several[1:]:
        try:
            met = None if met is None or space is None else meet(met, space)
        except MismatchError:
            return None
    return met


@given(space=spaces)
def test_meet_with_itself_is_itself(space):
    assert meet(space, space) == space


@given(space=spaces)
def test_meet_with_anything_is_itself(space):
    assert meet(space, ANYTHING) == space


@given(one=spaces, other=spaces)
def test_meet_is_symmetric(one, other):
    assert try_meet(one, other) == try_meet(other, one)


@given(one=spaces, other=spaces, third=spaces)
def test_meet_is_associative(one, other, third):
    assert try_meet(try_meet(one, other), third) == try_meet(one, try_meet(other, third))


@given(one=spaces, other=spaces)
def test_meet_knows_no_less_than_either(one, other):
    met = try_meet(one, other)
    assert met is None or try_meet(met, one) == try_meet(met, other) == met


def test_meet_takes_the_width_from_the_space_that_has_it():
    assert meet(Space(RMS, 4), Space(RMS)) == Space(RMS, 4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Space(RMS), Space(L1)),
        (Space(RMS, 3), Space(RMS, 4)),
        (Product((Space(RMS),)), Product((Space(RMS), Space(RMS)))),
        (Product((Space(RMS),)), Space(RMS)),
        (ANY_DENSE, Space(OneHot)),
        (ANY_DENSE, Product((Space(RMS),))),
    ],
)
def test_spaces_that_differ_do_not_meet(one, other):
    with pytest.raises(MismatchError):
        meet(one, other)


@pytest.mark.parametrize(
    ("annotation", "space"),
    [
        (RMS, Space(RMS)),
        (tuple[RMS, L1], Product((Space(RMS), Space(L1)))),
        (
            tuple[tuple[RMS, RMS], HeadRMS],
            Product((Product((Space(RMS), Space(RMS))), Space(HeadRMS))),
        ),
        (int, None),
    ],
)
def test_type_arguments_stand_for_spaces(annotation, space):
    assert space_of(annotation) == space


@given(seed=strategies.seeds, count=st.integers(1, 4))
def test_norm_of_a_tuple_is_the_sum_of_its_entries_norms(seed, count):
    values = [rand(seed + i, 2, 3) for i in range(count)]
    close(
        measure(Product((Space(RMS),) * count), tuple(values)),
        sum(RMS.measure(value) for value in values),
    )


def test_measure_descends_into_nested_tuples():
    pair, nested = Product((Space(RMS), Space(L1))), torch.ones(2, 3)
    assert measure(Product((pair, Space(RMS))), ((nested, nested), nested)) == 1 + 3 + 1


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (Space(RMS), (torch.ones(2),)),
        (Product((Space(RMS),)), torch.ones(2)),
        (Unknown(), torch.ones(2)),
        (Product((Space(RMS),) * 2), (torch.ones(2),)),
    ],
)
def test_measure_refuses_a_value_of_another_structure(space, value):
    with pytest.raises(TypeError, match="cannot measure"):
        measure(space, value)


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (Space(RMS, 4), "RMS(4)"),
        (Space(L1), "L1"),
        (Product((Space(RMS, 2), ANYTHING)), "(RMS(2), any space)"),
        (ANY_DENSE, "any dense space"),
    ],
)
def test_spaces_print_as_they_are_read(space, text):
    assert str(space) == text
