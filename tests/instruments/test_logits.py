"""Attention logits: the largest of each head, and a bound that no input and no weight exceeds."""

import matplotlib
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import (
    GPT,
    Attention,
    ComposedAttention,
    HeadLinear,
    Identity,
    Linear,
    Linf,
    MaskedAttention,
    PaddingMask,
    QKNorm,
    Rope,
    Softmax,
)
from modula.instruments import logits
from tests.helpers import close, full, rand
from tests.strategies import seeds

matplotlib.use("Agg")
few = settings(max_examples=8)
X = rand(0, 2, 5, 8)


def naive(model: Attention, scale: float, causal: bool) -> torch.Tensor:
    """The largest logit of each head of attention without positions."""
    query, key, _, _ = (weight.detach() for weight in model.weights.tensors)
    q, k = (torch.einsum("oi,bpi->bpo", w, X).unflatten(-1, (2, -1)) for w in (query, key))
    scores = scale * torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1]
    return (scores.tril() if causal else scores).abs().amax((0, 2, 3))


@pytest.mark.parametrize("scale", [1.0, -2.0])
@pytest.mark.parametrize("causal", [True, False])
def test_the_largest_logit_of_each_head_is_measured(scale, causal):
    model = Attention(8, 2, scale=scale, causal=causal, query_key=Identity()).double()
    close([row.largest for row in logits(model, X)], naive(model, scale, causal))


@pytest.mark.parametrize("causal", [True, False])
def test_the_fused_and_the_composed_form_have_the_same_logits(causal):
    fused = Attention(8, 2, causal=causal, scale=-2.0).double()
    composed = ComposedAttention(8, 2, causal=causal, scale=-2.0).double()
    query, key, value, output = fused.weights.tensors
    with torch.no_grad():
        for target, source in zip(
            composed.weights.tensors, (value, query, key, output), strict=True
        ):
            target.copy_(source)
    close([row.largest for row in logits(fused, X)], [row.largest for row in logits(composed, X)])


def test_hidden_keys_do_not_count():
    model, loud = MaskedAttention(8, 2, query_key=Identity()).double(), X.clone()
    real = torch.tensor([[True] * 4 + [False]] * 2)
    query, key, _, _ = model.weights.tensors
    with torch.no_grad():
        query[:, 0] = 0  # no query sees the first feature, in which the hidden key is loud
        key[:, 0] = 1
    loud[:, 4, 0] = 1e6
    quiet = logits(model, (X, PaddingMask()(real)))
    close(
        [row.largest for row in logits(model, (loud, PaddingMask()(real)))],
        [row.largest for row in quiet],
    )
    assert logits(model, (loud, PaddingMask()(~real | True))).rows[0].largest > 1e3


@few
@given(seed=seeds, size=st.sampled_from([0.5, 1.0, 4.0]), scale=st.sampled_from([1.0, -3.0]))
def test_no_logit_of_heads_of_their_own_exceeds_its_bound(seed, size, scale):
    model = Attention(8, 2, scale=scale, projection=HeadLinear, causal=False).double()
    with torch.no_grad():
        for i, weight in enumerate(model.graph().weights.values()):
            drawn = rand(seed + i, *weight.tensor.shape)
            weight.tensor.copy_(size * drawn / weight.geometry.norm(drawn[None]))
    x = full(model.domain, rand(seed, 1, 6, 8))
    for row in logits(model, x):
        assert row.claim == "proved"
        assert row.largest <= row.bound * (1 + 1e-9)
        close(row.bound, abs(scale) * max(1.0, size) ** 2, rtol=1e-6)


def test_the_bound_is_attained():
    model = Attention(4, 1, projection=HeadLinear, causal=False).double()
    with torch.no_grad():
        query, key, _, _ = model.weights.tensors
        key.copy_(query)
    (row,) = logits(model, full(model.domain, rand(0, 1, 1, 4)))
    close(row.largest, row.bound, rtol=1e-6)


@pytest.mark.parametrize("growth", [1.0, 30.0])
def test_normalised_queries_and_keys_have_bounded_logits(growth):
    model = GPT(
        7, d_embed=8, num_heads=2, num_blocks=2, query_key=Rope(4) @ QKNorm(), attention_scale=2.0
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(growth)
    report = logits(model, torch.tensor([[1, 2, 3]]))
    assert [row.bound for row in report] == [2.0] * 4
    assert all(row.largest <= 2.0 * (1 + 1e-5) for row in report)


def test_a_softmax_over_other_things_has_no_heads():
    assert len(logits((Softmax() @ Linear(3, 8, codomain=Linf)).double(), X)) == 0
    assert len(logits(Linear(2, 8).double(), X)) == 0


def test_a_report_prints_plots_and_counts():
    report = logits(Attention(8, 2).double(), X)
    assert "of the bound" in str(report)
    assert list(report.scalars()) == [f"logits/{name}" for name, _ in report.named()]
    assert report.plot().get_xlabel() == "largest magnitude of a logit"
    matplotlib.pyplot.close("all")
