"""The projected cost of distributing the dualization of a large model over many GPUs.

It is arithmetic from the formulas of `communication` and published speeds. Nothing is measured.

    python -m benchmarks.projection
    python -m benchmarks.projection --write docs/guides/scaling-out.md

Speeds are those of NVIDIA's H100 SXM data sheet and of its DGX H100, eight GPUs a machine: NVLink
900 GB/s for both directions together, one 400 Gb/s network card a GPU, 989 TFLOP/s dense in
bfloat16. Real collectives and products reach a part of these.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import torch

from benchmarks.communication import Stack, sent_when_hybrid, sent_when_sharded, stacks, total
from benchmarks.docs_tables import write_between
from modula import GPT
from modula.polar.polar_express import DEGREES
from modula.sharding import worth_sharing
from modula.workspace import entries_at_once

MACHINE = 8
NVLINK = 450e9
NETWORK = 50e9
BFLOAT16 = 989e12


@dataclass(frozen=True)
class Model:
    """A GPT on the meta device, which takes no memory."""

    name: str
    vocabulary: int
    width: int
    heads: int
    blocks: int

    def build(self) -> GPT:
        with torch.device("meta"):
            return GPT(
                self.vocabulary, d_embed=self.width, num_heads=self.heads, num_blocks=self.blocks
            )


MODELS = [Model("1.5 B", 50_257, 1600, 25, 48), Model("70 B", 128_256, 8192, 64, 84)]


def flops(stack: Stack, processes: int) -> float:
    """Return the FLOP of the process with the largest share of the stack.

    A step takes two products m×m×n and, at degree 5, one m×m×m for each matrix, where m is the
    smaller side.
    """
    if stack.vectors:
        return 0.0
    m, n = sorted((stack.rows, stack.columns))
    degrees = DEGREES["default"]
    a_matrix = len(degrees) * 4 * m * m * n + degrees.count(5) * 2 * m**3
    return float(ceil(stack.count / processes) * a_matrix)


def largest_share(batches: list[Stack], processes: int) -> int:
    """Return the most entries of whole matrices that a process has in memory at a time.

    They are a batch, or as many matrices as the workspace limit allows.
    """
    shares = []
    for stack in batches:
        matrix = stack.rows * stack.columns
        shares.append(
            0
            if stack.vectors
            else matrix * min(ceil(stack.count / processes), max(1, entries_at_once() // matrix))
        )
    return max(shares)


def within_a_machine(stack: Stack, machines: int) -> Stack:
    """Return the part of a stack, replicated on every machine, that one machine dualizes."""
    return (
        replace(stack, count=ceil(stack.count / machines))
        if worth_sharing(stack.count, machines)
        else stack
    )


def row(model: Model, processes: int) -> str:
    batches = stacks(model.build())
    entries = sum(stack.entries for stack in batches)
    machines = processes // MACHINE
    around = (processes - 1) / processes * entries
    training = (2 * 2 + 4) * around  # two gatherings in bfloat16, one scattering of float32 sums
    flat = total(sent_when_sharded, batches, processes)
    flat_time = flat / (NVLINK if machines == 1 else NETWORK)
    inside = 4 * sum(
        sent_when_sharded(within_a_machine(stack, machines), MACHINE) for stack in batches
    )
    hybrid = total(sent_when_hybrid, batches, machines, MACHINE)
    hybrid_time = inside / NVLINK + (hybrid - inside) / NETWORK
    work = sum(flops(stack, processes) for stack in batches) / BFLOAT16
    state = 12 * entries / processes
    cells = [
        f"{model.name} ({entries / 1e9:.2f}·10⁹)",
        f"{processes:,}",
        size(state),
        size(4 * largest_share(batches, processes)),
        size(training),
        size(flat),
        seconds(flat_time),
        size(hybrid),
        seconds(hybrid_time),
        seconds(work),
    ]
    return "| " + " | ".join(cells) + " |"


def size(amount: float) -> str:
    return f"{amount / 1e9:.2f} GB" if amount >= 1e9 else f"{amount / 1e6:.0f} MB"


def seconds(time: float) -> str:
    return f"{time:.2f} s" if time >= 1 else f"{1000 * time:.1f} ms"


def table() -> str:
    head = [
        "weights",
        "GPUs",
        "weights, gradients, momentum",
        "largest share",
        "`fully_shard` sends for the passes",
        "for `dualize`",
        "time",
        "HSDP for `dualize`",
        "time",
        "orthogonalisation",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += [row(model, processes) for model in MODELS for processes in (8, 64, 1024)]
    shapes = "; ".join(f"{model.name}: {model.build()!r}" for model in MODELS)
    return "\n".join([*lines, "", shapes + "."])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--write", type=Path, help="write the table into this page, between its marks"
    )
    options = parser.parse_args()
    projected = table()
    print(projected)
    if options.write:
        write_between(options.write, "projection", projected)


if __name__ == "__main__":
    main()
