"""Compare the norms of attention's heads: one matrix that is split, or one matrix for each head.

    python -m benchmarks.heads --data FILE
    python -m benchmarks.heads --data FILE --write docs/guides/attention.md

Trains a small GPT on text with either projection, at several learning rates and seeds, and prints
the validation loss at the best rate of each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from benchmarks.docs_tables import write_between
from modula import GPT, Gradient, HeadLinear

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))

from text import load, shuffled, windows  # noqa: E402 # the examples are scripts, not a package

PROJECTIONS = {"one matrix, split into heads": None, "one matrix a head": HeadLinear}
BATCH = 12
CONTEXT = 64
MOMENTUM = 0.85


def trained(
    data: str, projection: str, lr: float, seed: int, steps: int, width: int, blocks: int
) -> float:
    """Return the validation loss of one run, in nats a character."""
    torch.manual_seed(seed)
    corpus = load(data)
    model = GPT(
        corpus.size,
        d_embed=width,
        num_heads=4,
        num_blocks=blocks,
        projection=PROJECTIONS[projection],
    )
    momentum = Gradient({name: torch.zeros_like(w) for name, w in model.weights.items()})
    for step in range(steps):
        x, y = shuffled(corpus.train, BATCH, CONTEXT, step, seed)
        grad = model.gradient(F.cross_entropy(model(x).flatten(0, 1), y.flatten()))
        momentum += grad
        momentum *= MOMENTUM
        grad += momentum
        model.weights -= model.dualize(grad, target_norm=lr * (1 - step / steps))
    return loss_on(model, corpus.validation)


@torch.no_grad()
def loss_on(model: GPT, ids: Tensor) -> float:
    x, y = windows(ids, CONTEXT)
    pieces = zip(torch.split(x, 256), torch.split(y, 256), strict=True)
    total = sum(
        F.cross_entropy(model(a).flatten(0, 1), b.flatten(), reduction="sum").item()
        for a, b in pieces
    )
    return total / x.numel()


def row(name: str, losses: dict[float, list[float]]) -> str:
    """Return the line of one projection: its best rate, and mean and spread over the seeds."""
    best = min(losses, key=lambda lr: statistics.mean(losses[lr]))
    found = losses[best]
    return f"| {name} | {best:g} | {statistics.mean(found):.3f} | {max(found) - min(found):.3f} |"


def table(options: argparse.Namespace) -> str:
    out: Path | None = options.out
    done: dict[str, float] = json.loads(out.read_text()) if out and out.exists() else {}
    sizes = (options.steps, options.width, options.blocks)
    losses: dict[str, dict[float, list[float]]] = {name: {} for name in PROJECTIONS}
    trials = list(product(PROJECTIONS, range(options.seeds), options.rates))
    for name, seed, lr in tqdm(trials, unit="run", leave=False):
        key = f"{name}, {lr:g}, {seed}, {options.steps}, {options.width}, {options.blocks}"
        if key not in done:
            done[key] = trained(options.data, name, lr, seed, *sizes)
            if out:
                out.write_text(json.dumps(done, indent=1) + "\n")
        losses[name].setdefault(lr, []).append(done[key])
    lines = [row(name, found) for name, found in losses.items()]
    rates = ", ".join(f"{lr:g}" for lr in options.rates)
    return "\n".join(
        [
            "| queries, keys and values | learning rate | validation loss | spread over seeds |",
            "|---|---|---|---|",
            *lines,
            "",
            f"Tiny Shakespeare, {options.blocks} blocks, width {options.width}, 4 heads, "
            f"{options.steps} steps;",
            f"the best of the rates {rates}; seeds: {options.seeds}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="shakespeare", help="a text (default %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=600, help="training steps (default %(default)s)"
    )
    parser.add_argument(
        "--width", type=int, default=64, help="number of features (default %(default)s)"
    )
    parser.add_argument(
        "--blocks", type=int, default=2, help="number of blocks (default %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (default %(default)s)")
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=[0.07, 0.14, 0.28],
        help="learning rates to try (default %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, help="a JSON file of the losses of all runs, which are not repeated"
    )
    parser.add_argument(
        "--write", type=Path, help="write the table into this page, between its marks"
    )
    options = parser.parse_args()
    written = table(options)
    print(written)
    if options.write:
        write_between(options.write, "heads", written)


if __name__ == "__main__":
    main()
