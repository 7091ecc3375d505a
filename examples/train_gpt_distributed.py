"""Train a small GPT on text by several processes: the run of train_gpt_optimizer.py, distributed.

    # weights sharded by fully_shard
    torchrun --standalone --nproc-per-node 2 examples/train_gpt_distributed.py
    # a copy on every process
    torchrun --standalone --nproc-per-node 2 examples/train_gpt_distributed.py --parallel ddp
    torchrun --standalone --nproc-per-node 4 examples/train_gpt_distributed.py --parallel hsdp \\
        --shards 2
    # every layer sharded
    torchrun --standalone --nproc-per-node 2 examples/train_gpt_distributed.py --parallel tp

With GPUs, each process has one of them, and they communicate by NCCL; otherwise all run on the CPU
and communicate by gloo (set OMP_NUM_THREADS to the number of cores over that of processes). For any
number of processes each step takes the same batch, so that the losses are those of one process up
to rounding. Writes to --out: the loss curve (loss.png), the numbers (result.json), and a checkpoint
from which --resume continues, on any number of processes and with any --parallel.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from arguments import parser
from gpt_settings import network
from text import load, shuffled
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import parallelize_module
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm
from train_gpt import evaluate, plot
from train_gpt_optimizer import CHOSEN, Progress

from modula import GPT, SteepestDescent, TransformerBlock, checkpoint
from modula.optim import Dualized, Momentum
from modula.parallel import split_over, tensor_parallel_plan


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    options = parser(__doc__, out=Path("runs/gpt_distributed"))
    options.add_argument(
        "--parallel",
        choices=["fsdp", "ddp", "hsdp", "tp"],
        default="fsdp",
        help="what the processes share: FSDP2 shards, whole replicas, replicas of shards, or each "
        "matrix product (default %(default)s)",
    )
    options.add_argument(
        "--shards",
        type=int,
        help="hsdp: how many processes shard one replica of the weights; by default a machine's",
    )
    options.add_argument(
        "--lr",
        type=float,
        default=CHOSEN.lr,
        help="peak learning rate: the norm of a step (default %(default)s)",
    )
    return options.parse_args(given)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    options = parse(arguments)
    device = join(options.device)
    try:
        return train(options, device)
    finally:
        dist.destroy_process_group()


def join(kind: str) -> torch.device:
    """Join the other processes, and return the device of this one."""
    if "RANK" not in os.environ:
        raise SystemExit(
            (
                "this script runs as several processes: start it by torchrun --standalone "
                "--nproc-per-node 2 "
            )
            + __file__
        )
    if kind == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
        return device
    dist.init_process_group("gloo")
    return torch.device(kind)


def train(options: argparse.Namespace, device: torch.device) -> dict[str, float]:
    first = dist.get_rank() == 0
    all_processes = init_device_mesh(device.type, (dist.get_world_size(),))

    torch.manual_seed(options.seed)
    corpus = load(options.data)
    model = network(
        corpus.size,
        CHOSEN,
        width=options.width,
        heads=options.heads,
        blocks=options.blocks,
    ).to(device)
    weights = sum(p.numel() for p in model.parameters())
    forward = distribute(model, options, device)
    rule = Dualized(Momentum(options.momentum))
    optimizer = SteepestDescent(model, options.lr, rule=rule)
    schedule = LambdaLR(optimizer, lambda step: 1 - step / options.steps)

    # A tensor-parallel layer needs the same input on every process; otherwise each process takes a
    # chunk of the batch.
    replicas, replica = (
        (1, 0) if options.parallel == "tp" else (dist.get_world_size(), dist.get_rank())
    )
    if options.batch % replicas:
        raise SystemExit(
            f"--batch {options.batch} does not split into {replicas} equal chunks, one a process"
        )
    if first:
        print(
            f"{options.parallel} on {dist.get_world_size()} processes, {device.type}: {weights:,} "
            "weights"
        )

    path = options.out / "checkpoint"
    losses: list[float] = []
    if options.resume:
        state = cast("Progress", checkpoint.load(path, model, optimizer))
        schedule.load_state_dict(state["schedule"])
        losses = state["losses"]

    def save() -> None:
        checkpoint.save(path, model, optimizer, schedule=schedule.state_dict(), losses=losses)

    start = time.perf_counter()
    last = (
        options.steps
        if options.stop_after is None
        else min(options.steps, len(losses) + options.stop_after)
    )
    for step in tqdm(
        range(len(losses), last),
        initial=len(losses),
        total=options.steps,
        unit="step",
        disable=not first,
    ):
        x, y = shuffled(corpus.train, options.batch, options.context, step, options.seed)
        x, y = (ids.chunk(replicas)[replica].to(device) for ids in (x, y))
        loss = F.cross_entropy(forward(x).flatten(0, 1), y.flatten())

        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch does not annotate it
        with split_over(all_processes):
            optimizer.step()
        schedule.step()

        mean = loss.detach()
        dist.all_reduce(mean)
        losses.append(mean.item() / dist.get_world_size())
        if len(losses) % options.save_every == 0:
            save()
    save()
    if last < options.steps:
        if first:
            print(f"stopped at step {last} of {options.steps}; --resume continues from {path}")
        return {"step": last}

    validation_loss = evaluate(model, corpus.validation, options.context)
    result = {
        "validation_loss": validation_loss,
        "train_loss": sum(losses[-100:]) / len(losses[-100:]),
        "lr": options.lr,
    }
    if first:
        print(
            f"validation loss {validation_loss:.4f} nats a character, after "
            f"{time.perf_counter() - start:.0f} s"
        )
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "result.json").write_text(
            json.dumps(result | {"losses": losses}, indent=2) + "\n"
        )
        plot(
            losses,
            validation_loss,
            options.out / "loss.png",
            title=f"{options.parallel} on {dist.get_world_size()} processes",
        )
        print(f"curve, numbers and checkpoint in {options.out}/")
    return result


def distribute(
    model: GPT, options: argparse.Namespace, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Distribute the model over the processes, and return the forward function."""
    processes = dist.get_world_size()
    if options.parallel == "ddp":
        return DistributedDataParallel(model)
    if options.parallel == "tp":
        parallelize_module(
            model, init_device_mesh(device.type, (processes,)), tensor_parallel_plan(model)
        )
        return model
    shards = processes
    if options.parallel == "hsdp":
        shards = options.shards or int(os.environ.get("LOCAL_WORLD_SIZE", processes))
        if processes % shards:
            raise SystemExit(
                f"{processes} processes do not split into replicas of --shards {shards} processes "
                "each"
            )
    mesh = init_device_mesh(
        device.type, (processes // shards, shards), mesh_dim_names=("replicas", "shards")
    )
    for module in model.modules():
        if isinstance(module, TransformerBlock):
            fully_shard(module, mesh=mesh if options.parallel == "hsdp" else mesh["shards"])
    fully_shard(model, mesh=mesh if options.parallel == "hsdp" else mesh["shards"])
    return model


if __name__ == "__main__":
    main()
