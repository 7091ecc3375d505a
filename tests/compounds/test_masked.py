"""Attention under masks and across sequences, alone and in networks of two inputs."""

import pytest
import torch
from torch import Tensor

from modula import (
    GPT,
    RMS,
    Attention,
    CompositionError,
    CrossAttention,
    Embed,
    FeedForward,
    HeadLinear,
    KeyValueCache,
    Linear,
    Mask,
    MaskedAttention,
    MaskedTransformerBlock,
    Module,
    PaddingMask,
    Parallel,
    QKNorm,
    RMSNorm,
    Rope,
    Select,
    generate,
)
from modula.instruments import well_normed
from modula.testing import check_network
from tests.helpers import close, rand

X = rand(0, 2, 5, 8)
REAL = torch.tensor([[True, True, True, False, False], [True] * 5])
OPTIONS = [
    {},
    {"num_kv_heads": 1},
    {"projection": HeadLinear},
    {"query_key": Rope(4) @ QKNorm()},
    {"scale": -2.0},
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


def twins(options: dict, **more: object) -> tuple[MaskedAttention, Attention]:
    """Masked and plain attention with the same weights."""
    masked = MaskedAttention(8, 2, **options, **more).double()
    plain = Attention(8, 2, **options, **({"causal": False} | more)).double()
    plain.load_state_dict(dict(zip(plain.state_dict(), masked.state_dict().values(), strict=True)))
    return masked, plain


def everything(positions: int) -> Tensor:
    return torch.ones(1, 1, positions, positions, dtype=torch.bool)


@every_option
def test_a_mask_that_hides_nothing_changes_nothing(options):
    masked, plain = twins(options)
    close(masked((X, everything(5))), plain(X))


@every_option
def test_a_causal_mask_is_causal_attention(options):
    masked, plain = twins(options)
    causal = Attention(8, 2, **options).double()
    causal.load_state_dict(plain.state_dict())
    close(masked((X, everything(5).tril())), causal(X))


@every_option
def test_real_positions_see_what_they_see_without_padding(options):
    masked, plain = twins(options)
    close(masked((X, PaddingMask()(REAL)))[:1, :3], plain(X[:1, :3]))


def test_an_example_of_padding_alone_gives_no_values():
    masked, _ = twins({})
    nobody = torch.zeros(2, 5, dtype=torch.bool)
    assert not masked((X, PaddingMask()(nobody))).any()


@every_option
def test_bounds_are_those_of_attention(options):
    masked, plain = twins(options)
    close(masked.sensitivity, plain.sensitivity)
    close(
        list(masked.graph().weight_sensitivities().values()),
        list(plain.graph().weight_sensitivities().values()),
    )
    check_network(masked, (X[:, :3], PaddingMask()(REAL[:, :3])))


# Networks of ids and padding


def encoder(num_blocks: int = 2) -> Module:
    torch.manual_seed(0)
    block = MaskedTransformerBlock(
        MaskedAttention(8, 2), FeedForward(8), num_branches=2 * num_blocks
    )
    stream = block**num_blocks @ Parallel(Embed(8, 9), PaddingMask())
    return (Linear(9, 8) @ RMSNorm() @ Select(0, RMS, Mask) @ stream).double()


IDS = torch.tensor([[3, 1, 4, 1, 5], [2, 7, 1, 8, 2]])


def test_what_is_padded_has_no_effect():
    model, other = encoder(), IDS.clone()
    other[0, 3:] = 0
    close(model((other, REAL))[0, :3], model((IDS, REAL))[0, :3])


def test_padding_is_as_a_shorter_text():
    model = encoder()
    alone = model((IDS[:1, :3], REAL[:1, :3]))
    close(model((IDS, REAL))[:1, :3], alone)


def test_real_positions_have_an_effect_in_both_directions():
    model, other = encoder(), IDS.clone()
    other[1, 4] = 0
    assert (model((other, REAL)) - model((IDS, REAL)))[1, 0].abs().max() > 1e-4


def test_coefficients_are_those_of_a_network_without_a_mask():
    masked = encoder(num_blocks=3).graph()
    plain = GPT(9, d_embed=8, num_heads=2, num_blocks=3).graph()
    close(list(masked.weight_sensitivities().values()), list(plain.weight_sensitivities().values()))


def test_the_encoder_keeps_the_laws_of_networks():
    check_network(encoder(num_blocks=1), (IDS[:, :3], REAL[:, :3]))


def test_instruments_measure_a_network_with_a_mask():
    assert not well_normed(encoder(num_blocks=1), (IDS, REAL), steps=2).violated


def test_the_encoder_compiles():
    torch._dynamo.reset()
    model = encoder(num_blocks=1)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    close(compiled((IDS, REAL)), model((IDS, REAL)))


def test_a_block_takes_its_mask():
    block = MaskedTransformerBlock(MaskedAttention(8, 2), FeedForward(8), num_branches=2)
    with pytest.raises(CompositionError):
        block @ Embed(8, 9)


# Generation after padding on the left


def decoder(num_blocks: int = 2, **options: object) -> Module:
    torch.manual_seed(0)
    block = MaskedTransformerBlock(
        MaskedAttention(8, 2, causal=True, **options),
        FeedForward(8),
        num_branches=2 * num_blocks,
    )
    stream = block**num_blocks @ Parallel(Embed(8, 9), PaddingMask())
    return (Linear(9, 8) @ RMSNorm() @ Select(0, RMS, Mask) @ stream).double()


@pytest.mark.parametrize("options", [{}, {"window": 3}, {"num_kv_heads": 1}], ids=str)
@pytest.mark.parametrize("cuts", [[3], [1, 2, 4]], ids=str)
def test_padded_prompts_are_continued(options, cuts):
    model, real = decoder(**options), REAL.flip(1)
    cache, pieces = KeyValueCache(model), []
    for a, b in zip([0, *cuts], [*cuts, 5], strict=True):
        pieces.append(cache.extend((IDS[:, a:b], real[:, a:b])))
    close(torch.cat(pieces, dim=1), model((IDS, real)), rtol=1e-6, atol=1e-6)


def test_padding_on_the_left_is_as_a_shorter_prompt():
    model, real = decoder(), REAL.flip(1)
    alone = model((IDS[:1, 2:], torch.ones(1, 3, dtype=torch.bool)))
    close(model((IDS, real))[:1, 2:], alone, rtol=1e-6, atol=1e-9)


def test_generate_asks_for_a_network_of_ids_alone():
    with pytest.raises((TypeError, ValueError)):
        generate(decoder(), IDS, 1)


# Across sequences


@every_option
def test_cross_attention_to_itself_is_attention_without_positions(options):
    cross = CrossAttention(8, 2, **options).double()
    pair = {"query_key": Rope(4)} if "query_key" not in options else {}
    plain = Attention(8, 2, causal=False, **options, **pair).double()
    same = CrossAttention(8, 2, **options, **pair).double()
    for model in (plain, same):
        model.load_state_dict(
            dict(zip(model.state_dict(), cross.state_dict().values(), strict=True))
        )
    close(same((X, X)), plain(X))


def test_memory_may_have_another_length_and_width():
    model = CrossAttention(8, 2, d_memory=6).double()
    assert model((X, rand(1, 2, 9, 6))).shape == (2, 5, 8)
    check_network(model, (X[:, :2], rand(1, 2, 3, 6)))


def test_memory_has_no_order_without_positions():
    model, memory = CrossAttention(8, 2).double(), rand(1, 2, 9, 8)
    close(model((X, memory)), model((X, memory.flip(1))))


def test_the_bound_of_cross_attention_counts_both_inputs():
    model = CrossAttention(8, 2)
    close(model.sensitivity, 2 / 3)  # keys and values read the memory, queries the stream
