"""Train the networks for images under FSDP2, on each process, and compare with one process.

Run by torchrun; `test_vision.py` starts it.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from modula import Module, SteepestDescent
from tests.compounds.vision import NETWORKS, made

STEPS = 2


def train(model: Module, x: Tensor) -> None:
    optimizer = SteepestDescent(model, lr=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def whole(t: Tensor) -> Tensor:
    return t.detach().full_tensor() if isinstance(t, DTensor) else t.detach()


def main() -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for name in NETWORKS:
        alone, x = made(name)
        train(alone, x)
        sharded, _ = made(name)
        fully_shard(sharded, mesh=mesh)
        train(sharded, x)  # the same batch on each process, whose gradients are averaged
        for (weight, expected), (_, got) in zip(
            alone.named_parameters(), sharded.named_parameters(), strict=True
        ):
            torch.testing.assert_close(
                whole(got), expected.detach(), rtol=1e-4, atol=1e-5, msg=f"{name}: {weight}"
            )
    dist.barrier()
    if dist.get_rank() == 0:
        print("all networks agree")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
