"""`TokenShift` moves features by one position, and can continue a sequence."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import RMS, KeyValueCache, Linear, TokenShift
from tests.helpers import close, rand

shares = st.floats(0.0, 1.0)


@given(share=shares, width=st.integers(1, 9), positions=st.integers(1, 5))
def test_the_first_features_come_from_the_position_before(share, width, positions):
    x = rand(0, 2, positions, width)
    y, taken = TokenShift(share)(x), math.floor(round(share * width, 6))
    assert torch.equal(y[..., taken:], x[..., taken:])
    assert torch.equal(y[:, 1:, :taken], x[:, :-1, :taken])
    assert not y[:, 0, :taken].any()


@given(share=shares, positions=st.integers(1, 6))
def test_no_vector_becomes_longer_than_sqrt_2_times_the_longest(share, positions):
    x = rand(1, positions, 6)
    longest = RMS.measure(x).max()
    assert RMS.measure(TokenShift(share)(x)).max() <= math.sqrt(2) * longest * (1 + 1e-12)


def test_the_worst_case_is_reached():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    ratio = RMS.measure(TokenShift()(x)).max() / RMS.measure(x).max()
    assert math.isclose(ratio.item(), math.sqrt(2), rel_tol=1e-6)


@given(x=st.just(rand(2, 3, 7, 4)), share=shares)
def test_the_rms_over_all_entries_does_not_grow(x, share):
    assert TokenShift(share)(x).norm() <= x.norm()


def test_a_position_is_independent_of_those_after_it():
    x = rand(3, 1, 5, 4)
    changed = x.clone()
    changed[:, 3:] += 1.0
    assert torch.equal(TokenShift()(x)[:, :3], TokenShift()(changed)[:, :3])


@given(cuts=st.lists(st.integers(0, 8), max_size=5), share=shares)
def test_pieces_give_the_numbers_of_the_whole_sequence(cuts, share):
    model = Linear(3, 6).double() @ TokenShift(share)
    x, ends = rand(4, 2, 8, 6), [*sorted(cuts), 8]
    cache = KeyValueCache(model)
    pieces = [cache.extend(x[:, a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    close(torch.cat(pieces, dim=1), model(x))


@pytest.mark.parametrize("hundredths", range(101))
def test_a_share_in_hundredths_takes_as_many_features_of_a_hundred(hundredths):
    y = TokenShift(hundredths / 100)(torch.ones(1, 100))
    assert int((y == 0).sum()) == hundredths


@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 3, 4), (2, 3, 0), (0, 0)])
def test_tensors_without_entries(shape):
    assert TokenShift()(torch.ones(shape)).shape == shape


@pytest.mark.parametrize("share", ["0.5", None, True, torch.tensor(0.5)], ids=str)
def test_a_share_that_is_not_a_number_is_refused(share):
    with pytest.raises(TypeError, match="takes a number for its share"):
        TokenShift(share)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="a share between 0 and 1"):
        TokenShift(share)


def test_a_vector_without_positions_is_refused():
    with pytest.raises(ValueError, match=r"takes \[\.\.\., position, d\], got a tensor of shape"):
        TokenShift()(torch.ones(4))


def test_it_prints_how_it_was_made():
    assert repr(TokenShift()) == "TokenShift()"
    assert repr(TokenShift(0.25)) == "TokenShift(0.25)"
