"""Measure what a step of the optimizer takes under each rule, over the default rule and over Muon.

    python -m benchmarks.rule_times
    python -m benchmarks.rule_times --width 256 --blocks 2

Takes steps of a GPT on random gradients, the rules in turn, and counts the processor's time of one
thread, which other programs on the machine disturb less than they do the clock.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from modula import GPT, SteepestDescent
from modula.optim import (
    AsDirection,
    Cautious,
    Dualized,
    KeepFrobenius,
    Normalized,
    Rule,
    SecondMoments,
    Steepest,
    Whitened,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "experiments"))
from trials import table

RULES: dict[str, Rule] = {
    "the default": Dualized(),
    "SecondMoments of rows": SecondMoments(),
    "rows, KeepFrobenius": SecondMoments(rescaling=KeepFrobenius()),
    "Cautious": Cautious(),
    "Steepest": Steepest(),
    "Whitened": Dualized(Whitened()),
    "Whitened, normalized": Normalized(AsDirection(Whitened())),
}
MUON = "torch.optim.Muon"


def main(given: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=128, help="(default %(default)s)")
    parser.add_argument("--heads", type=int, default=4, help="(default %(default)s)")
    parser.add_argument("--blocks", type=int, default=4, help="(default %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=20, help="steps that count (default %(default)s)"
    )
    options = parser.parse_args(given)

    torch.set_num_threads(1)
    optimizers = {name: optimizer_of(rule, options) for name, rule in RULES.items()}
    optimizers[MUON] = muon(options)
    means = measure(optimizers, options.rounds)
    print(
        table(
            ["rule", "ms a step", "over the default", "over Muon"],
            [
                [name, f"{1e3 * t:.1f}", *[f"{t / means[k]:.2f}" for k in ("the default", MUON)]]
                for name, t in means.items()
            ],
        )
    )
    print(
        f"\nGPT: width {options.width}, heads {options.heads}, blocks {options.blocks}; means of "
        f"{options.rounds} steps, one thread, {torch.__version__}"
    )
    return means


def network(options: argparse.Namespace) -> GPT:
    torch.manual_seed(0)
    model = GPT(96, d_embed=options.width, num_heads=options.heads, num_blocks=options.blocks)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    return model


def optimizer_of(rule: Rule, options: argparse.Namespace) -> torch.optim.Optimizer:
    return SteepestDescent(network(options), 0.01, rule=rule)


def muon(options: argparse.Namespace) -> torch.optim.Optimizer:
    """Muon of the matrices between the tables, which are not orthogonalised."""
    matrices = [p for p in list(network(options).parameters())[1:] if p.dim() == 2]
    return torch.optim.Muon(matrices, 0.01)


def measure(optimizers: dict[str, torch.optim.Optimizer], rounds: int) -> dict[str, float]:
    """Return the mean seconds of a step of each, the rounds of all in turn.

    The mean, since one step in ten finds bases.
    """
    seconds: dict[str, list[float]] = {name: [] for name in optimizers}
    # The first twelve rounds, which find most bases, do not count.
    for k in tqdm(range(-12, rounds), unit="round", leave=False):
        for name, optimizer in optimizers.items():
            start = time.process_time()
            optimizer.step()
            if k >= 0:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.fmean(times) for name, times in seconds.items()}


if __name__ == "__main__":
    main()
