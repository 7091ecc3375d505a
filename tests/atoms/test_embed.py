"""`Embed` is well-normed: ids are one-hot vectors, and no row is longer than 1."""

import pytest
import torch

from modula import RMS, Embed
from tests.helpers import close, largest_weight_gain

IDS = torch.tensor([[0, 3, 1], [1, 1, 2]])


def test_it_looks_rows_up():
    table = Embed(4, 5)
    assert torch.equal(table(IDS), table.weight[IDS])


def test_it_is_the_product_with_one_hot_vectors():
    table = Embed(4, 5).double()
    close(table(IDS), torch.nn.functional.one_hot(IDS, 5).double() @ table.weight)


def test_initial_rows_have_rms_one():
    close(RMS.norm(Embed(7, 5).weight), torch.ones(5), rtol=1e-5)


def test_no_change_of_the_weight_moves_the_output_beyond_its_norm():
    close(largest_weight_gain(Embed(4, 5).double(), IDS), 1.0)


@pytest.mark.parametrize("one", range(5))
@pytest.mark.parametrize("other", range(5))
def test_no_change_of_an_id_moves_the_output_beyond_the_sensitivity(one, other):
    table = Embed(4, 5).double()
    distance = 2 * (one != other)  # of two one-hot vectors, in ℓ1
    moved = RMS.measure(table(torch.tensor([one])) - table(torch.tensor([other])))
    assert moved <= table.sensitivity * distance * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8, torch.int16])
def test_ids_of_another_dtype_are_refused(dtype):
    with pytest.raises(
        TypeError, match=rf"Embed\(4, 5\) takes token ids of dtype int32 or int64, got {dtype}"
    ):
        Embed(4, 5)(torch.ones(2, dtype=dtype))


@pytest.mark.parametrize("ids", [[0, 5], [-1, 2], [7, -3]])
def test_ids_out_of_range_are_refused_with_the_range(ids):
    with pytest.raises(
        IndexError,
        match=rf"Embed\(4, 5\) takes ids from 0 to 4, got ids from {min(ids)} to {max(ids)}",
    ):
        Embed(4, 5)(torch.tensor(ids))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_ids_of_both_integer_dtypes_are_taken(dtype):
    table = Embed(4, 5)
    assert torch.equal(table(IDS.to(dtype)), table(IDS))


def test_no_ids_give_no_vectors():
    assert Embed(4, 5)(torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0, 4)


def test_a_row_that_was_not_looked_up_does_not_move():
    table = Embed(4, 5)
    update = table.dualize(table.gradient(table(IDS).square().sum()))
    assert update["weight"].any(dim=1).tolist() == [True, True, True, True, False]
