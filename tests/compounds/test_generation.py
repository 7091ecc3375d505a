"""Generation with a cache gives the numbers of the whole pass, in whatever pieces it is given."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modula import (
    GPT,
    RMS,
    Add,
    Attention,
    ComposedAttention,
    Composition,
    Embed,
    Enumerate,
    HeadLinear,
    Identity,
    KeyValueCache,
    Linear,
    Mean,
    Module,
    QKNorm,
    RMSNorm,
    Rope,
    Sinusoid,
    TokenShift,
    generate,
)
from tests.helpers import close, rand

few = settings(max_examples=6)
IDS = torch.randint(7, (2, 12), generator=torch.Generator().manual_seed(0))

LEARNED = {
    "query_key": Identity(),
    "embedding": 0.5 * Embed(8, 7) + 0.5 * (Embed(8, 30) @ Enumerate()),
}
SINUSOIDAL = {
    "query_key": Identity(),
    "embedding": 0.5 * Embed(8, 7) + 0.5 * Sinusoid(8),
}
CHOICES = {
    "rotary": {},
    "learned": LEARNED,
    "sinusoidal": SINUSOIDAL,
    "no positions": {"query_key": Identity()},
    "grouped": {"num_kv_heads": 1},
    "window": {"window": 3},
    "window of one": {"window": 1},
    "normalised": {"query_key": Rope(4) @ QKNorm(), "projection": HeadLinear},
    "shifted": {"norm": TokenShift() @ RMSNorm()},
    "all": {"num_kv_heads": 1, "window": 4, "projection": HeadLinear},
}
every_choice = pytest.mark.parametrize("choice", CHOICES)


def gpt(choice: str) -> GPT:
    torch.manual_seed(0)
    model = GPT(7, d_embed=8, num_heads=2, num_blocks=2, **CHOICES[choice])
    return model.double()


def in_pieces(model: Module, x: Tensor, cuts: list[int]) -> Tensor:
    cache = KeyValueCache(model)
    ends = [*sorted(set(cuts)), x.shape[1]]
    return torch.cat(
        [cache.extend(x[:, a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)], dim=1
    )


@every_choice
@few
@given(cuts=st.lists(st.integers(1, 11), max_size=11))
def test_pieces_give_the_numbers_of_the_whole_pass(choice, cuts):
    model = gpt(choice)
    close(in_pieces(model, IDS, cuts), model(IDS), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [Attention, ComposedAttention])
@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 2, "window": 3}])
def test_attention_is_continued_in_both_forms(kind, options):
    model, x = kind(8, 4, **options).double(), rand(0, 2, 9, 8)
    close(in_pieces(model, x, [1, 2, 5]), model(x), rtol=1e-6, atol=1e-9)


def naively(model: GPT, ids: Tensor, count: int) -> Tensor:
    for _ in range(count):
        ids = torch.cat((ids, model(ids)[:, -1].argmax(-1, keepdim=True)), dim=1)
    return ids


@every_choice
def test_the_most_probable_tokens_are_those_without_a_cache(choice):
    model = gpt(choice)
    prompt = IDS[:, :3]
    assert torch.equal(generate(model, prompt, 12, temperature=0), naively(model, prompt, 12))


def test_a_prompt_of_one_token_is_continued():
    model = gpt("rotary")
    assert torch.equal(generate(model, IDS[:, :1], 5, temperature=0), naively(model, IDS[:, :1], 5))


def test_tokens_are_drawn_from_the_prediction():
    model, generator = gpt("rotary"), torch.Generator().manual_seed(0)
    probabilities = (model(IDS[:1])[0, -1] / 0.2).softmax(-1)
    drawn = generate(model, IDS[:1].expand(4000, -1), 1, temperature=0.2, generator=generator)
    found = torch.bincount(drawn[:, -1], minlength=7) / 4000
    assert (found - probabilities).abs().max() < 0.03


def test_only_the_most_probable_tokens_are_drawn():
    model = gpt("rotary")
    best = model(IDS[:1])[0, -1].topk(2).indices.tolist()
    drawn = generate(model, IDS[:1].expand(300, -1), 1, temperature=5.0, top_k=2)[:, -1]
    assert sorted(set(drawn.tolist())) == sorted(best)


def test_one_generator_gives_one_text():
    model = gpt("rotary")
    first, second = (
        generate(model, IDS, 8, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, second)


# Refusals


def test_attention_to_later_positions_is_refused():
    with pytest.raises(ValueError, match=r"causal=False.*attends to later positions"):
        KeyValueCache(Attention(8, 2, causal=False))


def test_a_part_that_mixes_positions_is_found():
    class Centred(Composition[RMS, RMS]):
        def __init__(self) -> None:
            super().__init__(Identity() + Mean(-2) @ Linear(8, 8))

    mixing = Linear(7, 8) @ Centred() @ Embed(8, 7)
    with pytest.raises(ValueError, match="continues causal networks"):
        generate(mixing, IDS[:1], 1)


def test_a_forward_map_of_its_own_is_refused():
    class Own(Composition[RMS, RMS]):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flip(1))

    with pytest.raises(TypeError, match="forward map of its own"):
        KeyValueCache(Own(Linear(8, 8) @ Linear(8, 8)))


def test_a_module_of_torch_is_refused():
    with pytest.raises(TypeError, match="modula's algebra, got Linear"):
        KeyValueCache(torch.nn.Linear(8, 8))


def test_more_positions_than_the_table_are_refused():
    with pytest.raises(IndexError, match=r"Embed\(8, 30\)"):
        generate(gpt("learned"), IDS, 30)


@pytest.mark.parametrize(
    ("ids", "count", "options", "told"),
    [
        (IDS[0], 1, {}, r"ids \[batch, position\]"),
        (IDS[:, :0], 1, {}, "at least 1 position"),
        (IDS, -1, {}, "count=-1"),
        (IDS, 1, {"temperature": -1.0}, "temperature ≥ 0"),
        (IDS, 1, {"temperature": float("nan")}, "temperature ≥ 0"),
        (IDS, 1, {"top_k": 0}, "top_k=0"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(ids, count, options, told):
    with pytest.raises(ValueError, match=told):
        generate(gpt("rotary"), ids, count, **options)


def test_no_tokens_are_added_for_a_count_of_zero():
    assert torch.equal(generate(gpt("rotary"), IDS, 0), IDS)


def test_a_sum_is_continued_term_by_term():
    model = (Add() @ (Attention(8, 2), Linear(8, 8))).double()
    x = rand(0, 2, 6, 8)
    close(in_pieces(model, x, [2, 3]), model(x), rtol=1e-6, atol=1e-9)
