"""Masks: who sees whom, in the composed and in the fused form, and nothing where nobody is seen."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modula import (
    ApplyAttentionScores,
    ApplyMask,
    AttentionQK,
    Bond,
    CausalMask,
    FunctionalAttention,
    HeadRMS,
    Mask,
    MaskedFunctionalAttention,
    PaddingMask,
    Softmax,
)
from modula.spaces import Product, Space, measure
from modula.testing import check_bond
from tests.helpers import close, rand
from tests.strategies import seeds

few = settings(max_examples=8)
SCALES = [0.5, 1.0, -2.0]


def heads(seed: int, positions: int = 4, num_heads: int = 2) -> Tensor:
    return rand(seed, 2, num_heads, positions, 4)


def naive(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, scale: float = 1.0) -> Tensor:
    """Attention one query at a time, over the keys that it sees."""
    output = torch.zeros(*query.shape[:-1], value.shape[-1]).double()
    times = query.shape[1] // key.shape[1]
    seen = seen.expand(*query.shape[:-1], key.shape[-2])
    for b, h, i in torch.cartesian_prod(*[torch.arange(n) for n in query.shape[:-1]]).tolist():
        keys = seen[b, h, i].nonzero().flatten()
        if len(keys):
            scores = scale * key[b, h // times, keys] @ query[b, h, i] / query.shape[-1]
            output[b, h, i] = scores.softmax(0) @ value[b, h // times, keys]
    return output


def causal(queries: int, keys: int, window: int | None) -> Tensor:
    """Which keys a query sees, by the definition: its own position and the ones before it."""
    offset = keys - queries
    return torch.tensor(
        [
            [j <= i + offset and (window is None or j > i + offset - window) for j in range(keys)]
            for i in range(queries)
        ]
    )


# Causal masks, with offsets and windows


@pytest.mark.parametrize("window", [None, 1, 2, 3, 9])
@pytest.mark.parametrize(("queries", "keys"), [(4, 4), (1, 5), (2, 5), (5, 3)])
def test_a_causal_mask_hides_the_future_and_what_is_far_away(queries, keys, window):
    masked = CausalMask(window)(torch.zeros(1, 1, queries, keys))
    assert torch.equal(masked == 0, causal(queries, keys, window)[None, None])


@pytest.mark.parametrize("window", [None, 1, 2, 9])
@pytest.mark.parametrize(("queries", "keys"), [(4, 4), (1, 5), (2, 5), (5, 3)])
@pytest.mark.parametrize("scale", SCALES)
def test_fused_attention_sees_what_the_mask_shows(queries, keys, window, scale):
    query, key, value = heads(0, queries), heads(1, keys), heads(2, keys)
    found = FunctionalAttention(True, scale, window=window)((query, key, value))
    close(found, naive(query, key, value, causal(queries, keys, window), scale))


@pytest.mark.parametrize("window", [1, 2, 9])
def test_a_window_without_causality_reaches_both_ways(window):
    query, key, value = (heads(seed) for seed in range(3))
    distance = (torch.arange(4)[:, None] - torch.arange(4)).abs()
    found = FunctionalAttention(False, window=window)((query, key, value))
    close(found, naive(query, key, value, distance < window))


def test_attention_across_sequences_takes_other_lengths():
    query, key, value = heads(0, 3), heads(1, 7), heads(2, 7)
    everything = torch.ones(3, 7, dtype=torch.bool)
    found = FunctionalAttention(causal=False)((query, key, value))
    close(found, naive(query, key, value, everything))


# Shared heads


@pytest.mark.parametrize("num_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("causal_", [True, False])
def test_neighbouring_queries_share_a_head_of_keys_and_values(num_kv_heads, causal_):
    query = heads(0, num_heads=4)
    key, value = heads(1, num_heads=num_kv_heads), heads(2, num_heads=num_kv_heads)
    seen = causal(4, 4, None) if causal_ else torch.ones(4, 4, dtype=torch.bool)
    expected = naive(query, key, value, seen)
    close(FunctionalAttention(causal_)((query, key, value)), expected)
    scores = AttentionQK()((query, key))
    scores = CausalMask()(scores) if causal_ else scores
    close(ApplyAttentionScores()((value, Softmax()(scores))), expected)


@pytest.mark.parametrize("bond", [FunctionalAttention(), FunctionalAttention(window=2)])
def test_heads_that_do_not_share_evenly_are_refused(bond):
    with pytest.raises(ValueError, match="4 heads of queries cannot share 3 heads"):
        bond((heads(0, num_heads=4), heads(1, num_heads=3), heads(2, num_heads=3)))


# Masks as inputs


masks = st.sampled_from([(2, 2, 4, 4), (2, 1, 1, 4), (1, 1, 4, 4), (1, 2, 4, 1), (2, 1, 4, 4)])


@few
@given(seed=seeds, shape=masks, scale=st.sampled_from(SCALES))
def test_masked_attention_sees_what_the_mask_shows(seed, shape, scale):
    query, key, value = (heads(seed + i) for i in range(3))
    mask = rand(seed + 3, *shape) > 0
    found = MaskedFunctionalAttention(False, scale)(((query, key, value), mask))
    close(found, naive(query, key, value, mask, scale))


@few
@given(seed=seeds, shape=masks, scale=st.sampled_from(SCALES))
def test_composed_masked_attention_is_the_fused_one(seed, shape, scale):
    query, key, value = (heads(seed + i) for i in range(3))
    mask = rand(seed + 3, *shape) > 0
    scores = ApplyMask()((AttentionQK()((query, key)), mask))
    found = ApplyAttentionScores()((value, Softmax(scale)(scores)))
    close(found, MaskedFunctionalAttention(False, scale)(((query, key, value), mask)))


def gradients(f: object, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    variables = [x.clone().requires_grad_() for x in inputs]
    return torch.autograd.grad(f(*variables).square().sum(), variables)


@pytest.mark.parametrize("form", ["fused", "composed"])
def test_a_query_that_sees_nothing_gives_zero_and_finite_gradients(form):
    query, key, value = (heads(seed) for seed in range(3))
    mask = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    mask[0, :, 2] = False

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if form == "fused":
            return MaskedFunctionalAttention(False)(((query, key, value), mask))
        scores = ApplyMask()((AttentionQK()((query, key)), mask))
        return ApplyAttentionScores()((value, Softmax()(scores)))

    assert not attention(query, key, value)[0, :, 2].any()
    for slope in gradients(attention, [query, key, value]):
        assert slope.isfinite().all()


def test_real_positions_do_not_see_padding():
    real = torch.tensor([[True, True, True, False], [True, True, True, True]])
    mask = PaddingMask()(real)
    query, key, value = (heads(seed) for seed in range(3))
    padded = MaskedFunctionalAttention(False)(((query, key, value), mask))
    short = FunctionalAttention(causal=False)(
        tuple(part[:1, :, :3] for part in (query, key, value))
    )
    close(padded[:1, :, :3], short)


def test_a_mask_is_not_measured():
    mask = torch.ones(2, 1, 1, 4, dtype=torch.bool)
    x = heads(0)
    assert measure(Space(Mask), mask) == 0
    close(measure(Product((Space(HeadRMS), Space(Mask))), (x, mask)), HeadRMS.measure(x))


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(2, 4, dtype=torch.bool),
        torch.ones(4, 4, dtype=torch.bool),
        torch.ones(2, 1, 1, 4),
        torch.ones(2, 1, 3, 4, dtype=torch.bool),
    ],
    ids=["padding", "no batch", "numbers", "other queries"],
)
@pytest.mark.parametrize(
    "attend",
    [
        lambda triple, mask: MaskedFunctionalAttention(False)((triple, mask)),
        lambda triple, mask: ApplyMask()((AttentionQK()(triple[:2]), mask)),
    ],
    ids=["fused", "composed"],
)
def test_what_is_no_mask_of_the_scores_is_refused(mask, attend):
    with pytest.raises(ValueError, match=r"boolean mask for scores \[2, 2, 4, 4\].*PaddingMask"):
        attend(tuple(map(heads, range(3))), mask)


@pytest.mark.parametrize(
    "real", [torch.ones(2, 4), torch.ones(2, 1, 1, 4, dtype=torch.bool)], ids=["numbers", "mask"]
)
def test_what_says_no_real_positions_is_refused(real):
    with pytest.raises(ValueError, match=r"PaddingMask\(\) takes a boolean tensor"):
        PaddingMask()(real)


@pytest.mark.parametrize("kind", [CausalMask, lambda w: FunctionalAttention(window=w)])
@pytest.mark.parametrize("window", [0, -1])
def test_a_window_without_the_querys_own_key_is_refused(kind, window):
    with pytest.raises(ValueError, match=f"at least 1 key, the query's own; got window={window}"):
        kind(window)


@few
@given(seed=seeds, window=st.sampled_from([None, 1, 2]))
def test_a_mask_is_met_with_causality_and_a_window(seed, window):
    query, key, value = (heads(seed + i) for i in range(3))
    mask = rand(seed + 3, 2, 1, 1, 4) > 0
    found = MaskedFunctionalAttention(True, window=window)(((query, key, value), mask))
    close(found, naive(query, key, value, mask & causal(4, 4, window)))


# Claims


def unit() -> tuple[Tensor, ...]:
    """Queries, keys and values of RMS 1, as their bounds are conditional on."""
    return tuple(x / HeadRMS.norm(x).unsqueeze(-1) for x in map(heads, range(3)))


@pytest.mark.parametrize("scale", SCALES)
def test_masked_attention_keeps_its_bounds_where_its_condition_holds(scale):
    bond, mask = MaskedFunctionalAttention(False, scale), rand(0, 2, 2, 4, 4) > 0
    ratios = check_bond(bond, (unit(), mask))
    assert 0.1 < ratios.input <= 1 + 1e-9
    assert ratios.radius <= 1 + 1e-9


@pytest.mark.parametrize(
    ("bond", "x"),
    [
        (CausalMask(2), rand(0, 1, 2, 4, 4)),
        (ApplyMask(), (rand(0, 1, 2, 4, 4), rand(1, 1, 1, 4, 4) > 0)),
        (PaddingMask(), torch.ones(2, 3, dtype=torch.bool)),
        (FunctionalAttention(window=2), unit()),
    ],
    ids=lambda value: repr(value) if isinstance(value, Bond) else "",
)
def test_masks_keep_the_laws_of_bonds(bond, x):
    ratios = check_bond(bond, x, steps=5)
    assert ratios.input is None or ratios.input <= 1 + 1e-9
