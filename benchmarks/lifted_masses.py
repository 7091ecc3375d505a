"""Train a recurrent network and a mixture of experts, lifted with several masses, and by AdamW.

    python -m benchmarks.lifted_masses --write docs/guides/lifting.md

The default masses were found on a GPT (`python -m benchmarks.nanogpt --choose`). Here others train
with them, and with the masses of their matrices halved and doubled: a network of `nn.LSTM`, and
Mixtral of transformers, whose experts are one tensor. Each training runs at all of its rates with
one seed, and at the best of them with the others. Runs are stored in --out as they end, and are not
repeated. Prints the table.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.docs_tables import write_between
from benchmarks.nanogpt import evaluate, one_step, schedule
from benchmarks.tiny_shakespeare import ROOT
from modula import SteepestDescent, lift

sys.path.insert(0, str(ROOT / "examples"))
sys.path.insert(0, str(ROOT / "examples" / "experiments"))
import text
from trials import Bar, Runs, finite, mean, wrapped

WIDTH = 64
MOMENTUM = 0.9
WARMUP = 0.1
"""The fraction of the steps in which the rate of AdamW rises."""


@dataclass(frozen=True)
class Training:
    """A way to train.

    Args:
        name: in the table.
        rates: on which it runs.
        factor: of the default masses of matrices; None trains by AdamW.
    """

    name: str
    rates: tuple[float, ...]
    factor: float | None


LIFTED = (0.05, 0.1, 0.2, 0.4, 0.8)
TRAININGS = {
    "default": Training("lifted, the default masses", LIFTED, 1.0),
    "half": Training("lifted, matrices half of that", LIFTED, 0.5),
    "double": Training("lifted, matrices twice that", LIFTED, 2.0),
    "adamw": Training("torch.optim.AdamW", (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2, 0.128), None),
}


class Recurrent(nn.Module):
    """A table, two layers of `nn.LSTM` and a head."""

    masses: Mapping[str, float] = {"matrix": 5.0}

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.layers = nn.LSTM(WIDTH, WIDTH, num_layers=2, batch_first=True)
        self.head = nn.Linear(WIDTH, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(self.tokens(ids))[0])
        return logits


class Mixture(nn.Module):
    """Mixtral with two blocks, each with four experts of which a token takes two."""

    masses: Mapping[str, float] = {"attention": 3.0, "matrix": 2.0}

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        from transformers import MixtralConfig, MixtralForCausalLM

        config = MixtralConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_local_experts=4,
            use_cache=False,
        )
        self.model = MixtralForCausalLM(config)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.model(ids).logits
        return logits


NETWORKS: Mapping[str, Callable[[int], Recurrent | Mixture]] = {
    "nn.LSTM": Recurrent,
    "Mixtral": Mixture,
}


@dataclass(frozen=True)
class Trial:
    """One run."""

    network: str
    training: str
    lr: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The validation loss at the end of a run, None if it diverged."""

    loss: float | None


def train(trial: Trial, corpus: text.Corpus, options: argparse.Namespace) -> Outcome:
    torch.manual_seed(trial.seed)
    model = NETWORKS[trial.network](corpus.size)
    factor = TRAININGS[trial.training].factor
    optimizer: torch.optim.Optimizer | None = None
    for step in range(options.steps):
        x, y = text.shuffled(corpus.train, options.batch, options.context, step, trial.seed)
        optimizer = optimizer or made(model, x, factor, trial.lr)
        decay = schedule(step, options.steps, WARMUP if factor is None else 0.0)
        if not math.isfinite(one_step(model, [optimizer], x, y, decay)):
            return Outcome(None)
    return Outcome(finite(evaluate(model, corpus.validation, options.context)))


def made(
    model: Recurrent | Mixture, example: Tensor, factor: float | None, lr: float
) -> torch.optim.Optimizer:
    """Return AdamW, or steepest descent with the default masses of matrices times `factor`."""
    if factor is None:
        return torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.99), weight_decay=0.1)
    masses = {group: factor * mass for group, mass in model.masses.items()}
    net = lift(model, example, masses=None if factor == 1 else masses)
    return SteepestDescent(net, lr, MOMENTUM)


def search(runs: Runs[Trial, Outcome], corpus: text.Corpus, options: argparse.Namespace) -> None:
    """Run everything at all rates with the first seed, then at the best with the others."""
    rows = [(network, training) for network in NETWORKS for training in TRAININGS]
    expected = [
        Trial(*row, lr, seed)
        for row in rows
        for rates in [TRAININGS[row[1]].rates]
        for lr, seed in [
            *[(lr, 0) for lr in rates],
            *[(rates[0], seed) for seed in range(1, options.seeds)],
        ]
    ]
    with Bar(lambda trial: 1.0, expected, runs.results) as bar:
        for row in rows:
            first = [Trial(*row, lr, 0) for lr in TRAININGS[row[1]].rates]
            runs.make(first, lambda trial: train(trial, corpus, options), bar)
            lr = best_rate(runs.results, row)
            others = [Trial(*row, lr, seed) for seed in range(options.seeds)]
            runs.make(others, lambda trial: train(trial, corpus, options), bar)


def best_rate(results: Mapping[Trial, Outcome], row: tuple[str, str]) -> float:
    """Return the rate with the lowest loss of the first seed."""
    rates = TRAININGS[row[1]].rates
    return min(rates, key=lambda lr: mean([results[Trial(*row, lr, 0)].loss]))


def table(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> str:
    """Return the table, with the conditions of the runs."""
    lines = [
        "| network | training | rates | best rate | validation loss |",
        "|---|---|---|---|---|",
    ]
    for network in NETWORKS:
        for name, training in TRAININGS.items():
            lr = best_rate(runs.results, (network, name))
            found = [
                runs.results[Trial(network, name, lr, seed)].loss for seed in range(options.seeds)
            ]
            known = [loss for loss in found if loss is not None]
            spread = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
            tried = ", ".join(f"{rate:g}" for rate in training.rates)
            lines.append(
                f"| {network} | {training.name} | {tried} | {lr:g} | {mean(found):.3f}{spread} |"
            )
    conditions = (
        f"Width {WIDTH}, context {options.context}, batch {options.batch}, {options.steps:,} "
        f"steps, {options.seeds} seeds at the best rate of the first; nats a character. The rates "
        "fall to zero in a line, AdamW's after a rise in the first tenth."
    )
    return "\n".join([*lines, "", wrapped(conditions)])


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="shakespeare",
        help='"stdlib", "shakespeare" or a UTF-8 file (default %(default)s)',
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="runs at the best rate (default %(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=300, help="training steps (default %(default)s)"
    )
    parser.add_argument(
        "--batch", type=int, default=8, help="windows of text per step (default %(default)s)"
    )
    parser.add_argument(
        "--context", type=int, default=32, help="characters per window (default %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "runs" / "lifted_masses",
        help="folder of the numbers (default %(default)s)",
    )
    parser.add_argument("--fresh", action="store_true", help="discard the runs in --out")
    parser.add_argument(
        "--write", type=Path, help="write the table into this page, between its marks"
    )
    options = parser.parse_args(given)
    keys = ("steps", "batch", "context", "data")
    settings: dict[str, object] = {key: getattr(options, key) for key in keys}
    file = options.out / "lifted_masses.json"
    runs = Runs(file, Trial, Outcome, settings, fresh=options.fresh)
    search(runs, text.load(options.data), options)
    written = table(runs, options)
    print(written)
    if options.write:
        write_between(options.write, "lifted_masses", written)


if __name__ == "__main__":
    main()
