"""Compare masses of the blocks of residual networks, and Muon's results beside them.

    python examples/experiments/block_mass.py            # half an hour
    python examples/experiments/block_mass.py --quick    # a minute

Trains residual networks of several depths by modula, with the masses of all blocks together at 1 to
16 times the mass of the first or the last layer, each at the best of a grid of rates. Muon trains
the ResMLP beside them. Leaves block_mass.json and block_mass.png in --out.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # for text and digits
sys.path.insert(0, str(Path(__file__).parents[1] / "families"))  # for images

import digits
import images
import text
from systems import optimizers, step
from trials import Bar, Runs, arguments, canvas, finite, mean, powers, publish, table

from modula import GELU, GPT, AnyModule, ResCNN, ResMLP

MASSES = (1.0, 2.0, 4.0, 8.0, 16.0)
MUON_RATES = powers(2**-3.5, 2**-1.5, math.sqrt(2.0))
NOISE = 0.3
"""The fraction of an image's labels that are drawn anew in every batch, so that the loss has a
lower bound above zero, as that of text has."""


class Task(ABC):
    """Networks of one kind, at any depth, and their data."""

    title: ClassVar[str]
    depths: ClassVar[tuple[int, ...]]
    rates: ClassVar[list[float]] = powers(2**-2, 2**-0.5, math.sqrt(2.0))
    with_muon: ClassVar[bool] = False

    @abstractmethod
    def build(self, depth: int, mass: float) -> AnyModule:
        """Return a fresh network whose blocks have `mass` together, and the ends 1 each."""

    @abstractmethod
    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return inputs and classes."""

    @abstractmethod
    def held_out(self) -> tuple[Tensor, Tensor]:
        """Return the data of the loss at the end."""

    def noise(self) -> float:
        """Return the fraction of random labels that the loss at the end expects."""
        return NOISE


class DigitsMLP(Task):
    """ResMLPs of two layers a block, on handwritten digits."""

    title = "ResMLP, digits"
    depths: ClassVar[tuple[int, ...]] = (2, 4, 8, 16)
    with_muon = True

    def __init__(self) -> None:
        self.images, self.labels, _, _ = digits.load()

    def build(self, depth: int, mass: float) -> AnyModule:
        return ResMLP(10, 64, width=64, num_blocks=depth, block_mass=mass)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(self.images), (128,), generator=generator)
        labels = digits.noisy(self.labels[chosen], NOISE, generator)
        return self.images[chosen].flatten(1), labels

    def held_out(self) -> tuple[Tensor, Tensor]:
        return self.images.flatten(1), self.labels


class DigitsCNN(DigitsMLP):
    """Residual convolutional networks, on the same digits."""

    title = "ResCNN, digits"
    depths = (2, 6)
    rates = powers(2**-1, 2**0.5, math.sqrt(2.0))
    with_muon = False

    def build(self, depth: int, mass: float) -> AnyModule:
        return ResCNN(10, 1, width=16, num_blocks=depth, block_mass=mass)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        pixels, labels = super().batch(generator)
        return pixels.view(-1, 1, 8, 8), labels

    def held_out(self) -> tuple[Tensor, Tensor]:
        return self.images.view(-1, 1, 8, 8), self.labels


class FashionMLP(Task):
    """ResMLPs of another activation and depth of blocks, on pictures of clothes."""

    title = "ResMLP of GELU and one layer a block, Fashion-MNIST"
    depths = (3, 12)
    rates = powers(2**-1, 2**0.5, math.sqrt(2.0))
    with_muon = True

    def __init__(self) -> None:
        self.train, self.test = images.load(images.FASHION_MNIST)

    def build(self, depth: int, mass: float) -> AnyModule:
        return ResMLP(
            10,
            784,
            width=48,
            num_blocks=depth,
            block_depth=1,
            block_mass=mass,
            activation=GELU(),
        )

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        pixels, labels = self.train.batch(128, generator)
        return pixels.flatten(1), digits.noisy(labels, NOISE, generator)

    def held_out(self) -> tuple[Tensor, Tensor]:
        return self.test.images.flatten(1), self.test.labels


class TextGPT(Task):
    """GPTs, of whose blocks attention has 2/5 of the mass."""

    title = "GPT, source of the standard library"
    depths = (2, 6)

    def __init__(self) -> None:
        self.corpus = text.load("stdlib")

    def build(self, depth: int, mass: float) -> AnyModule:
        return GPT(
            len(self.corpus.characters),
            d_embed=48,
            num_heads=4,
            num_blocks=depth,
            attention_mass=0.4 * mass,
            mlp_mass=0.6 * mass,
        )

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return text.batch(self.corpus.train, 8, 32, generator)

    def held_out(self) -> tuple[Tensor, Tensor]:
        x, y = text.windows(self.corpus.validation, 32)
        some = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:256]
        return x[some], y[some]

    def noise(self) -> float:
        return 0.0


TASKS: dict[str, type[Task]] = {
    "resmlp": DigitsMLP,
    "rescnn": DigitsCNN,
    "fashion": FashionMLP,
    "gpt": TextGPT,
}
FOUND_ON = "resmlp"
"""The task on which the default was chosen; the others test it."""


@dataclass(frozen=True)
class Trial:
    """One run; Muon does not ask for the mass, which is 1."""

    task: str
    system: str
    depth: int
    mass: float
    lr: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The loss at the end of a run, None if it diverged."""

    loss: float | None


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = arguments(__doc__, seeds=2)
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=list(TASKS),
        help=f"which networks to train; by default {' '.join(TASKS)}, with --quick {FOUND_ON}",
    )
    parser.add_argument("--steps", type=int, help="of each run; by default 100, with --quick 20")
    options = parser.parse_args(given)
    options.tasks = options.tasks or ([FOUND_ON] if options.quick else list(TASKS))
    options.steps = options.steps or (20 if options.quick else 100)
    options.masses = (1.0, 8.0) if options.quick else MASSES
    return options


def main(given: Sequence[str] | None = None) -> Runs[Trial, Outcome]:
    options = parse(given)
    runs = Runs(
        options.out / "block_mass.json",
        Trial,
        Outcome,
        {"steps": options.steps},
        fresh=options.fresh,
    )
    trials = {name: trials_of(name, options) for name in options.tasks}
    expected = [trial for some in trials.values() for trial in some]
    with Bar(lambda trial: trial.depth + 2, expected, made=runs.results) as bar:
        for name, some in trials.items():
            task = TASKS[name]()
            runs.make(some, functools.partial(train, task=task, steps=options.steps), bar)
    publish("block_mass", plot(runs, options), summary(runs, options), options.out)
    return runs


def depths(name: str, options: argparse.Namespace) -> tuple[int, ...]:
    return TASKS[name].depths[:2] if options.quick else TASKS[name].depths


def rates(name: str, system: str, options: argparse.Namespace) -> list[float]:
    every = MUON_RATES if system == "muon" else TASKS[name].rates
    return every[:2] if options.quick else every


def choices(name: str, options: argparse.Namespace) -> list[tuple[str, float]]:
    """Return the systems and masses of a task."""
    muon = [("muon", 1.0)] if TASKS[name].with_muon else []
    return [*[("dualize", mass) for mass in options.masses], *muon]


def trials_of(name: str, options: argparse.Namespace) -> list[Trial]:
    return [
        Trial(name, system, depth, mass, lr, seed)
        for depth in depths(name, options)
        for system, mass in choices(name, options)
        for lr in rates(name, system, options)
        for seed in range(options.seeds)
    ]


def train(trial: Trial, task: Task, steps: int) -> Outcome:
    """Train one network, at a rate that falls linearly to zero."""
    torch.manual_seed(trial.seed)
    generator = torch.Generator().manual_seed(trial.seed)
    model = task.build(trial.depth, trial.mass)
    chosen = optimizers(trial.system, model, trial.lr)
    for k in range(steps):
        loss = loss_of(model, *task.batch(generator))
        if not math.isfinite(loss.item()):
            return Outcome(None)
        step(chosen, loss, decay=1 - k / steps)
    with torch.no_grad():
        return Outcome(finite(loss_of(model, *task.held_out(), noise=task.noise()).item()))


def loss_of(model: AnyModule, x: Tensor, y: Tensor, noise: float = 0.0) -> Tensor:
    """Return the expected loss where a fraction of the labels is replaced by random ones."""
    return F.cross_entropy(model.torch_module(x).flatten(0, -2), y.flatten(), label_smoothing=noise)


def best(
    runs: Runs[Trial, Outcome],
    name: str,
    system: str,
    depth: int,
    mass: float,
    options: argparse.Namespace,
) -> tuple[float, list[float | None]]:
    """Return the best rate, and the losses of all seeds at it."""
    curve = {
        lr: [
            runs.results[Trial(name, system, depth, mass, lr, seed)].loss
            for seed in range(options.seeds)
        ]
        for lr in rates(name, system, options)
    }
    lr = min(curve, key=lambda rate: mean(curve[rate]))
    return lr, curve[lr]


def summary(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> str:
    rows = []
    for name in options.tasks:
        for depth in depths(name, options):
            found = {
                (system, mass): best(runs, name, system, depth, mass, options)
                for system, mass in choices(name, options)
            }
            cells = [
                f"{mean(losses):.3f} ({lr:.3g})"
                for lr, losses in (found["dualize", mass] for mass in options.masses)
            ]
            muon = "–"
            if TASKS[name].with_muon:
                lr, losses = found["muon", 1.0]
                muon = f"{mean(losses):.3f} ({lr:.3g})"
            spread = max(
                max(done) - min(done)
                for _, losses in found.values()
                for done in [[loss for loss in losses if loss is not None] or [math.nan]]
            )
            rows.append([TASKS[name].title, depth, *cells, muon, f"{spread:.3f}"])
    header = [
        "network, data",
        "blocks",
        *[f"mass {mass:g}" for mass in options.masses],
        "Muon",
        "spread of seeds",
    ]
    return (
        f"{table(header, rows)}\n"
        "\n"
        f"Loss at the best rate, which stands in brackets; {options.seeds} seeds, "
        f"{options.steps} steps; the spread is the largest of the row. "
        "Muon's loss is dotted in the picture."
    )


def plot(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> Figure:
    figure, axes = canvas(1, len(options.tasks), (4.0, 3.4))
    for panel, name in zip(axes[0], options.tasks, strict=True):
        for i, depth in enumerate(depths(name, options)):
            losses = [
                mean(best(runs, name, "dualize", depth, mass, options)[1])
                for mass in options.masses
            ]
            panel.plot(options.masses, losses, marker=".", color=f"C{i}", label=f"{depth} blocks")
            if TASKS[name].with_muon:
                level = mean(best(runs, name, "muon", depth, 1.0, options)[1])
                panel.axhline(level, color=f"C{i}", linestyle=":", linewidth=1)
        panel.set_xscale("log", base=2)
        panel.set(xlabel="mass of all blocks", ylabel="loss")
        panel.set_title(TASKS[name].title, fontsize="small", wrap=True)
        panel.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    main()
