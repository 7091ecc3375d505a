"""Heads: how fused ones are split, and what normalisation of queries and keys bounds."""

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from modula import (
    AttentionQK,
    CompositionError,
    FunctionalAttention,
    HeadLinear,
    HeadRMS,
    Linear,
    Linf,
    MergeHeads,
    Module,
    QKNorm,
    SplitQKV,
)
from modula.testing import check_bond
from modula.vector import Gradient
from tests.helpers import close, largest_gain, rand, random_gradient
from tests.strategies import seeds

few = settings(max_examples=8)


def attention(qkv: object) -> Module:
    return (Linear(8, 8) @ MergeHeads() @ FunctionalAttention() @ qkv).double()


def apart(sizes: tuple[int, ...]) -> Module:
    return attention(tuple(HeadLinear(heads, 2, 8) for heads in sizes))


def fused(sizes: tuple[int, ...]) -> Module:
    return attention(SplitQKV(*sizes[:2]) @ HeadLinear(sum(sizes), 2, 8, mass=3))


every_size = pytest.mark.parametrize("sizes", [(4, 4, 4), (4, 2, 2), (4, 1, 1)])


def joined(parts: tuple[Tensor, ...]) -> list[Tensor]:
    *qkv, output = parts
    return [torch.cat(qkv), output]


@every_size
def test_fused_heads_compute_what_separate_ones_do(sizes):
    one, other = apart(sizes), fused(sizes)
    with torch.no_grad():
        for target, source in zip(other.weights.tensors, joined(one.weights.tensors), strict=True):
            target.copy_(source)
    x = rand(0, 2, 5, 8)
    close(one(x), other(x))


@every_size
@few
@given(seed=seeds)
def test_a_fused_step_is_that_of_the_separate_tensors(sizes, seed):
    one, other = apart(sizes), fused(sizes)
    gradient = random_gradient(one, seed)
    together = Gradient.from_tensors(other.weights.names, joined(gradient.tensors))
    expected = joined(one.dualize(gradient, method="svd").tensors)
    found = other.dualize(together, method="svd").tensors
    for a, b in zip(found, expected, strict=True):
        close(a, b, rtol=0, atol=1e-10)
    close(one.dual_norm(gradient), other.dual_norm(together))


def test_splitting_attains_its_sensitivity():
    same = torch.ones(1, 6, 2, 4).double()
    close(largest_gain(SplitQKV(2), same), 3.0, rtol=1e-6)


def test_splitting_keeps_the_laws_of_bonds():
    check_bond(SplitQKV(2, 1), rand(0, 1, 4, 3, 4), steps=5)


@pytest.mark.parametrize(
    "shape", [(2, 3, 6, 4), (2, 5, 3, 4), (6, 4)], ids=["positions first", "too few", "no heads"]
)
def test_heads_on_another_axis_or_of_another_number_are_refused(shape):
    with pytest.raises(ValueError, match=r"SplitQKV\(2\) takes 6 heads on axis -3"):
        SplitQKV(2)(torch.zeros(shape))


def test_features_without_heads_are_refused():
    with pytest.raises(CompositionError):
        SplitQKV(2) @ Linear(6, 4)


@pytest.mark.parametrize("sizes", [(0,), (2, 0)])
def test_no_heads_are_refused(sizes):
    with pytest.raises(ValueError, match="at least 1 head"):
        SplitQKV(*sizes)


# Normalised queries and keys


@few
@given(seed=seeds)
def test_normalised_queries_and_keys_give_logits_of_at_most_one(seed):
    x = 100 * rand(seed, 1, 2, 3, 4), 1e-2 * rand(seed + 1, 1, 2, 3, 4)
    normalised = QKNorm()(x)
    close(HeadRMS.norm(normalised[0]), torch.ones(1, 2, 3), rtol=1e-6)
    assert Linf.measure(AttentionQK()(normalised)) <= 1 + 1e-9


@few
@given(seed=seeds)
def test_normalisation_grows_no_change_of_queries_and_keys_of_rms_one_or_more(seed):
    x = tuple(
        3 * part / HeadRMS.norm(part).unsqueeze(-1).clamp(max=3)
        for part in (rand(seed, 1, 2, 3, 4), rand(seed + 1, 1, 2, 3, 4))
    )
    assert largest_gain(QKNorm(), x, starts=2) <= 1 + 1e-6


def test_normalisation_keeps_the_laws_of_bonds():
    check_bond(QKNorm(), (3 * rand(0, 1, 2, 3, 4), 3 * rand(1, 1, 2, 3, 4)), steps=5)


def test_zero_stays_zero():
    zero = torch.zeros(1, 1, 2, 4)
    assert not QKNorm()((zero, zero))[0].any()
