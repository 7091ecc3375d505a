"""The parts of attention: what is proved holds everywhere, what is conditional holds under its
condition.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from modula import (
    L1,
    RMS,
    Add,
    ApplyAttentionScores,
    AttentionQK,
    Bond,
    CausalMask,
    FunctionalAttention,
    HeadRMS,
    Linf,
    MergeHeads,
    Rope,
    Softmax,
    SplitIntoHeads,
    Ungroup,
)
from modula.spaces import Product, Space
from tests.helpers import close, full, largest_gain, rand, step_gain
from tests.strategies import seeds

few = settings(max_examples=8)
HEAD = Space(HeadRMS)
SCALES = [0.5, 1.0, 3.0]


def heads(seed: int, count: int, positions: int = 3, d_head: int = 4) -> tuple[Tensor, ...]:
    """That many tensors [batch 1, head 2, position, d_head]."""
    return tuple(rand(seed + i, 1, 2, positions, d_head) for i in range(count))


def unit_heads(seed: int, count: int) -> tuple[Tensor, ...]:
    """The same with every vector of RMS 1."""
    return full(Product((HEAD,) * count), heads(seed, count))


# Proved


PROVED: list[tuple[Bond, object, tuple | None]] = [
    (MergeHeads(), lambda seed: heads(seed, 1)[0], None),
    (Rope(4), lambda seed: heads(seed, 2), None),
    (Ungroup(), lambda seed: (heads(seed, 2), heads(seed + 2, 1)[0]), None),
    (CausalMask(), lambda seed: rand(seed, 2, 4, 4), None),
    (Add(), lambda seed: heads(seed, 3), (Product((HEAD,) * 3), HEAD)),
    *[(Softmax(scale), lambda seed: rand(seed, 2, 4, 4), None) for scale in SCALES],
]


@pytest.mark.parametrize(
    "row", [row for row in PROVED if not isinstance(row[0], Softmax)], ids=lambda row: repr(row[0])
)
def test_a_proved_sensitivity_is_attained(row):
    bond, draw, signature = row
    x = draw(0)
    same = torch.ones_like(x) if isinstance(bond, MergeHeads) else None
    gain = largest_gain(bond, x, signature) if same is None else step_gain(bond, x, same, signature)
    close(gain, bond.sensitivity, rtol=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_softmax_attains_its_sensitivity_between_two_even_scores(scale):
    close(largest_gain(Softmax(scale), torch.zeros(1, 2).double()), scale)


@pytest.mark.parametrize("scale", SCALES)
@given(seed=seeds, size=st.sampled_from([0.1, 1.0, 100.0]))
def test_no_random_step_of_softmax_grows_beyond_its_scale(scale, seed, size):
    bond = Softmax(scale)
    assert step_gain(bond, size * rand(seed, 2, 4), size * rand(seed + 1, 2, 4)) <= scale * (
        1 + 1e-9
    )


# Conditional


@few
@given(seed=seeds, num_heads=st.sampled_from([1, 2, 4]))
def test_split_into_heads_grows_a_change_by_root_num_heads_at_most(seed, num_heads):
    bond = SplitIntoHeads(num_heads)
    assert largest_gain(bond, rand(seed, 1, 2, 8)) <= math.sqrt(num_heads) * (1 + 1e-9)


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_split_into_heads_grows_a_vector_in_one_head_by_root_num_heads(num_heads):
    one_head = torch.zeros(1, 2, 8).double()
    one_head[..., : 8 // num_heads] = 1
    close(step_gain(SplitIntoHeads(num_heads), rand(0, 1, 2, 8), one_head), math.sqrt(num_heads))


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_split_into_heads_keeps_vectors_that_are_spread_evenly(num_heads):
    even = rand(0, 1, 1, num_heads, 8 // num_heads)
    even = (even / HeadRMS.norm(even).unsqueeze(-1)).reshape(1, 1, 8)
    close(
        step_gain(SplitIntoHeads(num_heads), rand(1, 1, 1, 8), even),
        SplitIntoHeads(num_heads).sensitivity,
    )


@few
@given(seed=seeds, size=st.floats(0.1, 1.0))
def test_attention_scores_grow_no_change_of_queries_and_keys_of_rms_at_most_one(seed, size):
    x = tuple(size * part for part in unit_heads(seed, 2))
    assert largest_gain(AttentionQK(), x, starts=3) <= 1 + 1e-9


def test_attention_scores_attain_their_sensitivity():
    close(largest_gain(AttentionQK(), unit_heads(0, 2)), 1.0, rtol=1e-6)


@given(seed=seeds)
def test_queries_and_keys_of_rms_one_give_scores_of_at_most_one(seed):
    assert Linf.measure(AttentionQK()(unit_heads(seed, 2))) <= 1 + 1e-9


@few
@given(seed=seeds, size=st.floats(0.1, 1.0))
def test_applied_scores_grow_no_change_of_values_of_rms_at_most_one(seed, size):
    x = size * unit_heads(seed, 1)[0], torch.softmax(rand(seed, 1, 2, 3, 3), dim=-1)
    assert largest_gain(ApplyAttentionScores(), x, starts=3) <= 1 + 1e-9


def test_applied_scores_attain_their_sensitivity():
    x = unit_heads(0, 1)[0], torch.softmax(rand(0, 1, 2, 3, 3), dim=-1)
    close(largest_gain(ApplyAttentionScores(), x), 1.0, rtol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scale", SCALES)
@few
@given(seed=seeds)
def test_fused_attention_grows_no_change_of_inputs_of_rms_at_most_one(causal, scale, seed):
    bond = FunctionalAttention(causal, scale)
    with sdpa_kernel(SDPBackend.MATH):
        assert largest_gain(bond, unit_heads(seed, 3), starts=3) <= bond.sensitivity * (1 + 1e-9)


# What they compute


def test_split_and_merge_are_inverse():
    x = rand(0, 2, 3, 8)
    assert torch.equal(MergeHeads()(SplitIntoHeads(4)(x)), x)


def test_split_gives_each_head_its_neighbouring_entries():
    x = torch.arange(6.0).reshape(1, 1, 6)
    assert SplitIntoHeads(2)(x).tolist() == [[[[0, 1, 2]], [[3, 4, 5]]]]


def test_scores_are_products_over_d_head():
    query, key = heads(0, 2)
    close(AttentionQK()((query, key)), torch.einsum("bhqd,bhkd->bhqk", query, key) / 4)


def test_mask_hides_the_future_only():
    masked = CausalMask()(torch.zeros(3, 3))
    assert masked.isneginf().tolist() == [
        [False, True, True],
        [False, False, True],
        [False, False, False],
    ]


@pytest.mark.parametrize("scale", SCALES)
def test_softmax_sums_to_one(scale):
    close(Softmax(scale)(rand(0, 2, 5)).sum(-1), torch.ones(2))


def test_applied_scores_average_values():
    value = heads(0, 1)[0]
    even = torch.full((1, 2, 3, 3), 1 / 3, dtype=torch.float64)
    close(ApplyAttentionScores()((value, even)), value.mean(-2, keepdim=True).expand_as(value))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("causal", [True, False])
def test_fused_attention_is_its_four_parts(causal, scale):
    query, key, value = heads(0, 3)
    scores = AttentionQK()((query, key))
    parts = ApplyAttentionScores()(
        (value, Softmax(scale)(CausalMask()(scores) if causal else scores))
    )
    close(FunctionalAttention(causal, scale)((query, key, value)), parts)


def test_ungroup_keeps_its_parts():
    query, key, value = heads(0, 3)
    assert Ungroup()(((query, key), value)) == (query, key, value)


# Rope


def score(rope: Rope, query: Tensor, key: Tensor, at: int, to: int) -> Tensor:
    """The product of a query turned at one position with a key turned at another."""
    rows = torch.zeros(1, 1, 12, rope.d_head).double()
    queries, keys = rope((rows + query, rows + key))
    return (queries[0, 0, at] * keys[0, 0, to]).sum()


@given(seed=seeds, at=st.integers(0, 7), to=st.integers(0, 7), shift=st.integers(0, 4))
def test_rope_scores_depend_on_differences_of_positions_only(seed, at, to, shift):
    rope, query, key = Rope(4, base=100.0), rand(seed, 4), rand(seed + 1, 4)
    close(
        score(rope, query, key, at, to),
        score(rope, query, key, at + shift, to + shift),
        rtol=1e-5,
        atol=1e-5,
    )


def test_rope_scores_do_depend_on_differences_of_positions():
    rope, query, key = Rope(4, base=100.0), rand(0, 4), rand(1, 4)
    assert (score(rope, query, key, 0, 0) - score(rope, query, key, 0, 3)).abs() > 0.1


def test_rope_keeps_lengths():
    x = heads(0, 2, positions=9)
    for before, after in zip(x, Rope(4)(x), strict=True):
        close(after.norm(dim=-1), before.norm(dim=-1), rtol=1e-6)


def test_rope_leaves_the_first_position_alone():
    query, key = heads(0, 2)
    turned, _ = Rope(4)((query, key))
    assert torch.equal(turned[..., 0, :], query[..., 0, :])


def test_rope_turns_the_first_pair_by_the_position():
    x = torch.zeros(1, 1, 5, 4).double()
    x[..., 0] = 1
    turned, _ = Rope(4)((x, x))
    close(turned[0, 0, :, 0], torch.arange(5.0).cos(), rtol=1e-6)
    close(turned[0, 0, :, 2], torch.arange(5.0).sin(), rtol=1e-6)


@given(base=st.floats(2.0, 1e5))
def test_the_base_sets_how_far_the_last_pair_turns(base):
    x = torch.zeros(1, 1, 5, 4).double()
    x[..., 1] = 1
    turned, _ = Rope(4, base)((x, x))
    close(turned[0, 0, :, 1], (torch.arange(5.0).double() * base**-0.5).cos(), rtol=1e-6)


@pytest.mark.parametrize("base", [0.0, -1.0, float("inf"), float("nan")])
def test_a_base_that_gives_no_wavelengths_is_refused(base):
    with pytest.raises(ValueError, match="takes a base > 0"):
        Rope(4, base)


# Ends and refusals


def test_merge_after_split_has_the_width_of_the_vector():
    from modula import Linear

    assert (Linear(3, 8) @ MergeHeads() @ SplitIntoHeads(2) @ Linear(8, 5)).domain == Space(RMS, 5)


def test_scores_are_typed_through_the_chain():
    chain = Softmax() @ CausalMask() @ AttentionQK() @ Rope(4)
    head = Space(HeadRMS, 4)
    assert (chain.domain, chain.codomain) == (Product((head, head)), Space(L1))


@pytest.mark.parametrize("d_head", [0, 1, 3])
def test_rope_refuses_an_odd_head(d_head):
    with pytest.raises(ValueError, match=f"even d_head, got {d_head}"):
        Rope(d_head)


def test_split_refuses_no_heads():
    with pytest.raises(ValueError, match="at least 1 head, got 0"):
        SplitIntoHeads(0)


@pytest.mark.parametrize("kind", [Softmax, lambda scale: FunctionalAttention(scale=scale)])
@pytest.mark.parametrize("scale", [0.0, math.nan, math.inf])
def test_an_impossible_scale_is_refused(kind, scale):
    with pytest.raises(ValueError, match=r"(Softmax|FunctionalAttention)\(scale"):
        kind(scale)
