"""Models, data and ways to distribute them, for the checks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Placement, Shard, distribute_tensor
from torch.distributed.tensor.parallel import parallelize_module
from torch.nn.parallel import DistributedDataParallel

from modula import GPT, Gradient, Module, SteepestDescent, TransformerBlock, Update
from modula.optim import Rule
from modula.parallel import split_over, tensor_parallel_plan
from modula.vector import Vector

VOCABULARY, BATCH, CONTEXT = 31, 16, 16

M = TypeVar("M", bound=nn.Module)


def gpt() -> GPT:
    """A GPT of 31 tokens, which no number of processes divides.

    It is so narrow that all steps of the orthogonalisation run in float32.
    """
    torch.manual_seed(0)
    return GPT(VOCABULARY, d_embed=16, num_heads=4, num_blocks=2)


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Tokens, most of which are functions of those before them."""
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(VOCABULARY, (BATCH, CONTEXT + 1), generator=generator)
    follows = torch.rand(ids[:, 1:].shape, generator=generator) < 0.7
    ids[:, 1:] = torch.where(follows, (3 * ids[:, :-1] + 1) % VOCABULARY, ids[:, 1:])
    return ids[:, :-1], ids[:, 1:]


def loss_of(forward: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(forward(inputs).flatten(0, 1), targets.flatten())


# Ways to distribute the GPT


@dataclass(frozen=True)
class Way:
    """One way to distribute a GPT.

    Args:
        wrap: distributes it and returns the forward function.
        replicas: the number of equal chunks of the batch.
        replica: the position of this process's chunk.
        context: in which the optimizer steps.
    """

    wrap: Callable[[GPT], Callable[[Tensor], Tensor]]
    replicas: int
    replica: int
    context: Callable[[], AbstractContextManager[None]] = nullcontext

    def share(self, whole: Tensor) -> Tensor:
        return whole.chunk(self.replicas)[self.replica]


def shard(model: M, mesh: DeviceMesh, policy: MixedPrecisionPolicy | None = None) -> M:
    policy = policy or MixedPrecisionPolicy()
    for module in model.modules():
        if isinstance(module, TransformerBlock):
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    return model


def ways() -> dict[str, Way]:
    world, rank = dist.get_world_size(), dist.get_rank()
    line = mesh_of(world)
    grid = mesh_of(2, world // 2)
    bfloat16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)

    def parallel(model: GPT, mesh: DeviceMesh) -> GPT:
        parallelize_module(model, mesh, tensor_parallel_plan(model))
        return model

    return {
        "ddp": Way(DistributedDataParallel, world, rank),
        "ddp, split": Way(DistributedDataParallel, world, rank, lambda: split_over(line)),
        "fsdp": Way(lambda model: shard(model, line), world, rank),
        "fsdp, bfloat16": Way(lambda model: shard(model, line, bfloat16), world, rank),
        "hsdp": Way(lambda model: shard(model, grid), world, rank),
        "tp": Way(lambda model: parallel(model, line), 1, 0),
        "tp, fsdp": Way(
            lambda model: shard(parallel(model, grid["inner"]), grid["outer"]),
            2,
            rank // (world // 2),
        ),
    }


_meshes: dict[tuple[int, ...], DeviceMesh] = {}


def mesh_of(*shape: int) -> DeviceMesh:
    """A mesh of all processes, made once, since each needs process groups."""
    if shape not in _meshes:
        _meshes[shape] = init_device_mesh(
            "cpu", shape, mesh_dim_names=("outer", "inner")[: len(shape)]
        )
    return _meshes[shape]


def train(model: GPT, way: Way | None, steps: int, rule: Rule | None = None) -> SteepestDescent:
    """Train a GPT by SteepestDescent; on one process with the whole batch if `way` is None."""
    forward = way.wrap(model) if way else model
    optimizer = SteepestDescent(model, lr=0.1, rule=rule)
    for step in range(steps):
        inputs, targets = batch(step)
        if way:
            inputs, targets = way.share(inputs), way.share(targets)
        optimizer.zero_grad()
        loss_of(forward, inputs, targets).backward()
        with way.context() if way else nullcontext():
            optimizer.step()
    return optimizer


# Any model, distributed by hand


def distributed(model: Module, mesh: DeviceMesh, placements: Sequence[Placement]) -> Module:
    """A copy whose parameters are DTensors.

    A placement on an axis that a parameter lacks means its last axis.
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            fitting = [
                Shard(min(q.dim, p.dim() - 1)) if isinstance(q, Shard) else q for q in placements
            ]
            setattr(module, name, nn.Parameter(distribute_tensor(p.detach(), mesh, fitting)))
    return model


def distributed_like(vector: Vector, model: Module) -> dict[str, Tensor]:
    """The tensors of a vector, in the layouts of the model's parameters."""
    return {
        name: distribute_tensor(t, w.device_mesh, w.placements) if isinstance(w, DTensor) else t
        for (name, t), w in zip(vector.items(), model.weights.tensors, strict=True)
    }


def whole(t: Tensor) -> Tensor:
    t = t.detach()
    return t.full_tensor() if isinstance(t, DTensor) else t


def gathered(vector: Vector) -> dict[str, Tensor]:
    return {name: whole(t) for name, t in vector.items()}


def same(actual: Vector, expected: Vector, tolerance: float) -> None:
    """Assert that all entries agree up to `tolerance`."""
    for (name, a), (other, b) in zip(
        gathered(actual).items(), gathered(expected).items(), strict=True
    ):
        assert name == other
        torch.testing.assert_close(
            a, b, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def pairs(model: Module, sharded: Module, seed: int) -> Iterator[tuple[Gradient, Update]]:
    """A random gradient and update, plain and in the layouts of the sharded model."""
    from tests.helpers import random_gradient, random_update

    gradient, update = random_gradient(model, seed), random_update(model, seed + 100)
    yield gradient, update
    yield Gradient(distributed_like(gradient, sharded)), Update(distributed_like(update, sharded))
