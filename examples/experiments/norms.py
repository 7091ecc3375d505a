"""Compare steepest descent under different norms on the weights of one network.

    python examples/experiments/norms.py            # an hour
    python examples/experiments/norms.py --quick    # minutes

Trains a GPT on text with the embedding, the hidden matrices and the head measured in different
operator norms, each choice at the best of a grid of rates, from the same initial weights on the
same batches. Leaves norms.json and norms.png in --out.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from gpt_on_text import add_options, loss_after_training, text
from matplotlib.figure import Figure
from torch import Tensor
from trials import Bar, Runs, arguments, band, canvas, mean, powers, publish, table

from modula import GPT, L1, RMS, Atom, Linf, SteepestDescent
from modula.geometry import Geometry, Vectors, operator_geometry
from modula.polar import MethodLike

RATES = powers(2**-7, 2**2)


@dataclass(frozen=True)
class Scaled(Geometry):
    """A geometry whose unit ball is `unit` times as large as another's."""

    inner: Geometry
    unit: float
    axes = 2

    def norm(self, weight: Tensor) -> Tensor:
        return self.inner.norm(weight) / self.unit

    def dual_norm(self, gradient: Tensor) -> Tensor:
        return self.inner.dual_norm(gradient) * self.unit

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        return self.inner.dualize(gradient, method) * self.unit

    def project(self, weight: Tensor) -> Tensor:
        return self.inner.project(weight) * self.unit

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        return self.inner.sample(shape, generator, device) * self.unit


def geometry(name: str, fan_in: int) -> Geometry:
    """Return the geometry of a matrix.

    An L1 domain is measured per feature, ‖x‖₁/fan_in, which is 1 where all entries have size 1, as
    the RMS is.
    """
    domain, codomain = name.split("→")
    norms = {"RMS": RMS, "Linf": Linf, "L1": L1}
    pair = operator_geometry(norms[domain], norms[codomain])
    return Scaled(pair, 1 / fan_in) if domain == "L1" else pair


@dataclass(frozen=True)
class Choice:
    """The norms of the three kinds of weights. The rows of the embedding are the images of one-hot
    vectors.
    """

    embedding: str
    hidden: str
    head: str


CHOICES = {
    "RMS→RMS": Choice("RMS", "RMS→RMS", "RMS→RMS"),
    "L1→RMS": Choice("RMS", "L1→RMS", "L1→RMS"),
    "RMS→Linf": Choice("RMS", "RMS→Linf", "RMS→Linf"),
    "Linf→Linf": Choice("RMS", "Linf→Linf", "Linf→Linf"),
    "L1→Linf (signs)": Choice("Linf", "L1→Linf", "L1→Linf"),
    "RMS→RMS, head RMS→Linf": Choice("RMS", "RMS→RMS", "RMS→Linf"),
    "RMS→RMS, head L1→Linf": Choice("RMS", "RMS→RMS", "L1→Linf"),
    "RMS→RMS, embedding and head signs": Choice("Linf", "RMS→RMS", "L1→Linf"),
}
"""RMS→RMS is modula's own. With the head in L1→Linf it is what Pethick et al. 2025 choose for
language models."""


@dataclass(frozen=True)
class Trial:
    """One run."""

    choice: str
    lr: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The validation loss at the end, None if the run diverged."""

    loss: float | None


def main(given: Sequence[str] | None = None) -> Runs[Trial, Outcome]:
    parser = arguments(__doc__, seeds=2)
    add_options(parser)
    parser.add_argument("--width", type=int, help="by default 128, with --quick 32")
    parser.add_argument("--blocks", type=int, help="by default 3, with --quick 2")
    parser.add_argument("--steps", type=int, help="by default 300, with --quick 60")
    parser.add_argument(
        "--rates",
        nargs="+",
        type=float,
        default=RATES,
        help="learning rates of the grid (default %(default)s)",
    )
    options = parser.parse_args(given)
    options.width = options.width or (32 if options.quick else 128)
    options.blocks = options.blocks or (2 if options.quick else 3)
    options.steps = options.steps or (60 if options.quick else 300)

    settings = {
        key: getattr(options, key)
        for key in ("data", "width", "blocks", "steps", "batch", "context")
    }
    runs = Runs(options.out / "norms.json", Trial, Outcome, settings, fresh=options.fresh)
    trials = [
        Trial(choice, lr, seed)
        for choice in CHOICES
        for lr in options.rates
        for seed in range(options.seeds)
    ]
    corpus = text.load(options.data)
    with Bar(lambda _: 1.0, trials, made=runs.results) as bar:
        runs.make(trials, lambda trial: train(trial, corpus, options), bar)
    publish("norms", plot(runs, options), summary(runs, options), options.out)
    return runs


def measure_by(model: GPT, choice: Choice) -> None:
    """Replace the geometries of a model's atoms, and leave the weights as they were drawn."""
    first, *hidden, last = [module for module in model.modules() if isinstance(module, Atom)]
    first.geometry = Vectors({"RMS": RMS, "Linf": Linf}[choice.embedding])
    for atom in hidden:
        atom.geometry = geometry(choice.hidden, atom.weight.shape[1])
    last.geometry = geometry(choice.head, last.weight.shape[1])


def train(trial: Trial, corpus: text.Corpus, options: argparse.Namespace) -> Outcome:
    """Train one network, at a rate that falls linearly to zero."""
    torch.manual_seed(trial.seed)
    model = GPT(corpus.size, d_embed=options.width, num_heads=4, num_blocks=options.blocks)
    measure_by(model, CHOICES[trial.choice])
    optimizer = SteepestDescent(model, trial.lr, momentum=0.85)
    return Outcome(
        loss_after_training(model, [optimizer], corpus, options, seed=trial.seed, windows=256)
    )


def curve(
    runs: Runs[Trial, Outcome], choice: str, options: argparse.Namespace
) -> dict[float, list[float | None]]:
    """Return the losses of all seeds, by rate."""
    return {
        lr: [runs.results[Trial(choice, lr, seed)].loss for seed in range(options.seeds)]
        for lr in options.rates
    }


def summary(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> str:
    rows = []
    for name, choice in CHOICES.items():
        losses = curve(runs, name, options)
        lr = min(losses, key=lambda rate: mean(losses[rate]))
        seeds = [loss for loss in losses[lr] if loss is not None]
        spread = f" ({min(seeds):.3f} to {max(seeds):.3f})" if len(seeds) > 1 else ""
        rows.append(
            [
                f"OneHot→{choice.embedding}",
                choice.hidden,
                choice.head,
                f"{lr:.3g}",
                f"{mean(losses[lr]):.3f}{spread}",
            ]
        )
    header = ["embedding", "hidden", "head", "best rate", "validation loss"]
    settings = ", ".join(f"{key} {value}" for key, value in runs.settings.items())
    return (
        f"{table(header, rows)}\n"
        "\n"
        f"GPT: {settings}; {options.seeds} seeds; {len(options.rates)} rates each."
    )


def plot(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> Figure:
    figure, axes = canvas(1, 1, (7.0, 4.2))
    for i, name in enumerate(CHOICES):
        band(axes[0][0], curve(runs, name, options), f"C{i}", name, best=True)
    axes[0][0].set(xscale="log", xlabel="learning rate", ylabel="validation loss")
    lows = [min(mean(losses) for losses in curve(runs, name, options).values()) for name in CHOICES]
    axes[0][0].set_ylim(min(lows) - 0.05, max(low for low in lows if math.isfinite(low)) + 0.5)
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


if __name__ == "__main__":
    main()
