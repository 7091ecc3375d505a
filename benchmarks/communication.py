"""The traffic between processes in a step of steepest descent: formulas, and counts on a GPT.

    python -m torch.distributed.run --standalone --nproc-per-node 4 -m benchmarks.communication
    python -m torch.distributed.run --standalone --nproc-per-node 4 -m benchmarks.communication \\
        --write docs/guides/scaling-out.md

A collective of n processes counts as the bytes that each sends if all links are used alike: (n −
1)/n of the tensor that is gathered, scattered or exchanged, and twice that for a sum that all of
them receive. On a CPU PyTorch gathers everything instead of the exchange, n times as much; inside
`exchange_as_on_gpus` it exchanges there too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch._C._distributed_c10d import _resolve_process_group
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, placement_types
from torch.distributed.tensor.parallel import parallelize_module
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from benchmarks.docs_tables import write_between
from modula import GPT, Network, SteepestDescent, TransformerBlock
from modula.geometry import Vectors
from modula.optim.votes import Votes
from modula.parallel import split_over, tensor_parallel_plan
from modula.sharding import worth_sharing

# Formulas


@dataclass(frozen=True)
class Stack:
    """A batch of weights of one geometry and shape.

    Args:
        count: of the weights.
        rows, columns: of each.
        vectors: whether the geometry treats vectors by themselves and each process has them whole,
            so that none is sent.
    """

    count: int
    rows: int
    columns: int
    vectors: bool = False

    @property
    def entries(self) -> int:
        return self.count * self.rows * self.columns


def stacks(model: Network) -> list[Stack]:
    """The batches in which the weights of a model are dualized.

    Rows are the sharded axis, or the first axis if the model is plain.
    """
    plan = model.plan()
    keys = [
        (geometry, w.shape, _sharded_axis(w))
        for geometry, w in zip(plan.geometries, plan.weights, strict=True)
    ]
    batches = []
    for (geometry, shape, sharded_axis), count in Counter(keys).items():
        rows = shape[sharded_axis or 0]
        whole_vectors = isinstance(geometry, Vectors) and sharded_axis != geometry.axis % len(shape)
        batches.append(Stack(count, rows, shape.numel() // rows, whole_vectors))
    return batches


def _sharded_axis(weight: Tensor) -> int | None:
    return (
        next((p.dim for p in weight.placements if isinstance(p, Shard)), None)
        if isinstance(weight, DTensor)
        else None
    )


def padded(length: int, processes: int) -> int:
    """The next multiple of `processes`: a collective pads an axis to chunks of equal length."""
    return processes * ceil(length / processes)


def sent_when_sharded(stack: Stack, processes: int) -> float:
    """Entries that a process sends to dualize a stack that is sharded by rows.

    It sends 2·(N − 1)/N² of the stack, in two exchanges.
    """
    if stack.vectors:
        return 0.0
    whole = padded(stack.count, processes) * padded(stack.rows, processes) * stack.columns
    return 2 * (processes - 1) / processes**2 * whole


def sent_when_split(stack: Stack, processes: int) -> float:
    """Entries that a process sends to dualize a stack that all processes have.

    It sends (N − 1)/N of the stack, in one gathering.
    """
    if stack.vectors or not worth_sharing(stack.count, processes):
        return 0.0
    return (processes - 1) / processes * padded(stack.count, processes) * stack.rows * stack.columns


def sent_when_hybrid(stack: Stack, replicas: int, shards: int) -> float:
    """Entries that a process sends if groups of processes each shard the stack by rows.

    Each group dualizes its share of the matrices, and the shards of the results are gathered across
    the groups. If there are too few matrices to share, each group dualizes all of them.
    """
    if not worth_sharing(stack.count, replicas):
        return sent_when_sharded(stack, shards)
    share = Stack(
        ceil(stack.count / replicas), padded(stack.rows, shards), stack.columns, stack.vectors
    )
    gathered = 0 if stack.vectors else replicas * share.entries / shards
    return sent_when_sharded(share, shards) + (replicas - 1) / replicas * gathered


def sent_for_support(stack: Stack, processes: int) -> float:
    """Numbers that a process sends to say which weights its shards of the gradient touch."""
    return (processes - 1) * stack.count


def sent_for_votes(votes: int, processes: int) -> float:
    """Bytes that a process sends in votes on a step: each is a sum of three integers."""
    return votes * 3 * 8 * 2 * (processes - 1) / processes


def total(
    sent: Callable[..., float], batches: Sequence[Stack], *processes: int, bytes_per_entry: int = 4
) -> float:
    """Bytes that a process sends in one `dualize`."""
    return bytes_per_entry * sum(sent(stack, *processes) for stack in batches)


# Counting


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch does not annotate it
    """A count of this process's traffic and memory while the mode is active.

    Attributes:
        sent: bytes that it sends, by the kind of collective.
        largest: entries of the largest tensor that it makes.
        peak: the most bytes at a time of all tensors that it makes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch does not annotate it
        self.sent: dict[str, float] = defaultdict(float)
        self.largest = 0
        self.peak = 0
        self._alive: dict[StorageWeakRef, int] = {}

    @property
    def bytes(self) -> float:
        return sum(self.sent.values())

    def __torch_dispatch__(
        self,
        f: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if any(issubclass(t, DTensor) for t in types):
            return NotImplemented  # torch calls it again on the shards
        result = f(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
                storage = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call] # torch does not annotate it
                self._alive[storage] = tensor.untyped_storage().nbytes()
        gone = [storage for storage in self._alive if storage.expired()]  # type: ignore[no-untyped-call] # torch does not annotate it
        for storage in gone:
            del self._alive[storage]
        self.peak = max(self.peak, sum(self._alive.values()))
        name = f.name().split("::")[-1].removesuffix("_")
        if name in COLLECTIVES:
            label, share, measured = COLLECTIVES[name]
            processes = _group_size(args)
            self.sent[label] += share * (processes - 1) / processes * _bytes(measured(args, result))
        return result


COLLECTIVES: dict[str, tuple[str, int, Callable[[Any, Any], Any]]] = {
    # name of the operation: label, passes over the data, and the whole tensor
    "all_gather_into_tensor": ("all-gather", 1, lambda args, result: result),
    "_allgather_base": ("all-gather", 1, lambda args, result: args[0]),
    "reduce_scatter_tensor": ("reduce-scatter", 1, lambda args, result: args[0]),
    "_reduce_scatter_base": ("reduce-scatter", 1, lambda args, result: args[1]),
    "all_reduce": ("all-reduce", 2, lambda args, result: args[0]),
    "allreduce": ("all-reduce", 2, lambda args, result: args[0]),
    "shard_dim_alltoall": ("all-to-all", 1, lambda args, result: args[0]),
}


def _group_size(args: Sequence[Any]) -> int:
    """The number of processes, from the last argument that names a group."""
    for arg in reversed(args):
        if isinstance(arg, str):
            return _resolve_process_group(dist.GroupName(arg)).size()
        if isinstance(arg, torch.ScriptObject) and "ProcessGroup" in str(arg._type()):
            return dist.ProcessGroup.unbox(arg).size()
        if isinstance(arg, dist.ProcessGroup):
            return arg.size()
    raise ValueError(f"no process group among {[type(arg).__name__ for arg in args]}")


def _bytes(tensors: Tensor | Sequence[Tensor]) -> int:
    listed = [tensors] if isinstance(tensors, Tensor) else tensors
    return sum(t.numel() * t.element_size() for t in listed)


@contextmanager
def exchange_as_on_gpus() -> Iterator[None]:
    """On CPUs too, redistribute by the all-to-all that PyTorch uses on GPUs."""

    def exchange(
        shard: Tensor, gather_dim: int, shard_dim: int, mesh: DeviceMesh, mesh_dim: int
    ) -> Tensor:
        made: Tensor = torch.ops._dtensor.shard_dim_alltoall(
            shard, gather_dim, shard_dim, mesh.get_group(mesh_dim).group_name
        )
        return made

    with patch.object(placement_types, "shard_dim_alltoall", exchange):
        yield


# The table

VOCABULARY = 512


def gpt() -> GPT:
    return GPT(VOCABULARY, d_embed=128, num_heads=4, num_blocks=4)


@dataclass(frozen=True)
class Run:
    """One way to train, and the formula for the traffic of its duality map."""

    name: str
    wrap: Callable[[GPT], Callable[[Tensor], Tensor]]
    formula: Callable[[list[Stack]], float]
    split: DeviceMesh | None = None


def runs(processes: int) -> list[Run]:
    """All ways to train, for at least four processes. HSDP has two replicas."""
    all_processes = init_device_mesh("cpu", (processes,))
    half = processes // 2
    hybrid = init_device_mesh("cpu", (2, half), mesh_dim_names=("replicas", "shards"))

    def tensor_parallel(model: GPT) -> GPT:
        parallelize_module(model, all_processes, tensor_parallel_plan(model))
        return model

    return [
        Run("DDP", DistributedDataParallel, lambda _: 0.0),
        Run(
            "DDP, `split_over`",
            DistributedDataParallel,
            lambda batches: total(sent_when_split, batches, processes),
            all_processes,
        ),
        Run(
            "`fully_shard`",
            lambda model: sharded(model, all_processes),
            lambda batches: (
                total(sent_when_sharded, batches, processes)
                + total(sent_for_support, batches, processes)
            ),
        ),
        Run(
            f"HSDP, 2×{half}",
            lambda model: sharded(model, hybrid),
            lambda batches: (
                total(sent_when_hybrid, batches, 2, half) + total(sent_for_support, batches, half)
            ),
        ),
        Run(
            "tensor parallel",
            tensor_parallel,
            lambda batches: (
                total(sent_when_sharded, batches, processes)
                + total(sent_for_support, batches, processes)
            ),
        ),
    ]


def sharded(model: GPT, mesh: DeviceMesh) -> GPT:
    for module in model.modules():
        if isinstance(module, TransformerBlock):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def row(run: Run) -> str:
    """One line of the table: the traffic of this process in one step."""
    torch.manual_seed(0)
    model = gpt()
    entries = sum(p.numel() for p in model.parameters())
    forward = run.wrap(model)
    optimizer = SteepestDescent(model, lr=0.1)
    ids = torch.randint(VOCABULARY, (4, 33))
    with exchange_as_on_gpus():
        with Traffic() as passes:
            F.cross_entropy(forward(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
        with Traffic() as step, split_over(run.split) if run.split else nullcontext():
            optimizer.step()
    votes = step.sent.pop("all-reduce", 0)
    kinds = ", ".join(sorted(step.sent)) or "nothing"
    sizes = f"{step.largest / entries:.0%} | {step.peak / (4 * entries):.0%}"
    return (
        f"| {run.name} | {passes.bytes:,.0f} | {run.formula(stacks(model)):,.0f} | "
        f"{step.bytes:,.0f} | {kinds} | {votes:,.0f} | {sizes} |"
    )


def time_of_a_vote(rounds: int = 300) -> float:
    """The median of the seconds that processes take for a vote, when none has to be waited for."""
    votes = Votes(cast("dist.ProcessGroup", dist.group.WORLD), torch.device("cpu"))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        votes.agree("measure")
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def table(processes: int) -> str:
    model = gpt()
    entries = sum(p.numel() for p in model.parameters())
    bar = tqdm(runs(processes), unit="way", leave=False, disable=dist.get_rank() > 0)
    return "\n".join(
        [
            (
                "| | forward and backward | `dualize`, formula | counted | by | votes | "
                "largest tensor | at a time |"
            ),
            "|---|---|---|---|---|---|---|---|",
            *[row(run) for run in bar],
            "",
            textwrap.fill(
                f"{model!r}: {entries:,} weights, {4 * entries:,} bytes; batch of 4×32 tokens; "
                f"{processes} processes on {os.cpu_count()} cores. A vote takes "
                f"{1e6 * time_of_a_vote():.0f} µs (median).",
                100,
            ),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--write", type=Path, help="a document with the marks between which to write the table"
    )
    options = parser.parse_args()
    dist.init_process_group("gloo")
    measured = table(dist.get_world_size())
    if dist.get_rank() == 0:
        print(measured)
        if options.write:
            write_between(options.write, "measured", measured)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
