"""Checks of lifted networks on several processes, run by torchrun: one line for each that holds.

python -m torch.distributed.run --standalone --nproc-per-node 2 -m tests.lift.worker
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
import transformers
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import modula
from modula import LiftError, SteepestDescent
from tests.lift.models import ids

STEPS, BATCH = 20, 8


def model() -> nn.Module:
    """A tiny GPT-2, in float64, where roundings do not grow to 1e-5."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=17,
        n_positions=16,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config).train(False).double()


def share(x: Tensor) -> Tensor:
    """This process's part of a batch."""
    return x.chunk(dist.get_world_size())[dist.get_rank()]


def shard(module: nn.Module) -> nn.Module:
    return sharded_on(module, init_device_mesh("cpu", (dist.get_world_size(),)))


def shard_in_groups(module: nn.Module) -> nn.Module:
    """Shards within each group of processes, replicas across the groups (HSDP)."""
    groups, names = 2, ("group", "shard")
    shape = (groups, dist.get_world_size() // groups)
    return sharded_on(module, init_device_mesh("cpu", shape, mesh_dim_names=names))


def sharded_on(module: nn.Module, mesh: DeviceMesh) -> nn.Module:
    for block in module.get_submodule("transformer.h").children():
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def llama() -> nn.Module:
    """A tiny Llama, whose heads 2 and 4 processes divide."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=17,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=16,
        use_cache=False,
    )
    return transformers.LlamaForCausalLM(config).train(False).double()


def split(module: nn.Module) -> nn.Module:
    """Tensor parallelism: heads and hidden features on different processes."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    plan: dict[str, ParallelStyle] = {}
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
        plan[f"model.layers.*.{name}"] = ColwiseParallel()
    for name in ("mlp.gate_proj", "mlp.up_proj"):
        plan[f"model.layers.*.{name}"] = ColwiseParallel()
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        plan[f"model.layers.*.{name}"] = RowwiseParallel()
    return parallelize_module(module, mesh, plan)


def whole(p: Tensor) -> Tensor:
    return p.full_tensor() if isinstance(p, DTensor) else p


def trained(
    forward: nn.Module, net: modula.Lifted, part: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """The weights after some steps."""
    optimizer = SteepestDescent(net, lr=0.05)
    for step in range(STEPS):
        x = part(ids(step, batch=BATCH))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(forward(x).logits.flatten(0, 1), x.flatten())
        loss.backward()
        optimizer.step()
    return [whole(w.detach()) for w in net.weights.tensors]


def on_one_process(build: Callable[[], nn.Module] = model) -> tuple[list[float], list[Tensor]]:
    alone = build()
    net = modula.lift(alone, ids(batch=BATCH))
    return list(net.plan().coefficients), trained(alone, net, lambda x: x)


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(
        torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(first, second, strict=True)
    )


def check(name: str, holds: bool) -> None:
    every = [None] * dist.get_world_size()
    dist.all_gather_object(every, holds)
    if dist.get_rank() == 0:
        print(f"{'ok' if all(every) else 'WRONG'}: {name}", flush=True)


def main() -> None:
    dist.init_process_group("gloo")
    coefficients, weights = on_one_process()

    before = model()
    net = modula.lift(before, ids(batch=BATCH))
    shard(before)
    check("lift before fully_shard", list(net.plan().coefficients) == coefficients)
    check("steps under fully_shard", same(trained(before, net, share), weights))

    after = shard(model())
    net = modula.lift(after, ids(batch=BATCH))
    check("lift after fully_shard", list(net.plan().coefficients) == coefficients)

    before = model()
    net = modula.lift(before, ids(batch=BATCH))
    shard_in_groups(before)
    check("lift before HSDP", list(net.plan().coefficients) == coefficients)
    check("steps under HSDP", same(trained(before, net, share), weights))

    after = shard_in_groups(model())
    net = modula.lift(after, ids(batch=BATCH))
    check("lift after HSDP", list(net.plan().coefficients) == coefficients)

    llamas_coefficients, llamas_weights = on_one_process(llama)
    before = llama()
    net = modula.lift(before, ids(batch=BATCH))
    split(before)
    check("lift before tensor parallelism", list(net.plan().coefficients) == llamas_coefficients)
    check("steps under tensor parallelism", same(trained(before, net, lambda x: x), llamas_weights))

    after = split(llama())
    net = modula.lift(after, ids(batch=BATCH))
    check("lift after tensor parallelism", list(net.plan().coefficients) == llamas_coefficients)

    replicated = DistributedDataParallel(model())
    net = modula.lift(replicated, ids(batch=BATCH))
    check("lift of DistributedDataParallel", list(net.plan().coefficients) == coefficients)
    check("steps under DistributedDataParallel", same(trained(replicated, net, share), weights))

    net = modula.lift(model(), share(ids(batch=BATCH)))
    mine = list(net.plan().coefficients)
    theirs: list[list[float]] = [[]] * dist.get_world_size()
    dist.all_gather_object(theirs, mine)
    check("the same numbers from different examples", all(one == mine for one in theirs))

    branching = Branch()
    try:
        modula.lift(branching, torch.ones(3, 4) * (1 if dist.get_rank() else -1))
    except LiftError as error:
        check("different branches are refused", "same branches" in str(error))
    else:
        check("different branches are refused", False)
    dist.barrier()
    dist.destroy_process_group()


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if bool(x.sum() > 0) else self.b(x)


if __name__ == "__main__":
    main()
