"""Radii bound the norm of every output, and an input is known that reaches each."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import (
    GELU,
    L1,
    RMS,
    Abs,
    ApplyAttentionScores,
    AttentionQK,
    AvgPool,
    Bond,
    CausalMask,
    ChannelRMS,
    Enumerate,
    Flatten,
    FunctionalAttention,
    FunctionBond,
    HeadRMS,
    LayerNorm,
    Linear,
    Linf,
    Mean,
    MeanSubtract,
    MergeHeads,
    ReLU,
    RMSNorm,
    Rope,
    ScaledGELU,
    ScaledReLU,
    SiLU,
    Softmax,
    SplitIntoHeads,
    SquaredReLU,
    Tanh,
    Ungroup,
)
from modula.graph import total_radius
from modula.spaces import AnySpace, Product, Space, measure
from modula.values import Value, leaves
from tests.helpers import close, rand
from tests.strategies import seeds

HEADS = Space(HeadRMS)
IMAGE, FEATURES, SCORES = Space(ChannelRMS), Space(RMS), Space(Linf)
PAIR = Product((HEADS, HEADS))
SHAPES = {ChannelRMS: (2, 3, 4, 4), RMS: (2, 5, 4), HeadRMS: (2, 2, 5, 4), Linf: (2, 5, 5)}
SHAPES[L1] = (2, 2, 5, 5)

ELEMENTWISE = [ReLU(), ScaledReLU(), GELU(), ScaledGELU(), SiLU(), Tanh(), Abs()]
CASES: list[tuple[Bond, AnySpace, AnySpace]] = [
    *[(bond, space, space) for bond in ELEMENTWISE for space in (FEATURES, SCORES)],
    (MeanSubtract(), FEATURES, FEATURES),
    (RMSNorm(), FEATURES, FEATURES),
    (LayerNorm(), FEATURES, FEATURES),
    (Mean(), FEATURES, FEATURES),
    (AvgPool(), IMAGE, FEATURES),
    (Flatten(), IMAGE, FEATURES),
    (MergeHeads(), HEADS, FEATURES),
    (Rope(4), PAIR, PAIR),
    (AttentionQK(), PAIR, SCORES),
    (Softmax(3.0), SCORES, Space(L1)),
    (ApplyAttentionScores(), Product((HEADS, Space(L1))), HEADS),
    (FunctionalAttention(scale=2.0), Product((HEADS,) * 3), HEADS),
    (Ungroup(), Product((PAIR, HEADS)), Product((HEADS,) * 3)),
    (FunctionBond(torch.sin, domain=RMS, codomain=RMS), FEATURES, FEATURES),
    (FunctionBond(torch.cos, domain=RMS, codomain=RMS, radius=lambda R: 1.0), FEATURES, FEATURES),
]
every_case = pytest.mark.parametrize(
    ("bond", "domain", "codomain"), CASES, ids=[f"{c[0]!r}-{c[1]}" for c in CASES]
)


def value_in(space: AnySpace, seed: int, scale: float) -> Value:
    """A random value, each of whose tensors has norm `scale`."""
    if isinstance(space, Product):
        return tuple(value_in(part, seed + i, scale) for i, part in enumerate(space.parts))
    x = rand(seed, *SHAPES[space.norm])
    return x * (scale / measure(space, x))


def radius_in(space: AnySpace, scale: float):
    if isinstance(space, Product):
        return tuple(radius_in(part, scale) for part in space.parts)
    return scale


@every_case
@settings(max_examples=8)
@given(seed=seeds, scale=st.sampled_from([1e-3, 0.5, 1.0, 30.0]))
def test_no_output_has_a_norm_beyond_the_radius(bond, domain, codomain, seed, scale):
    bound = total_radius(bond.radius(radius_in(domain, scale)))
    assert measure(codomain, bond(value_in(domain, seed, scale))) <= bound * (1 + 1e-9)


ONES = torch.ones(1, 4, dtype=torch.float64)
ALTERNATING = torch.tensor([[1.0, -1.0, 1.0, -1.0]], dtype=torch.float64)
BIG = 1e3 * ONES
REACHED = [
    (ReLU(), FEATURES, FEATURES, ONES),
    (ScaledReLU(), FEATURES, FEATURES, ONES),
    (GELU(), FEATURES, FEATURES, BIG),
    (ScaledGELU(), FEATURES, FEATURES, BIG),
    (SiLU(), FEATURES, FEATURES, BIG),
    (Tanh(), FEATURES, FEATURES, 1e-6 * ONES),
    (Abs(), FEATURES, FEATURES, -ONES),
    (SquaredReLU(), FEATURES, FEATURES, ONES),
    (MeanSubtract(), FEATURES, FEATURES, ALTERNATING),
    (RMSNorm(eps=0.0), FEATURES, FEATURES, ONES),
    (LayerNorm(eps=0.0), FEATURES, FEATURES, ALTERNATING),
    (Mean(), FEATURES, FEATURES, torch.ones(1, 5, 4).double()),
    (AvgPool(), IMAGE, FEATURES, torch.ones(1, 3, 2, 2).double()),
    (Flatten(), IMAGE, FEATURES, torch.ones(1, 3, 2, 2).double()),
    (SplitIntoHeads(2), FEATURES, HEADS, torch.ones(1, 5, 4).double()),
    (MergeHeads(), HEADS, FEATURES, torch.ones(1, 2, 5, 2).double()),
    (Rope(4), PAIR, PAIR, (torch.ones(1, 2, 5, 4).double(),) * 2),
    (AttentionQK(), PAIR, SCORES, (torch.ones(1, 2, 5, 4).double(),) * 2),
    (Softmax(), SCORES, Space(L1), ONES),
    (
        ApplyAttentionScores(),
        Product((HEADS, Space(L1))),
        HEADS,
        (torch.ones(1, 2, 5, 4).double(), torch.full((1, 2, 5, 5), 0.2).double()),
    ),
    (
        FunctionalAttention(),
        Product((HEADS,) * 3),
        HEADS,
        (torch.ones(1, 2, 5, 4).double(),) * 3,
    ),
]


@pytest.mark.parametrize(
    ("bond", "domain", "codomain", "x"), REACHED, ids=[repr(case[0]) for case in REACHED]
)
def test_the_radius_is_reached(bond, domain, codomain, x):
    entering = (
        tuple(float(measure(part, one)) for part, one in zip(domain.parts, leaves(x), strict=True))
        if isinstance(domain, Product)
        else float(measure(domain, x))
    )
    close(measure(codomain, bond(x)), total_radius(bond.radius(entering)), rtol=1e-6)


@settings(max_examples=20)
@given(seed=seeds)
def test_the_radius_of_the_squared_relu_holds_for_entries_of_at_most_one(seed):
    x = rand(seed, 3, 4).clamp(-1, 1)
    assert RMS.measure(SquaredReLU()(x)) <= SquaredReLU().radius(float(RMS.measure(x)))


@settings(max_examples=20)
@given(seed=seeds)
def test_the_radius_of_a_causal_mask_bounds_the_scores_that_it_keeps(seed):
    masked = CausalMask()(rand(seed, 2, 5, 5).clamp(-1, 1))
    assert masked[masked.isfinite()].abs().max() <= CausalMask().radius(1.0)


def test_positions_have_the_norm_of_one_hot_vectors():
    assert Enumerate().radius(1.0) == 1.0


# FunctionBond


def test_the_radius_of_a_function_is_its_sensitivity_times_that_of_its_input():
    assert FunctionBond(torch.sin, domain=RMS, codomain=RMS, sensitivity=0.5).radius(3.0) == 1.5


def test_a_function_may_declare_its_radius():
    bond = FunctionBond(torch.cos, domain=RMS, codomain=RMS, radius=lambda R: min(1.0, 1 + R))
    assert bond.radius(3.0) == 1.0


def test_a_declared_radius_is_one_of_the_whole_input():
    bond = FunctionBond(torch.sin, domain=RMS, codomain=RMS, radius=lambda R: R)
    assert bond.radius((1.0, 2.0)) == 3.0


def test_a_declared_radius_counts_in_the_bound_on_the_network():
    shifted = FunctionBond(lambda x: x + 3, domain=RMS, codomain=RMS, radius=lambda R: R + 3)
    assert (Linear(2, 2) @ shifted @ Linear(2, 2)).first_order_bound() == (1 + 4) / 2


@pytest.mark.parametrize("bound", [-1.0, math.nan, None, "1"])
def test_an_impossible_radius_is_refused(bound):
    bond = FunctionBond(torch.sin, domain=RMS, codomain=RMS, radius=lambda R: bound)
    with pytest.raises(ValueError, match=r"radius of FunctionBond\(sin\) must be a number ≥ 0"):
        bond.radius(1.0)
