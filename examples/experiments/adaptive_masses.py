"""Measure whether masses that drift find good values while a network trains.

    python examples/experiments/adaptive_masses.py            # half an hour
    python examples/experiments/adaptive_masses.py --quick    # minutes

Trains a GPT on text from its own masses, and from masses of which one is far too small or far too
large, with masses that stay and with masses that drift (`SteepestDescent(adapt_masses=…)`) at
several rates. Leaves adaptive_masses.json and adaptive_masses.png in --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from gpt_on_text import add_options, loss_after_training, text
from matplotlib.figure import Figure
from trials import Bar, Runs, arguments, band, canvas, mean, publish, table

from modula import GPT, Attention, FeedForward, SteepestDescent

OWN = {"embedding": 1.0, "attention": 2.0, "MLP": 3.0, "head": 1.0}
STARTS = {
    "its own": OWN,
    "embedding 1/20": {**OWN, "embedding": 0.05},
    "attention 1/20": {**OWN, "attention": 0.1},
    "MLP 1/20": {**OWN, "MLP": 0.15},
    "head 1/20": {**OWN, "head": 0.05},
    "MLP × 10": {**OWN, "MLP": 30.0},
    "head × 10": {**OWN, "head": 10.0},
}
"""The masses at the beginning, before they are scaled to the total of the GPT's own."""

RATES = (0.0, 0.1, 0.3, 1.0)
SHOWN = 0.3
"""The rate whose masses at the end the table shows."""

TOTAL = sum(OWN.values())


@dataclass(frozen=True)
class Trial:
    """One run."""

    start: str
    rate: float
    """adapt_masses."""

    seed: int


@dataclass(frozen=True)
class Outcome:
    """The validation loss at the end, None if the run diverged; and the masses then."""

    loss: float | None
    masses: list[float]


def main(given: Sequence[str] | None = None) -> Runs[Trial, Outcome]:
    parser = arguments(__doc__, seeds=3)
    add_options(parser)
    parser.add_argument(
        "--width", type=int, default=64, help="number of features (default %(default)s)"
    )
    parser.add_argument(
        "--blocks", type=int, default=2, help="number of blocks (default %(default)s)"
    )
    parser.add_argument("--steps", type=int, help="by default 400, with --quick 60")
    parser.add_argument(
        "--lr",
        type=float,
        default=0.15,
        help="at the first step; falls to zero in a line (default %(default)s)",
    )
    options = parser.parse_args(given)
    options.steps = options.steps or (60 if options.quick else 400)

    settings = {
        key: getattr(options, key)
        for key in ("data", "width", "blocks", "steps", "batch", "context", "lr")
    }
    runs = Runs(options.out / "adaptive_masses.json", Trial, Outcome, settings, fresh=options.fresh)
    trials = [
        Trial(start, rate, seed)
        for start in STARTS
        for rate in RATES
        for seed in range(options.seeds)
    ]
    corpus = text.load(options.data)
    with Bar(lambda _: 1.0, trials, made=runs.results) as bar:
        runs.make(trials, lambda trial: train(trial, corpus, options), bar)
    publish("adaptive_masses", plot(runs, options), summary(runs, options), options.out)
    return runs


def paths(model: GPT) -> dict[str, list[str]]:
    """Return the paths of the four kinds of parts; the first and the last atom are two of them."""
    named = dict(model.named_modules())
    atoms = [name.removesuffix(".weight") for name, _ in model.named_parameters()]
    return {
        "embedding": [atoms[0]],
        "attention": [path for path, module in named.items() if isinstance(module, Attention)],
        "MLP": [path for path, module in named.items() if isinstance(module, FeedForward)],
        "head": [atoms[-1]],
    }


def by_kind(masses: dict[str, float], model: GPT) -> list[float]:
    """Return the masses of the four kinds of parts, from those of the atoms."""
    return [
        sum(
            mass
            for path, mass in masses.items()
            if any(path == part or path.startswith(f"{part}.") for part in parts)
        )
        for parts in paths(model).values()
    ]


def train(trial: Trial, corpus: text.Corpus, options: argparse.Namespace) -> Outcome:
    torch.manual_seed(trial.seed)
    model = GPT(corpus.size, d_embed=options.width, num_heads=4, num_blocks=options.blocks)
    for kind, parts in paths(model).items():
        for part in parts:
            model.tare(STARTS[trial.start][kind] / len(parts), part)
    model.tare(TOTAL)
    optimizer = SteepestDescent(model, options.lr, momentum=0.85, adapt_masses=trial.rate)
    loss = loss_after_training(model, [optimizer], corpus, options, seed=trial.seed, windows=512)
    return Outcome(loss, by_kind(optimizer.masses(), model))


def at(
    runs: Runs[Trial, Outcome], start: str, rate: float, options: argparse.Namespace
) -> list[Outcome]:
    return [runs.results[Trial(start, rate, seed)] for seed in range(options.seeds)]


def summary(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> str:
    rows = []
    for start in STARTS:
        losses = [
            f"{mean([one.loss for one in at(runs, start, rate, options)]):.3f}" for rate in RATES
        ]
        scale = TOTAL / sum(STARTS[start].values())
        first = ", ".join(f"{scale * mass:.2g}" for mass in STARTS[start].values())
        drifted = [one.masses for one in at(runs, start, SHOWN, options)]
        last = ", ".join(f"{mean(column):.2g}" for column in zip(*drifted, strict=True))
        rows.append([start, first, *losses, last])
    header = [
        "masses",
        "at the start",
        *[f"loss, rate {rate:g}" for rate in RATES],
        f"at the end, rate {SHOWN:g}",
    ]
    size = ", ".join(f"{key} {value}" for key, value in runs.settings.items())
    kinds = ", ".join(OWN)
    return (
        f"{table(header, rows)}\n"
        "\n"
        f"Masses of {kinds}, in this order. GPT: {size}; the mean of {options.seeds} seeds."
    )


def plot(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> Figure:
    figure, axes = canvas(1, 1, (7.0, 4.0))
    for i, start in enumerate(STARTS):
        curve = {
            float(k): [one.loss for one in at(runs, start, rate, options)]
            for k, rate in enumerate(RATES)
        }
        band(axes[0][0], curve, f"C{i}", start)
    axes[0][0].set(xlabel="adapt_masses", ylabel="validation loss")
    axes[0][0].set_xticks(range(len(RATES)), [f"{rate:g}" for rate in RATES])
    figure.legend(loc="outside right upper", title="masses at the start", fontsize="small")
    return figure


if __name__ == "__main__":
    main()
