"""Plans for tensor parallelism: which layers are sharded, and that heads stay sharded only where
every reader can take shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import torch
from torch import nn

from modula import (
    GPT,
    MLP,
    RMS,
    ApplyAttentionScores,
    Attention,
    AttentionQK,
    Bias,
    ComposedAttention,
    Composition,
    Elementwise,
    Embed,
    FunctionalAttention,
    FunctionBond,
    HeadLinear,
    Identity,
    Linear,
    MergeHeads,
    Module,
    ReLU,
    ResCNN,
    ResMLP,
    Softmax,
    SplitIntoHeads,
    SplitQKV,
    Tanh,
)
from modula.parallel import tensor_parallel_plan

COLUMN = "Sharded(taken=R, given=S(-1), weight=S(0))"
ROW = "Sharded(taken=S(-1), given=R, weight=S(1))"
GATHERED = "Sharded(taken=R, given=R, weight=S(0))"
HEAD = "ShardedHeads(taken=R, given=S(-3), weight=S(0))"
HEADS = "ShardedHeads(taken=S(-1), given=S(-3), weight=None)"


def plan_of(model: Module) -> dict[str, str]:
    return {path: repr(style) for path, style in tensor_parallel_plan(model).items()}


# Against a plan by classes: each composition by itself, and the library's attention by its parts


def plan_by_classes(model: Module) -> dict[str, str]:
    plan: dict[str, str] = {}
    for path, module in model.named_modules():
        if isinstance(module, (Attention, ComposedAttention)):
            plan |= around_heads(path, module)
        elif isinstance(module, Composition):
            plan |= in_pairs(path, module)
    for path, module in model.named_modules():
        if isinstance(module, (Embed, Linear)):
            plan.setdefault(path, GATHERED)
    return plan


def around_heads(path: str, attention: nn.Module) -> dict[str, str]:
    plan: dict[str, str] = {}
    for inner, module in attention.named_modules(prefix=path):
        for (first, one), (second, other) in pairwise(links(inner, module)):
            if isinstance(one, Linear) and isinstance(other, SplitIntoHeads):
                plan |= {first: COLUMN, second: HEADS}
            elif isinstance(one, MergeHeads) and isinstance(other, Linear):
                plan[second] = ROW
    return plan


def in_pairs(path: str, chain: nn.Module) -> dict[str, str]:
    plan: dict[str, str] = {}
    first = None
    for second, module in links(path, chain):
        if isinstance(module, Linear) and first is not None:
            plan |= {first: COLUMN, second: ROW}
            first = None
        elif isinstance(module, Linear):
            first = second
        elif not isinstance(module, Elementwise):
            first = None
    return plan


def links(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that a composition applies one after another, with their paths."""
    if isinstance(module, Composition):
        for name, part in module.named_children():
            yield f"{path}.{name}" if path else name, part


def nested_sum() -> Module:
    inner = 0.5 * (Linear(6, 6) @ ReLU() @ Linear(6, 6)) + 0.5 * Identity()
    outer = 0.5 * (Linear(6, 6) @ Tanh() @ inner @ Linear(6, 6)) + 0.5 * Linear(6, 6) @ Linear(6, 6)
    return Linear(3, 6) @ outer @ Linear(6, 4)


NETWORKS: dict[str, Callable[[], Module]] = {
    "MLP": lambda: MLP(3, 5, width=4),
    "MLP of odd depth": lambda: MLP(3, 5, width=4, depth=5),
    "ResMLP": lambda: ResMLP(3, 5, width=4, num_blocks=3, block_depth=4),
    "GPT": lambda: GPT(11, d_embed=8, num_heads=2, num_blocks=3),
    "Attention": lambda: Attention(8, 2),
    "ComposedAttention": lambda: ComposedAttention(8, 2, scale=0.5, causal=False),
    "ResCNN": lambda: ResCNN(3, 2, width=4, num_blocks=2),
    "nested sums": nested_sum,
    "a Linear by itself": lambda: Linear(3, 5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_plan_is_that_of_the_classes(name: str) -> None:
    model = NETWORKS[name]()
    assert plan_of(model) == plan_by_classes(model)


# Pairs


def test_a_pair_extends_over_the_border_of_a_compound() -> None:
    class Layer(Composition[RMS, RMS]):
        def __init__(self) -> None:
            super().__init__(ReLU() @ Linear(4, 4))

    assert plan_of(Linear(3, 4) @ Layer()) == {"0.0": COLUMN, "1": ROW}


def test_two_readers_need_the_whole_output() -> None:
    model = (Linear(3, 4) + Linear(3, 4)) @ Linear(4, 4)
    assert set(plan_of(model).values()) == {GATHERED}


def test_a_function_of_several_entries_needs_the_whole_vector() -> None:
    double = FunctionBond(torch.abs, domain=RMS, codomain=RMS)
    assert plan_of(Linear(3, 4) @ double @ Linear(4, 4)) == {"0": GATHERED, "2": GATHERED}


def tied() -> Module:
    model = Linear(4, 4) @ ReLU() @ Linear(4, 4) @ Bias(4) @ Linear(4, 4)
    model[0].weight = model[2].weight
    return model


def repeated() -> Module:
    layer = Linear(4, 4)
    return layer @ ReLU() @ layer


@pytest.mark.parametrize(("make", "expected"), [(tied, {"4": GATHERED}), (repeated, {})])
def test_a_weight_that_is_used_twice_is_replicated(
    make: Callable[[], Module], expected: dict[str, str]
) -> None:
    assert plan_of(make()) == expected


# Heads


def projection(split: Module | None = None) -> Module:
    return (SplitIntoHeads(2) if split is None else split) @ Linear(8, 8)


def scores() -> Module:
    return Softmax() @ AttentionQK() @ (projection(), projection())


@pytest.mark.parametrize("attention", [Attention, ComposedAttention])
def test_attention_of_one_matrix_a_head_is_sharded_by_heads(
    attention: type[Attention] | type[ComposedAttention],
) -> None:
    model = attention(8, 4, num_kv_heads=2, projection=HeadLinear)
    assert sorted(plan_of(model).values()) == sorted([HEAD] * 3 + [ROW])


def test_fused_queries_keys_and_values_stay_whole() -> None:
    model = Linear(8, 8) @ MergeHeads() @ FunctionalAttention() @ SplitQKV(2) @ HeadLinear(6, 4, 8)
    assert plan_of(model) == {"4": GATHERED}


def test_attention_of_a_users_own_is_sharded_by_heads() -> None:
    model = Linear(8, 8) @ MergeHeads() @ ApplyAttentionScores() @ (projection(), scores())
    assert sorted(plan_of(model).values()) == sorted([COLUMN, HEADS] * 3 + [ROW])


class OpaqueSplit(SplitIntoHeads):
    """A split of which no plan knows."""

    acts = "otherwise"


def with_one_split() -> Module:
    split = SplitIntoHeads(2)
    scores = Softmax() @ AttentionQK() @ (projection(split), projection(split))
    return Linear(8, 8) @ MergeHeads() @ ApplyAttentionScores() @ (projection(), scores)


WHOLE: dict[str, Callable[[], Module]] = {
    "heads are the output": projection,
    "merged heads are the output": lambda: MergeHeads() @ projection(),
    "merged heads meet a bias": lambda: Linear(8, 8) @ Bias(8) @ MergeHeads() @ projection(),
    "whole heads are merged": lambda: Linear(8, 8) @ MergeHeads() @ SplitIntoHeads(2),
    "some heads are whole": lambda: (
        Linear(8, 8)
        @ MergeHeads()
        @ ApplyAttentionScores()
        @ (projection(OpaqueSplit(2)), scores())
    ),
    "a split is used twice": with_one_split,
}


@pytest.mark.parametrize("name", WHOLE)
def test_heads_are_whole_where_a_reader_needs_all_of_them(name: str) -> None:
    assert set(plan_of(WHOLE[name]()).values()) <= {GATHERED}


def test_attention_after_a_part_with_whole_heads_is_sharded() -> None:
    model = Attention(8, 2) @ (MergeHeads() @ projection())
    expected = {f"3.{path}": style for path, style in plan_of(Attention(8, 2)).items()}
    assert plan_of(model) == {"0": GATHERED} | expected


def test_a_matrix_between_merge_and_split_is_sharded_one_way() -> None:
    model = Linear(8, 8) @ MergeHeads() @ projection() @ MergeHeads() @ projection()
    plan = plan_of(model)
    assert plan["6"] == ROW
    assert plan["3"] == COLUMN
    assert plan["0"] == GATHERED
