"""Checks on several processes of gates and experts in one tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard

from modula import (
    LSTM,
    ClassToken,
    Embed,
    Experts,
    GatedTanh,
    Gradient,
    GRUSteps,
    Linear,
    MixtureOfExperts,
    Module,
    PositionTable,
    Scalar,
    StackedBias,
    StackedLinear,
    SteepestDescent,
    Unbind,
)
from tests.helpers import random_gradient
from tests.parallel.setup import (
    VOCABULARY,
    batch,
    distributed,
    distributed_like,
    gathered,
    loss_of,
    mesh_of,
    same,
)

STEP = 1e-6
"""How far the step of a fused tensor may be from that of separate tensors."""


def zoo() -> dict[str, Module]:
    """Return a network for each kind of weight, by name."""
    return {
        "gates": GRUSteps(5) @ StackedBias(3, 5) @ StackedLinear(3, 5, 7),
        "experts": Experts(3, 5, 7),
        "sequences": Scalar() @ ClassToken(5) @ PositionTable(5, 3),
    }


def fused_gates() -> None:
    """One sharded tensor of two gates takes the step of two tensors."""
    torch.manual_seed(0)
    apart = (Linear(2, 6) @ GatedTanh() @ (Linear(6, 4), Linear(6, 4))).double()
    fused = (Linear(2, 6) @ GatedTanh() @ Unbind(2) @ StackedLinear(2, 6, 4)).double()
    gradient = random_gradient(apart, 0)
    *parts, last = gradient.tensors
    joined = Gradient.from_tensors(tuple(fused.weights.names), [torch.cat(parts), last])
    sharded = distributed(fused, mesh_of(dist.get_world_size()), [Shard(0)])
    step = sharded.dualize(Gradient(distributed_like(joined, sharded)), method="svd")
    *expected, last = apart.dualize(gradient, method="svd").tensors
    for found, wanted in zip(gathered(step).values(), (torch.cat(expected), last), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=STEP)


def fused_experts() -> None:
    """Each expert of one sharded tensor takes the step of a Linear of its own."""
    torch.manual_seed(0)
    fused = Experts(5, 6, 4).double()
    gradient = random_gradient(fused, 0)
    mesh = mesh_of(dist.get_world_size())
    for axis in range(3):
        sharded = distributed(fused, mesh, [Shard(axis)])
        step = sharded.dualize(Gradient(distributed_like(gradient, sharded)), method="svd")
        (found,) = gathered(step).values()
        for own, g in zip(found, gradient["weight"], strict=True):
            alone = Linear(6, 4).double().dualize(Gradient({"weight": g}), method="svd")["weight"]
            torch.testing.assert_close(own, alone, rtol=0, atol=STEP)


def experts_and_recurrences_under_fsdp() -> None:
    """A network of both trains as on one process."""
    torch.manual_seed(0)
    layer = MixtureOfExperts(16, num_experts=3, k=2, width=8)
    model = (Linear(VOCABULARY, 16) @ layer @ LSTM(16, 16) @ Embed(16, VOCABULARY)).double()
    sharded = copy.deepcopy(model)
    fully_shard(sharded, mesh=mesh_of(dist.get_world_size()))

    def share(whole: Tensor) -> Tensor:
        return whole.chunk(dist.get_world_size())[dist.get_rank()]

    train(model, lambda whole: whole)
    train(sharded, share)
    same(sharded.weights, model.weights, 1e-8)


def train(model: Module, share: Callable[[Tensor], Tensor]) -> None:
    """Train for three steps on this process's share of each batch."""
    optimizer = SteepestDescent(model, lr=0.1)
    for step in range(3):
        inputs, targets = batch(step)
        optimizer.zero_grad()
        loss_of(model, share(inputs), share(targets)).backward()
        optimizer.step()
