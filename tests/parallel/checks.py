"""Checks on several processes. `worker.py` runs them; `test_parallel.py` reports each as a test.

A check is a function without arguments that every process calls. It raises if it fails.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache, partial
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard
from torch.distributed.tensor.parallel import parallelize_module
from torch.nn import functional as F

from benchmarks.communication import (
    Traffic,
    exchange_as_on_gpus,
    sent_for_support,
    sent_for_votes,
    sent_when_hybrid,
    sent_when_sharded,
    sent_when_split,
    stacks,
    total,
)
from modula import (
    L1,
    RMS,
    Atom,
    Attention,
    Bias,
    ComposedAttention,
    Conv2D,
    Embed,
    FunctionalAttention,
    Gain,
    Gradient,
    HeadLinear,
    Linear,
    Linf,
    Llama,
    MergeHeads,
    Module,
    ReLU,
    ResMLP,
    SplitIntoHeads,
    SplitQKV,
    SteepestDescent,
    Weights,
)
from modula.geometry import Geometry, Intersection, Spectral, Stacked, Vectors
from modula.optim import (
    Ball,
    Cautious,
    CautiousDecay,
    KeepFrobenius,
    Projected,
    SecondMoments,
    Sphere,
    Steepest,
)
from modula.optim.votes import Votes
from modula.parallel import split_over, tensor_parallel_plan
from modula.polar import MethodLike
from modula.workspace import set_workspace_limit
from tests.helpers import random_gradient
from tests.parallel import failures, shapes
from tests.parallel.setup import (
    batch,
    distributed,
    distributed_like,
    gathered,
    gpt,
    loss_of,
    mesh_of,
    pairs,
    same,
    shard,
    train,
    ways,
    whole,
)

Check = Callable[[], None]

EXACT = 1e-10
"""For float64, in which only the order of sums differs."""

WAYS = ["ddp", "ddp, split", "fsdp", "hsdp", "tp", "tp, fsdp"]


# Every operation, on every atom, in every layout. No number of processes divides the widths, and
# there are fewer matrices than processes.


class Halved(Spectral):
    """A duality map of a user's own, which no shared batch of matrices knows."""

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        return 0.5 * super().dualize(gradient, method)


class RowsByShare(Vectors):
    """A duality map of rows that needs the whole weight: each row moves by its share."""

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        lengths = self.vector_norm.norm(gradient)
        share = lengths / lengths.amax(dim=-1, keepdim=True)
        return super().dualize(gradient, method) * share.unsqueeze(-1)


class Measured(Atom[RMS, RMS]):
    """A matrix under any geometry."""

    def __init__(self, fan_out: int, fan_in: int, geometry: Geometry) -> None:
        super().__init__((fan_out, fan_in), geometry, fan_out=fan_out, fan_in=fan_in)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


def zoo() -> dict[str, Module]:
    torch.manual_seed(0)
    models = {
        "matrices": Gain(5)
        @ Linear(5, 7)
        @ ReLU()
        @ Bias(7)
        @ Linear(7, 7)
        @ Linear(7, 7)
        @ Linear(7, 3),
        "table": Linear(5, 6) @ Embed(6, 11),
        "heads": MergeHeads() @ HeadLinear(3, 2, 5),
        "kernels": Conv2D(5, 3) @ Conv2D(3, 5, kernel_size=1),
        "rows": Linear(5, 7, domain=RMS, codomain=Linf),
        "columns": Linear(7, 5, domain=L1, codomain=RMS),
        "overridden": Measured(5, 7, Halved(RMS, RMS)) @ Measured(7, 5, RowsByShare(RMS)),
        "stacked": Measured(7, 5, Stacked(Spectral(RMS, RMS), (2, 2, 3))),
        "intersected": Measured(7, 5, Intersection(Spectral(RMS, RMS), Vectors(RMS))),
        **shapes.zoo(),
    }
    return {name: model.double() for name, model in models.items()}


def layouts() -> Iterator[tuple[str, Module, Module]]:
    """Yield the name of each case, a plain model, and the model in a layout."""
    rows, columns = Shard(0), Shard(1)
    on_a_line: list[list[Placement]] = [[Replicate()], [rows], [columns]]
    on_a_grid: list[list[Placement]] = [
        [Replicate(), rows],
        [rows, rows],
        [columns, rows],
        [rows, columns],
    ]
    line = dist.get_world_size() < 4
    for placements in on_a_line if line else on_a_grid:
        for name, model in zoo().items():
            yield (
                f"{name} on {placements}",
                model,
                distributed(model, mesh_of(2) if line else mesh_of(2, 2), placements),
            )


def operation(compare: Callable[[Module, Module, list], None]) -> None:
    for case, model, sharded in layouts():
        try:
            compare(model, sharded, list(pairs(model, sharded, seed=1)))
        except Exception as error:
            error.add_note(f"in the case of {case}")
            raise


def dualize(model: Module, sharded: Module, vectors: list) -> None:
    (gradient, _), (shards, _) = vectors
    same(sharded.dualize(shards, 0.5), model.dualize(gradient, 0.5), EXACT)


def layout_of_the_update(model: Module, sharded: Module, vectors: list) -> None:
    _, (shards, _) = vectors
    assert [u.placements for u in sharded.dualize(shards).tensors] == [
        w.placements for w in sharded.weights.tensors
    ]


def norm(model: Module, sharded: Module, vectors: list) -> None:
    (_, update), (_, shards) = vectors
    torch.testing.assert_close(sharded.norm(shards), model.norm(update), rtol=EXACT, atol=0)


def dual_norm(model: Module, sharded: Module, vectors: list) -> None:
    (gradient, _), (shards, _) = vectors
    torch.testing.assert_close(
        sharded.dual_norm(shards), model.dual_norm(gradient), rtol=EXACT, atol=0
    )


def normalize(model: Module, sharded: Module, vectors: list) -> None:
    (_, update), (_, shards) = vectors
    same(sharded.normalize(shards, 0.5), model.normalize(update, 0.5), EXACT)


def pairing(model: Module, sharded: Module, vectors: list) -> None:
    (gradient, update), (gradient_shards, update_shards) = vectors
    torch.testing.assert_close(
        gradient_shards @ update_shards, gradient @ update, rtol=EXACT, atol=EXACT
    )


def arithmetic(model: Module, sharded: Module, vectors: list) -> None:
    (gradient, update), (gradient_shards, update_shards) = vectors
    same(
        2 * gradient_shards - gradient_shards / 3 + gradient_shards,
        2 * gradient - gradient / 3 + gradient,
        EXACT,
    )
    same(sharded.weights - update_shards, model.weights - update, EXACT)
    same((sharded.weights + update_shards) - sharded.weights, update, EXACT)


def in_place(model: Module, sharded: Module, vectors: list) -> None:
    (_, update), (_, update_shards) = vectors
    sharded.weights -= update_shards
    expected = model.weights - update
    same(sharded.weights, expected, EXACT)


def project(model: Module, sharded: Module, vectors: list) -> None:
    model = copy.deepcopy(model)
    model.project()
    sharded.project()
    same(sharded.weights, model.weights, EXACT)


def pending_sums() -> None:
    """A gradient whose sum over processes is still pending."""
    model = zoo()["matrices"]
    mesh = mesh_of(dist.get_world_size())
    own = random_gradient(model, seed=dist.get_rank())
    pending = Gradient({name: DTensor.from_local(g, mesh, [Partial()]) for name, g in own.items()})
    summed = Gradient({name: whole(g) for name, g in pending.items()})
    same(model.dualize(pending), model.dualize(summed), EXACT)


def a_batch_at_a_time() -> None:
    """A workspace of one matrix still gives every process one whole matrix at a time."""
    torch.manual_seed(0)
    model = (Linear(5, 5) ** 6).double()
    sharded = distributed(model, mesh_of(dist.get_world_size()), [Shard(0)])
    gradient = random_gradient(model, 1)
    shards = Gradient(distributed_like(gradient, sharded))
    try:
        set_workspace_limit(1)
        with patch.object(
            Spectral, "dualize", autospec=True, side_effect=Spectral.dualize
        ) as dualized:
            update = sharded.dualize(shards)
    finally:
        set_workspace_limit(2**30)
    same(update, model.dualize(gradient), EXACT)
    assert all(len(call.args[1]) == 1 for call in dualized.call_args_list)


# The GPT


def gradient_of(way_name: str, dtype: torch.dtype) -> tuple[Module, Gradient, Module, Gradient]:
    """A GPT and its gradient, plain and distributed."""
    way = ways()[way_name]
    model, sharded = gpt().to(dtype), gpt().to(dtype)
    forward = way.wrap(sharded)
    inputs, targets = batch(0)
    loss_of(forward, way.share(inputs), way.share(targets)).backward()
    return model, model.gradient(loss_of(model, inputs, targets)), sharded, sharded.gradient()


def gradient(way: str) -> None:
    _, expected, _, actual = gradient_of(way, torch.float32)
    same(actual, expected, 1e-6)


def dualized_gradient(way: str, dtype: torch.dtype, tolerance: float) -> None:
    model, expected, sharded, actual = gradient_of(way, dtype)
    with ways()[way].context():
        update = sharded.dualize(actual)
    same(update, model.dualize(expected), tolerance)


@cache
def after_twenty_steps_alone() -> Weights:
    model = gpt()
    train(model, None, steps=20)
    return model.weights


def twenty_steps(way: str) -> None:
    sharded = gpt()
    train(sharded, ways()[way], steps=20)
    same(sharded.weights, after_twenty_steps_alone(), 1e-5)


def second_moments_of_lines(way: str) -> None:
    """The rows of sharded weights are measured, divided and remembered as those of whole ones."""
    model, sharded = gpt(), gpt()
    rule = SecondMoments(SecondMoments(lines="columns"), rescaling=KeepFrobenius())
    alone = train(model, None, 3, rule)
    others = train(sharded, ways()[way], 3, rule)
    same(sharded.weights, model.weights, 1e-5)
    for w, shards in zip(model.weights.tensors, sharded.weights.tensors, strict=True):
        for name, kept in alone.state[w].items():
            if name.startswith("second_moment"):
                torch.testing.assert_close(others.state[shards][name], kept, rtol=1e-3, atol=1e-6)


def mixed_precision() -> None:
    """A forward pass in bfloat16 gives float32 gradients, dualized as on one process."""
    model, _, sharded, shards = gradient_of("fsdp, bfloat16", torch.float32)
    assert {g.dtype for g in shards.tensors} == {torch.float32}
    same(sharded.dualize(shards), model.dualize(Gradient(gathered(shards))), 1e-5)


def replicas_agree() -> None:
    """Replicas that each dualize other matrices have the same weights, bit for bit."""
    model = gpt()
    train(model, ways()["ddp, split"], steps=5)
    for w in model.weights.tensors:
        first = w.detach().clone()
        dist.broadcast(first, src=0)
        assert torch.equal(first, w)


def frozen_weights() -> None:
    model, sharded = gpt(), gpt()
    for each in (model, sharded):
        each[0].requires_grad_(False)
        each[-2].requires_grad_(False)
    before = [w.detach().clone() for w in model.weights.tensors]
    train(model, None, steps=3)
    train(sharded, ways()["fsdp"], steps=3)
    same(sharded.weights, model.weights, 1e-5)
    frozen = [i for i, w in enumerate(model.weights.tensors) if not w.requires_grad]
    assert all(torch.equal(whole(sharded.weights.tensors[i]), before[i]) for i in frozen)
    assert len(frozen) == 2


def plain_weights_beside_sharded_ones() -> None:
    """A Gain is in no plan for tensor parallelism, and its weight stays a plain tensor."""
    torch.manual_seed(0)
    model = (Linear(4, 8) @ Gain(8) @ Linear(8, 8) @ ReLU() @ Linear(8, 4)).double()
    sharded = copy.deepcopy(model)
    parallelize_module(sharded, mesh_of(dist.get_world_size()), tensor_parallel_plan(sharded))
    x = torch.randn(20, 4, dtype=torch.float64)
    for each in (model, sharded):
        optimizer = SteepestDescent(each, lr=0.1, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            each(x).sub(1).square().mean().backward()
            optimizer.step()
    assert len({type(w.data) for w in sharded.weights.tensors}) == 2
    same(sharded.weights, model.weights, EXACT)


def attention_to() -> Module:
    """Attention to queries, keys and values that a module before it gives."""
    return Linear(8, 8) @ MergeHeads() @ FunctionalAttention()


def fused_queries_keys_and_values() -> None:
    """One sharded tensor of queries, keys and values takes the step of three tensors."""
    torch.manual_seed(0)
    sizes = (4, 2, 2)
    apart = (attention_to() @ tuple(HeadLinear(heads, 2, 8) for heads in sizes)).double()
    fused = (attention_to() @ SplitQKV(4, 2) @ HeadLinear(8, 2, 8, mass=3)).double()
    gradient = random_gradient(apart, 0)
    *parts, last = gradient.tensors
    joined = Gradient.from_tensors(tuple(fused.weights.names), [torch.cat(parts), last])
    sharded = distributed(fused, mesh_of(dist.get_world_size()), [Shard(0)])
    step = sharded.dualize(Gradient(distributed_like(joined, sharded)), method="svd")
    *expected, last = apart.dualize(gradient, method="svd").tensors
    for found, wanted in zip(gathered(step).values(), (torch.cat(expected), last), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=EXACT)


def llama_in_shards() -> None:
    """Sharded by rows, or by heads under its plan, Llama takes the step of one process."""
    line = mesh_of(dist.get_world_size())
    torch.manual_seed(0)
    model = Llama(31, d_embed=16, num_heads=8, num_kv_heads=4, num_blocks=1, projection=HeadLinear)
    for by_heads in (False, True):
        alone = copy.deepcopy(model).double()
        sharded = copy.deepcopy(alone)
        if by_heads:
            parallelize_module(sharded, line, tensor_parallel_plan(sharded))
        else:
            shard(sharded, line)
        for one in (alone, sharded):
            loss_of(one, *batch(0)).backward()
        expected = alone.dualize(alone.gradient(), method="svd")
        same(sharded.dualize(sharded.gradient(), method="svd"), expected, EXACT)


def tensor_parallel_outputs() -> None:
    """Under its plan every network computes the outputs that it computes on one process."""
    torch.manual_seed(0)
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    layer = Linear(8, 8)
    for model in (
        ResMLP(3, 8, width=8, num_blocks=2, block_depth=4),
        ComposedAttention(8, 4),
        MergeHeads() @ SplitIntoHeads(4) @ Linear(8, 8),
        Linear(8, 8) @ Bias(8) @ MergeHeads() @ SplitIntoHeads(4) @ Linear(8, 8),
        Attention(8, 4) @ layer @ ReLU() @ layer,
        Attention(8, 8, d_head=2, num_kv_heads=4, window=3),
        ComposedAttention(8, 8, d_head=2, num_kv_heads=4, projection=HeadLinear),
        attention_to() @ SplitQKV(4) @ HeadLinear(12, 2, 8, mass=3),
    ):
        expected = model.double()(x)
        parallelize_module(model, mesh_of(dist.get_world_size()), tensor_parallel_plan(model))
        torch.testing.assert_close(whole(model(x)), expected.detach(), rtol=0, atol=EXACT)


def nan_on_one_process() -> None:
    """nonfinite="skip": every process skips the step, though only one has the entry."""
    model = gpt()
    forward = ways()["fsdp"].wrap(model)
    optimizer = SteepestDescent(model, lr=0.1, nonfinite="skip")
    loss_of(forward, *batch(0)).backward()
    before = gathered(model.weights)
    if dist.get_rank() == 1:
        model.weights.tensors[3].grad.to_local()[0, 0] = torch.nan
    optimizer.step()
    assert int(optimizer.skipped) == 1
    assert all(torch.equal(whole(w), before[name]) for name, w in model.weights.items())


def adaptive_masses() -> None:
    """Agreements of sharded gradients and updates are those of whole ones."""
    model, sharded = gpt().double(), gpt().double()
    optimizers = [
        SteepestDescent(each, lr=0.1, adapt_masses=0.1)
        for each in (model, shard(sharded, mesh_of(dist.get_world_size())))
    ]
    for step in range(3):
        for each, optimizer in zip((model, sharded), optimizers, strict=True):
            optimizer.zero_grad()
            loss_of(each, *batch(step)).backward()
            optimizer.step()
    alone, together = (optimizer.masses() for optimizer in optimizers)
    assert together == pytest.approx(alone, rel=1e-6)
    assert alone != pytest.approx(
        dict(zip(alone, [w.mass for w in model.graph().weights.values()], strict=True)), rel=1e-3
    )


COMPOSED: list[Callable[[Module], SteepestDescent]] = [
    lambda each: SteepestDescent(each, 0.1, rule=SecondMoments()),
    lambda each: SteepestDescent(each, 0.1, rule=SecondMoments(rescaling=KeepFrobenius())),
    lambda each: SteepestDescent(each, 0.1, rule=Cautious(SecondMoments(lines="columns"))),
    lambda each: SteepestDescent(each, 0.1, rule=Steepest(), weight_decay=0.1),
    lambda each: SteepestDescent(each, 0.1, weight_decay=0.1, decay=CautiousDecay()),
    lambda each: SteepestDescent(each, 0.1, constraint=Ball(0.9)),
    lambda each: SteepestDescent(each, 0.1, constraint=Sphere(1.0)),
    lambda each: SteepestDescent(each, 0.1, constraint=Projected()),
]


def composed_rules() -> None:
    """Rules around rules, decay and constraints of sharded weights are those of whole ones."""
    mesh = mesh_of(dist.get_world_size())
    for make in COMPOSED:
        model, in_rows, in_tensors = gpt().double(), gpt().double(), gpt().double()
        shard(in_rows, mesh)
        parallelize_module(in_tensors, mesh, tensor_parallel_plan(in_tensors))
        for each in (model, in_rows, in_tensors):
            optimizer = make(each)
            for step in range(3):
                optimizer.zero_grad()
                loss_of(each, *batch(step)).backward()
                optimizer.step()
        same(in_rows.weights, model.weights, 1e-6)
        same(in_tensors.weights, model.weights, 1e-6)


# Construction


def meta_construction() -> None:
    """A model that is sharded on the meta device draws the weights of one process."""
    model = gpt()
    model.initialize(torch.Generator().manual_seed(3))
    with torch.device("meta"):
        sharded = gpt()
    shard(sharded, mesh_of(dist.get_world_size()))
    sharded.to_empty(device="cpu").initialize(torch.Generator().manual_seed(3))
    same(sharded.weights, model.weights, 0)


def seeds_that_differ() -> None:
    """All processes take the first one's values, so that whole matrices are semi-orthogonal."""
    sharded = shard(gpt(), mesh_of(dist.get_world_size()))
    sharded.initialize(torch.Generator().manual_seed(dist.get_rank()))
    model = gpt()
    model.initialize(torch.Generator().manual_seed(0))
    same(sharded.weights, model.weights, 0)


# Communication and memory


def counted(way_name: str, exchange: Callable) -> tuple[Traffic, list]:
    """The traffic of an optimizer's step without its votes, and the batches that it dualizes."""
    way = ways()[way_name]
    model = gpt()
    forward = way.wrap(model)
    optimizer = SteepestDescent(model, lr=0.1)
    inputs, targets = batch(0)
    loss_of(forward, way.share(inputs), way.share(targets)).backward()
    counting = patch.object(Votes, "agree", autospec=True, side_effect=Votes.agree)
    with counting as agree, exchange(), way.context(), Traffic() as traffic:
        optimizer.step()
    votes = sent_for_votes(agree.call_count, dist.get_world_size())
    assert traffic.sent.pop("all-reduce", 0.0) == votes
    return traffic, stacks(model)


def sends_nothing() -> None:
    traffic, _ = counted("ddp", exchange_as_on_gpus)
    assert not traffic.sent


def sends_when_sharded(way: str) -> None:
    traffic, batches = counted(way, exchange_as_on_gpus)
    processes = dist.get_world_size()
    assert dict(traffic.sent) == {
        "all-to-all": total(sent_when_sharded, batches, processes),
        "all-gather": total(sent_for_support, batches, processes),
    }


def sends_sharded_vectors() -> None:
    """A bias and a gain, sharded by entries, are sent as matrices of one column are."""
    model = Linear(6, 5) @ Bias(5) @ Gain(5)
    gradient = random_gradient(model, 0)
    sharded = distributed(model, mesh_of(dist.get_world_size()), [Shard(0)])
    shards = Gradient(distributed_like(gradient, sharded))
    with exchange_as_on_gpus(), Traffic() as traffic:
        sharded.dualize(shards)
    assert traffic.bytes == total(sent_when_sharded, stacks(sharded), dist.get_world_size())
    assert sum(not stack.vectors for stack in stacks(sharded)) == 3


def sends_when_split() -> None:
    traffic, batches = counted("ddp, split", exchange_as_on_gpus)
    assert dict(traffic.sent) == {
        "all-gather": total(sent_when_split, batches, dist.get_world_size())
    }


def sends_when_hybrid() -> None:
    """The formula is for the process that sends most, which has the largest share of each batch."""
    traffic, batches = counted("hsdp", exchange_as_on_gpus)
    sent = torch.tensor([traffic.bytes])
    dist.all_reduce(sent, dist.ReduceOp.MAX)
    numbers = total(sent_for_support, batches, 2)
    assert float(sent) == total(sent_when_hybrid, batches, 2, 2) + numbers


def only_exchanges_when_sharded_twice() -> None:
    """Under tensor parallelism and fully_shard no matrix is gathered on all processes."""
    traffic, batches = counted("tp, fsdp", exchange_as_on_gpus)
    assert set(traffic.sent) == {"all-to-all", "all-gather"}
    assert traffic.sent["all-gather"] <= 2 * total(sent_for_support, batches, 2)


def sends_on_cpus() -> None:
    """On a CPU PyTorch gathers instead of exchanging, and N processes send N times as much."""
    traffic, batches = counted("fsdp", nullcontext)
    processes = dist.get_world_size()
    exchanged = processes * total(sent_when_sharded, batches, processes)
    assert dict(traffic.sent) == {
        "all-gather": exchanged + total(sent_for_support, batches, processes)
    }


def bounds_the_largest_tensor() -> None:
    """It is a process's share of the largest batch, and at least one matrix."""
    traffic, batches = counted("fsdp", exchange_as_on_gpus)
    processes = dist.get_world_size()
    shares = [
        -(-stack.count // processes) * -(-stack.rows // processes) * processes * stack.columns
        for stack in batches
        if not stack.vectors
    ]
    assert traffic.largest <= max(shares)


def divides_the_memory() -> None:
    """N processes each need 1/N of the peak of one process and of one more copy, which is sent."""
    torch.manual_seed(0)
    model = Linear(64, 64) ** 16
    gradient = random_gradient(model, 0)
    sharded = distributed(model, mesh_of(dist.get_world_size()), [Shard(0)])
    shards = Gradient(distributed_like(gradient, sharded))
    with Traffic() as alone:
        model.dualize(gradient)
    with exchange_as_on_gpus(), Traffic() as together:
        sharded.dualize(shards)
    copy = sum(g.numel() * g.element_size() for g in gradient.tensors)
    assert together.peak <= 1.01 * (alone.peak + copy) / dist.get_world_size()


def splits_the_work() -> None:
    """In split_over each of N processes dualizes 1/N of the matrices."""
    torch.manual_seed(0)
    model = Linear(6, 6) ** 8
    with (
        patch.object(Spectral, "dualize", autospec=True, side_effect=Spectral.dualize) as dualized,
        split_over(mesh_of(dist.get_world_size())),
    ):
        model.dualize(random_gradient(model, 0))
    assert [len(call.args[1]) for call in dualized.call_args_list] == [8 // dist.get_world_size()]


# Refusals


def loss_under_fully_shard() -> None:
    model = shard(gpt(), mesh_of(dist.get_world_size()))
    loss = loss_of(model, *batch(0))
    with pytest.raises(RuntimeError, match=r"call loss\.backward\(\), then model\.gradient\(\)"):
        model.gradient(loss)


def plain_update_of_sharded_weights() -> None:
    model = zoo()["rows"]
    sharded = distributed(model, mesh_of(dist.get_world_size()), [Shard(0)])
    with pytest.raises(TypeError, match="distribute_tensor"):
        sharded.weights -= model.dualize(random_gradient(model, 0))


def heads_that_do_not_split() -> None:
    model = gpt()
    plan = tensor_parallel_plan(model)
    path = next(path for path, style in plan.items() if "Heads" in repr(style))
    model.get_submodule(path).num_heads = 3
    with pytest.raises(ValueError, match="its 3 heads do not split evenly"):
        parallelize_module(model, mesh_of(dist.get_world_size()), plan)


CHECKS: dict[str, Check] = {
    f"operation: {f.__name__}": partial(operation, f)
    for f in (
        dualize,
        layout_of_the_update,
        norm,
        dual_norm,
        normalize,
        pairing,
        arithmetic,
        in_place,
        project,
    )
}
for _way in WAYS:
    CHECKS[f"gradient: {_way}"] = partial(gradient, _way)
    CHECKS[f"dualize in float32: {_way}"] = partial(dualized_gradient, _way, torch.float32, 1e-5)
    CHECKS[f"dualize in float64: {_way}"] = partial(dualized_gradient, _way, torch.float64, EXACT)
    CHECKS[f"twenty steps: {_way}"] = partial(twenty_steps, _way)
    CHECKS[f"second moments of lines: {_way}"] = partial(second_moments_of_lines, _way)
for _way in ("fsdp", "tp"):
    CHECKS[f"sends when sharded: {_way}"] = partial(sends_when_sharded, _way)
for _check in (
    pending_sums,
    a_batch_at_a_time,
    mixed_precision,
    replicas_agree,
    frozen_weights,
    plain_weights_beside_sharded_ones,
    fused_queries_keys_and_values,
    llama_in_shards,
    shapes.fused_gates,
    shapes.fused_experts,
    shapes.experts_and_recurrences_under_fsdp,
    tensor_parallel_outputs,
    nan_on_one_process,
    adaptive_masses,
    composed_rules,
    meta_construction,
    seeds_that_differ,
    sends_nothing,
    sends_sharded_vectors,
    sends_when_split,
    sends_on_cpus,
    bounds_the_largest_tensor,
    divides_the_memory,
    splits_the_work,
    loss_under_fully_shard,
    plain_update_of_sharded_weights,
    heads_that_do_not_split,
):
    CHECKS[_check.__name__.replace("_", " ")] = _check

CHECKS |= failures.CHECKS

CHECKS_ON_FOUR: dict[str, Check] = {
    "sends when hybrid": sends_when_hybrid,
    "only exchanges when sharded twice": only_exchanges_when_sharded_twice,
    **failures.CHECKS_ON_FOUR,
}


def checks(processes: int) -> dict[str, Check]:
    """Return the checks for this number of processes, by name."""
    return CHECKS | CHECKS_ON_FOUR if processes >= 4 else CHECKS
