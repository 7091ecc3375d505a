"""Compare lifted training of a ResNet and a ViT with AdamW and with SGD.

    python examples/experiments/lifted_vision.py            # continues where it was stopped
    python examples/experiments/lifted_vision.py --quick    # minutes

Trains the models of `examples/train_vision.py` on Fashion-MNIST by each optimizer at five rates
with one seed, and at the best of them with the others. Leaves lifted_vision.json and
lifted_vision.png in --out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))  # for train_vision

import train_vision
from trials import Bar, Runs, arguments, band, canvas, publish, table

MODELS = ("resnet", "vit")
NAMES = {
    "lifted": "`modula.lift`, SteepestDescent",
    "adamw": "torch.optim.AdamW",
    "sgd": "torch.optim.SGD, momentum 0.9",
}
RATES = {
    ("resnet", "lifted"): (0.2, 0.4, 0.8, 1.6, 3.2),
    ("resnet", "adamw"): (5e-4, 1e-3, 2e-3, 4e-3, 8e-3),
    ("resnet", "sgd"): (0.00625, 0.0125, 0.025, 0.05, 0.1),
    ("vit", "lifted"): (0.025, 0.05, 0.1, 0.2, 0.4),
    ("vit", "adamw"): (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2),
    ("vit", "sgd"): (0.0125, 0.025, 0.05, 0.1, 0.2),
}


@dataclass(frozen=True)
class Trial:
    """One run."""

    model: str
    optimizer: str
    lr: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The accuracy on the test images."""

    accuracy: float


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = arguments(__doc__, seeds=3)
    train_vision.add_task(parser)
    parser.set_defaults(images=4000, test=2000, steps=120)
    parser.add_argument(
        "--models",
        nargs="+",
        choices=MODELS,
        default=MODELS,
        help="which models to train (default %(default)s)",
    )
    options = parser.parse_args(given)
    if options.quick:
        options.steps, options.images, options.test = 30, 1000, 500
    return options


def main(given: Sequence[str] | None = None) -> Runs[Trial, Outcome]:
    options = parse(given)
    keys = ("images", "test", "steps", "batch", "width", "size")
    settings = {key: getattr(options, key) for key in keys}
    runs = Runs(options.out / "lifted_vision.json", Trial, Outcome, settings, fresh=options.fresh)
    tasks = {model: train_vision.task(model, options) for model in options.models}
    grid = {key: rates for key, rates in RATES.items() if key[0] in options.models}

    def run(trial: Trial) -> Outcome:
        one = argparse.Namespace(**{**vars(options), "seed": trial.seed})
        task = tasks[trial.model]
        return Outcome(train_vision.train(task, trial.optimizer, trial.lr, one, show=False))

    expected = [
        Trial(model, optimizer, lr, seed)
        for (model, optimizer), rates in grid.items()
        for lr, seed in [
            *[(lr, 0) for lr in rates],
            *[(rates[0], seed) for seed in range(1, options.seeds)],
        ]
    ]
    with Bar(lambda trial: 1.0, expected, runs.results) as bar:
        for (model, optimizer), rates in grid.items():
            runs.make([Trial(model, optimizer, lr, 0) for lr in rates], run, bar)
            lr = best_rate(runs, model, optimizer)
            seeds = [Trial(model, optimizer, lr, seed) for seed in range(options.seeds)]
            runs.make(seeds, run, bar)
    publish("lifted_vision", plot(runs, options), summary(runs, options), options.out)
    return runs


def best_rate(runs: Runs[Trial, Outcome], model: str, optimizer: str) -> float:
    def accuracy(lr: float) -> float:
        return runs.results[Trial(model, optimizer, lr, 0)].accuracy

    return max(RATES[model, optimizer], key=accuracy)


def summary(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> str:
    rows = []
    for model, optimizer in RATES:
        if model not in options.models:
            continue
        lr = best_rate(runs, model, optimizer)
        found = sorted(
            runs.results[Trial(model, optimizer, lr, seed)].accuracy
            for seed in range(options.seeds)
        )
        mean = sum(found) / len(found)
        rows.append(
            [
                model,
                NAMES[optimizer],
                f"{lr:g}",
                f"{mean:.1%} ({found[0]:.1%} to {found[-1]:.1%})",
            ]
        )
    header = ["model", "training", "best rate", "test accuracy"]
    return (
        f"{table(header, rows)}\n\nFashion-MNIST, {options.images:,} images to train on and "
        f"{options.test:,} to test on; {options.steps} steps of {options.batch} images; "
        f"{options.seeds} seeds at the best of five rates with the first."
    )


def plot(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> Figure:
    figure, (axes,) = canvas(1, len(options.models), (4.0, 3.2), sharey=True)
    for model, place in zip(options.models, axes, strict=True):
        for optimizer, name in NAMES.items():
            curve = {
                lr: [runs.results[Trial(model, optimizer, lr, 0)].accuracy]
                for lr in RATES[model, optimizer]
            }
            band(place, curve, None, name.replace("`", ""))
        place.set_xscale("log")
        place.set(title=model, xlabel="learning rate")
    axes[0].set_ylabel("test accuracy")
    axes[0].legend(fontsize="small")
    return figure


if __name__ == "__main__":
    main()
