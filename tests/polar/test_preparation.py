"""Matrices are gathered, scaled, rounded, divided and restored, from any memory layout."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from modula.polar import preparation, rounding
from modula.polar.preparation import Matrices, copy_matrices, divided, restore
from modula.polar.rounding import split
from tests.helpers import rand

ROWS, COLUMNS = 5, 7
FORMATS = {dtype: torch.finfo(dtype).eps / 2 for dtype in (torch.bfloat16, torch.float16)}
"""The largest share of a number by which rounding to each format changes it."""

every_format = pytest.mark.parametrize("dtype", FORMATS, ids=str)


def plain(*shape: int) -> Tensor:
    return rand(0, *shape).float()


PARTS: dict[str, list[Tensor]] = {
    "one": [plain(3, ROWS, COLUMNS)],
    "several": [plain(2, ROWS, COLUMNS), plain(1, ROWS, COLUMNS), plain(4, ROWS, COLUMNS)],
    "transposed": [plain(2, COLUMNS, ROWS).mT, plain(1, ROWS, COLUMNS)],
    "strided": [plain(ROWS, COLUMNS, 3).permute(2, 0, 1)],
    "padded": [plain(2, ROWS, COLUMNS), plain(1, 3, 6), plain(2, 6, 2).mT],
    "zero": [torch.zeros(2, ROWS, COLUMNS), plain(1, ROWS, COLUMNS)],
    "large and small": [1e30 * plain(1, ROWS, COLUMNS), 1e-30 * plain(1, ROWS, COLUMNS)],
}
every_kind = pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)


@pytest.fixture(params=["at once", "in chunks"])
def chunks(request, monkeypatch):
    """Matrices as small as those of the tests are prepared at once, or in chunks.

    A chunk then has one or two matrices, and is rounded 10 entries at a time.
    """
    if request.param == "in chunks":
        monkeypatch.setattr(preparation, "MAX_ENTRIES_PER_CHUNK", 2 * ROWS * COLUMNS)
        monkeypatch.setattr(rounding, "MAX_ENTRIES_PER_CHUNK", 10)


def padded(part: Tensor) -> Tensor:
    whole = torch.zeros(len(part), ROWS, COLUMNS, dtype=part.dtype)
    whole[:, : part.shape[1], : part.shape[2]] = part
    return whole


@every_kind
def test_prepared_matrices_are_the_given_ones_up_to_their_scale(parts):
    whole = torch.cat([padded(part) for part in parts])
    scale = whole.abs().amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(
        Matrices(parts, ROWS, COLUMNS).prepared(), torch.where(scale == 0, whole, whole / scale)
    )


@every_kind
def test_no_entry_of_a_prepared_matrix_is_beyond_1(parts):
    assert Matrices(parts, ROWS, COLUMNS).prepared().abs().max() == 1


@every_format
@every_kind
def test_the_matrices_are_split_into_the_rounded_ones_and_the_remainder(parts, dtype, chunks):
    X = Matrices(parts, ROWS, COLUMNS).prepared()
    rounded, remainder = Matrices(parts, ROWS, COLUMNS).rounded(dtype, 1.0)
    assert torch.equal(rounded, X.to(dtype))
    assert torch.equal(remainder, (X - X.to(dtype).float()).to(dtype))


@every_format
@every_kind
def test_no_rounded_entry_is_beyond_the_largest_asked_for(parts, dtype, chunks):
    rounded, remainder = Matrices(parts, ROWS, COLUMNS).rounded(dtype, 0.25)
    assert rounded.abs().max() == 0.25
    assert remainder.abs().max() <= 0.25 * FORMATS[dtype]


@every_kind
def test_the_given_matrices_are_left_as_they_are(parts, chunks):
    before = [part.clone() for part in parts]
    Matrices(parts, ROWS, COLUMNS).rounded(torch.bfloat16, 1.0)
    Matrices(parts, ROWS, COLUMNS).prepared().zero_()
    assert all(map(torch.equal, parts, before))


@pytest.mark.parametrize(
    ("given", "working"),
    [(torch.bfloat16, torch.float32), (torch.float32,) * 2, (torch.float64,) * 2],
    ids=str,
)
def test_matrices_are_gathered_in_float32_at_least(given, working):
    parts = [plain(2, ROWS, COLUMNS).to(given), plain(1, COLUMNS, ROWS).to(given).mT]
    assert Matrices(parts, ROWS, COLUMNS).prepared().dtype == working


@every_format
def test_a_split_adds_up_to_the_number_but_for_a_second_rounding(dtype, chunks):
    X = plain(6, 9)
    rounded, remainder = split(X.clone(), dtype)
    assert (
        (rounded.double() + remainder.double() - X).abs() <= X.abs() * FORMATS[dtype] ** 2 + 2**-24
    ).all()


@every_kind
@pytest.mark.parametrize(
    "most",
    [0, preparation.MAX_ENTRIES_TRANSPOSED_BY_PRODUCT],
    ids=["copied", "transposed by the product"],
)
def test_a_product_in_parts_is_the_product(parts, most, monkeypatch):
    monkeypatch.setattr(preparation, "MAX_ENTRIES_TRANSPOSED_BY_PRODUCT", most)
    whole = Matrices(parts, ROWS, COLUMNS)
    P, X = plain(len(whole.prepared()), ROWS, ROWS), plain(len(whole.prepared()), ROWS, COLUMNS)
    found = whole.product(P, X)
    assert [len(part) for part in found] == [len(part) for part in parts]
    torch.testing.assert_close(torch.cat(list(found)), P @ X)


def test_a_product_has_the_memory_layout_of_the_matrices():
    tall, wide = plain(2, COLUMNS, ROWS).mT, plain(3, ROWS, COLUMNS)
    first, second = Matrices([tall, wide], ROWS, COLUMNS).product(
        plain(5, ROWS, ROWS), plain(5, ROWS, COLUMNS)
    )
    assert first.mT.is_contiguous()
    assert second.is_contiguous()


counts = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@given(counts=counts, most=st.integers(1, 12))
def test_divided_matrices_are_the_same_in_the_same_order(counts, most):
    matrices = torch.arange(sum(counts)).view(-1, 1, 1)
    found = [part for some in divided(torch.split(matrices, counts), most) for part in some]
    assert torch.equal(torch.cat(found), matrices)


@given(counts=counts, most=st.integers(1, 12))
def test_no_list_of_divided_matrices_is_longer_than_allowed(counts, most):
    parts = [torch.zeros(count, 2, 3) for count in counts]
    assert all(sum(map(len, some)) <= most for some in divided(parts, most))


@given(count=st.integers(1, 40), most=st.integers(1, 12))
def test_a_batch_is_divided_into_as_few_lists_as_there_can_be(count, most):
    assert len(list(divided([torch.zeros(count, 2, 3)], most))) == -(-count // most)


@pytest.mark.parametrize("in_strips", [False, True])
@pytest.mark.parametrize(
    "dtypes",
    [
        (torch.float32, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float32),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(1, 3, 200), (2, 130, 64), (3, 65, 1)], ids=str)
def test_copies_of_transposed_matrices_hold_the_same_numbers(shape, dtypes, in_strips, monkeypatch):
    if in_strips:
        monkeypatch.setattr(preparation, "MAX_ENTRIES_TRANSPOSED_AT_ONCE", 0)
    count, m, n = shape
    source = plain(count, n, m).to(dtypes[1]).mT
    target = torch.full(shape, torch.nan, dtype=dtypes[0])
    copy_matrices(target, source)
    assert torch.equal(target, source.to(dtypes[0]))


@pytest.mark.parametrize(
    "shape", [(4, 6), (6, 4), (ROWS, COLUMNS), (COLUMNS, ROWS), (3, 3)], ids=str
)
def test_factors_are_cut_and_transposed_to_the_shape_of_the_matrices(shape):
    m, n = shape
    factors = plain(2, ROWS, COLUMNS)
    target = torch.full((2, m, n), torch.nan)
    restore(target, factors)
    assert torch.equal(target, factors[:, :m, :n] if m <= n else factors[:, :n, :m].mT)
