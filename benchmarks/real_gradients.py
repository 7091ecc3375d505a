"""The error and the time of every method on gradients that are recorded from training.

    python -m benchmarks.real_gradients
    python -m benchmarks.real_gradients --write docs/results/engine.md

Trains the GPT of examples/train_gpt.py on the source of Python's standard library, records the
gradients of its matrices and their momentum with Nesterov's look-ahead. With --file it keeps both,
and takes them from there the next time.

The table gives, for each method, the mean of |uᵢᵀ O vᵢ − 1| over the singular values above a
thousandth of the largest, and the median time for all matrices over that of torch.optim.Muon's
iteration.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from benchmarks.docs_tables import write_between
from benchmarks.orthogonalize import (
    Contender,
    Work,
    contenders,
    decompositions,
    errors,
    joined,
    machine,
    seconds,
)
from modula import GPT, Gradient
from modula.polar import PolarExpress
from modula.polar.formats import low_precision
from modula.polar.method import SMALL_ROWS

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from text import load, shuffled

MOMENTUM = 0.85
LEARNING_RATE = 0.1
GRADIENT, LOOK_AHEAD = "gradient", "look-ahead"


def record(steps: list[int], options: argparse.Namespace) -> dict[str, list[Tensor]]:
    """Train, and return the matrices of each recorded step, named "step, kind"."""
    torch.manual_seed(0)
    corpus = load(options.data)
    model = GPT(corpus.size, d_embed=options.width, num_heads=4, num_blocks=options.blocks)
    average = Gradient({name: torch.zeros_like(weight) for name, weight in model.weights.items()})
    found: dict[str, list[Tensor]] = {}
    for step in tqdm(range(max(steps) + 1), desc="recording", leave=False):
        x, y = shuffled(corpus.train, options.batch, options.context, step, 0)
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        grad = model.gradient(loss)
        average += grad
        average *= MOMENTUM
        look_ahead = grad + average
        if step in steps:
            for kind, values in ((GRADIENT, grad), (LOOK_AHEAD, look_ahead)):
                found[f"{step}, {kind}"] = [
                    value.clone() for value in values.tensors if min(value.shape) >= SMALL_ROWS
                ]
        model.weights -= model.dualize(look_ahead, target_norm=LEARNING_RATE)
    return found


def recorded_or_read(options: argparse.Namespace) -> dict[str, list[Tensor]]:
    if options.file and options.file.exists():
        kept: dict[str, list[Tensor]] = torch.load(options.file, weights_only=True)
        return kept
    found = record(options.steps, options)
    if options.file:
        options.file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(found, options.file)
    return found


def in_batches(matrices: list[Tensor]) -> Work:
    """Stack the matrices of each shape."""
    by_shape: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
    for matrix in matrices:
        by_shape[matrix.shape].append(matrix)
    return [torch.stack(group) for group in by_shape.values()]


def one_by_one(work: Work) -> Work:
    """Return every matrix as a batch of its own, so that `errors` counts them all."""
    return [matrix[None] for batch in work for matrix in batch]


def methods(device: torch.device) -> list[Contender]:
    """Return the contenders of `benchmarks.orthogonalize`, and the default with other steps."""
    low = low_precision(device) or torch.float32
    found = [contender for contender in contenders(device) if contender.quick]
    return found + [
        Contender(f"modula, {steps} steps", joined(PolarExpress(steps=steps)), low)
        for steps in (3, 5, 6)
    ]


def table(works: dict[str, Work], rounds: int, device: torch.device) -> str:
    runners = methods(device)
    bases = {name: decompositions(one_by_one(work)) for name, work in works.items()}
    found: dict[str, list[float]] = {}
    for contender in tqdm(runners, desc="errors", leave=False):
        found[contender.name] = [
            errors(one_by_one(contender.run(work)), bases[name]).mean().item()
            for name, work in works.items()
        ]
    last = list(works.values())[-1]
    times: dict[str, list[float]] = {contender.name: [] for contender in runners}
    for _ in tqdm(range(rounds), desc="times", leave=False):
        for contender in runners:
            times[contender.name].append(seconds(lambda run=contender.run: run(last), device))  # type: ignore[misc]  # a default binds early
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    header = ["", *works, "time over Muon's"]
    rows = [
        [name, *(f"{error:.4f}" for error in row), f"{medians[name] / medians[MUON]:.2f}"]
        for name, row in found.items()
    ]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


MUON = "torch.optim.Muon"


def parse(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--steps",
        nargs="+",
        type=int,
        default=[0, 50, 200],
        help="steps of training that are recorded (default 0 50 200)",
    )
    parser.add_argument(
        "--data",
        default="stdlib",
        help='"stdlib", "shakespeare" or a UTF-8 file (default %(default)s)',
    )
    sizes = {"width": 128, "blocks": 4, "batch": 12, "context": 64}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="default %(default)s")
    parser.add_argument("--device", default="cpu", type=torch.device, help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=9, help="default %(default)s")
    parser.add_argument(
        "--file",
        type=Path,
        help="where the recorded matrices are kept (default: nowhere)",
    )
    parser.add_argument(
        "--write", type=Path, help="write the table into this page, between its marks"
    )
    return parser.parse_args()


def main() -> None:
    options = parse(__doc__)
    recorded = recorded_or_read(options)
    works = {
        name: [batch.to(options.device) for batch in in_batches(matrices)]
        for name, matrices in recorded.items()
    }
    lines = f"{machine(options.device)}.\n\n{table(works, options.rounds, options.device)}"
    print(lines)
    if options.write:
        write_between(options.write, "real_gradients", lines)


if __name__ == "__main__":
    main()
