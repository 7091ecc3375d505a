"""Measure whether a picture in the initial weights is still legible after training.

    python examples/experiments/weight_erasure.py            # minutes
    python examples/experiments/weight_erasure.py --quick

Draws a picture into the hidden weight of an MLP, which then learns to read digits by SGD or by
dualized descent, each at its best rate, and correlates the weight with the picture afterwards. Also
measures the reason, the stable rank of the gradient and of the dualized update of that weight, over
width and batch size. Leaves weight_erasure.json and weight_erasure.png in --out.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # for digits

import digits
from systems import NAMES, optimizers, step
from trials import Bar, Runs, arguments, band, canvas, finite, mean, powers, publish, table

from modula import RMS, Linear, Module, ReLU
from modula.instruments import spectra

GLYPHS = """
#...#..###..####..#...#.#......###.
##.##.#...#.#...#.#...#.#.....#...#
#.#.#.#...#.#...#.#...#.#.....#...#
#...#.#...#.#...#.#...#.#.....#####
#...#.#...#.#...#.#...#.#.....#...#
#...#.#...#.#...#.#...#.#.....#...#
#...#..###..####...###..#####.#...#
"""
RATES = {
    "dualize": powers(2**-4, 2**0),
    "sgd": powers(2**-3, 2**4),
    "sgd, usual start": powers(2**-6, 2**1),
}
TITLES = NAMES | {"sgd, usual start": "torch.optim.SGD, usual initial weights"}
HIDDEN = "2.weight"
NOISE = 0.3
"""The fraction of labels that are drawn anew in every batch, so that not every rate brings the loss
to zero."""


@dataclass(frozen=True)
class Trial:
    """A training run at a rate; with the system "rank", a measurement of the gradient instead."""

    system: str
    width: int
    batch: int
    lr: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The first four are results of a training run, the last two of a look at the gradient."""

    loss: float | None = None
    correlation: float | None = None
    """Of the magnitudes of the hidden weight's entries with the picture, at the end."""

    change: float | None = None
    """‖W − W₀‖/‖W₀‖, Frobenius norms."""

    contrast: float | None = None
    """The excess of the mean magnitude in the picture over the others', at the end relative to the
    start."""

    gradient_rank: float | None = None
    """The stable rank, Σσ²/σ₁²."""

    update_rank: float | None = None


def main(given: Sequence[str] | None = None) -> Runs[Trial, Outcome]:
    parser = arguments(__doc__, seeds=3)
    parser.add_argument(
        "--width",
        type=int,
        help="of the network with the picture; by default 512, with --quick 128",
    )
    parser.add_argument("--steps", type=int, help="by default 500, with --quick 100")
    parser.add_argument(
        "--batch", type=int, default=128, help="windows of text per step (default %(default)s)"
    )
    parser.add_argument(
        "--widths",
        nargs="+",
        type=int,
        help="for the ranks; by default 64 to 1024, with --quick 32 to 128",
    )
    parser.add_argument(
        "--batches",
        nargs="+",
        type=int,
        help="for the ranks; by default 1 to 1024, with --quick 4 to 64",
    )
    options = parser.parse_args(given)
    options.width = options.width or (128 if options.quick else 512)
    options.steps = options.steps or (100 if options.quick else 500)
    options.widths = options.widths or [
        int(n) for n in (powers(32, 128) if options.quick else powers(64, 1024))
    ]
    options.batches = options.batches or [
        int(n) for n in (powers(4, 64, 4) if options.quick else powers(1, 1024, 4))
    ]

    settings = {key: getattr(options, key) for key in ("steps",)}
    runs = Runs(options.out / "weight_erasure.json", Trial, Outcome, settings, fresh=options.fresh)
    seeds = range(options.seeds)
    training = [
        Trial(system, options.width, options.batch, lr, seed)
        for system in RATES
        for lr in RATES[system]
        for seed in seeds
    ]
    looks = [
        Trial("rank", width, batch, 0.0, seed)
        for width in options.widths
        for batch in options.batches
        for seed in seeds
    ]
    with Bar(
        lambda trial: cost(trial, options.steps), [*training, *looks], made=runs.results
    ) as bar:
        runs.make(training, lambda trial: train(trial, options.steps)[0], bar)
        runs.make(looks, look, bar)

    best = {system: best_rate(runs, system, options) for system in RATES}
    matrices = {
        system: train(Trial(system, options.width, options.batch, lr, 0), options.steps)[1]
        for system, lr in best.items()
        if options.steps
    }
    publish(
        "weight_erasure",
        plot(runs, best, matrices, options),
        summary(runs, best, options),
        options.out,
    )
    return runs


def cost(trial: Trial, steps: int) -> float:
    weights = trial.width**2 + 1e4
    return weights * (1 if trial.system == "rank" else steps)


def network(width: int) -> Module[RMS, RMS]:
    return Linear(10, width) @ ReLU() @ Linear(width, width) @ ReLU() @ Linear(width, 64)


def data() -> tuple[Tensor, Tensor]:
    images, labels, _, _ = digits.load()
    return images.flatten(1), labels


# The picture


def picture(width: int) -> Tensor:
    """Return the name of this library in ones on zeros, as large as fits into [width, width]."""
    rows = GLYPHS.split()
    small = torch.tensor([[float(c == "#") for c in row] for row in rows])
    scale = max(1, width // (small.shape[1] + 2))
    if small.shape[1] > width:
        raise SystemExit(
            f"--width {width} is too narrow for the picture: take at least {small.shape[1]}"
        )
    large = small.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    top, left = ((width - length) // 2 for length in large.shape)
    return F.pad(large, (left, width - left - large.shape[1], top, width - top - large.shape[0]))


def draw_as_usual(model: Module[RMS, RMS]) -> None:
    """Draw normal entries of variance 2/fan_in, as is usual (He et al. 2015)."""
    for weight in model.weights.tensors:
        torch.nn.init.kaiming_normal_(weight)


def draw(W: Tensor, mark: Tensor) -> None:
    """Multiply the entries in the picture by three.

    The signs stay, so that the picture has no direction that a gradient could follow or oppose.
    """
    W.mul_(1 + 2 * mark)


def correlation(W: Tensor, mark: Tensor) -> float:
    return torch.corrcoef(torch.stack((W.abs().flatten(), mark.flatten())))[0, 1].item()


def contrast(W: Tensor, mark: Tensor) -> float:
    return (W[mark == 1].abs().mean() / W[mark == 0].abs().mean() - 1).item()


def train(trial: Trial, steps: int) -> tuple[Outcome, tuple[Tensor, Tensor]]:
    """Return the result of one run, and the hidden weight before and after it."""
    torch.manual_seed(trial.seed)
    x, y = data()
    model = network(trial.width)
    W = model.weights[HIDDEN]
    mark = picture(trial.width)
    if trial.system == "sgd, usual start":
        draw_as_usual(model)
    draw(W.data, mark)
    before = W.detach().clone()
    chosen = optimizers(trial.system.partition(",")[0], model, trial.lr)
    for k in range(steps):
        some = torch.randint(len(x), (trial.batch,))
        loss = loss_of(model, x[some], digits.noisy(y[some], NOISE))
        if not math.isfinite(loss.item()):
            return Outcome(None), (before, W.detach())
        step(chosen, loss, decay=1 - k / steps)
    with torch.no_grad():
        last = loss_of(model, x, y, noise=NOISE).item()
    after = W.detach()
    change = ((after - before).norm() / before.norm()).item()
    left = contrast(after, mark) / contrast(before, mark)
    return Outcome(finite(last), correlation(after, mark), change, left), (before, after)


def loss_of(model: Module[RMS, RMS], x: Tensor, y: Tensor, noise: float = 0.0) -> Tensor:
    """Return the expected loss where a fraction of the labels is replaced by random ones."""
    return F.cross_entropy(model(x), y, label_smoothing=noise)


# The rank


def look(trial: Trial) -> Outcome:
    """Return the stable ranks of the hidden weight's gradient and update at initialisation."""
    torch.manual_seed(trial.seed)
    x, y = data()
    some = torch.randint(len(x), (trial.batch,))
    model = network(trial.width)
    grad = model.gradient(loss_of(model, x[some], y[some]))
    update = model.dualize(grad)
    return Outcome(
        gradient_rank=spectra(grad)[HIDDEN].stable_rank,
        update_rank=spectra(update)[HIDDEN].stable_rank,
    )


# What was found


def at(
    runs: Runs[Trial, Outcome], system: str, lr: float, options: argparse.Namespace
) -> list[Outcome]:
    return [
        runs.results[Trial(system, options.width, options.batch, lr, seed)]
        for seed in range(options.seeds)
    ]


def best_rate(runs: Runs[Trial, Outcome], system: str, options: argparse.Namespace) -> float:
    return min(
        RATES[system], key=lambda lr: mean([one.loss for one in at(runs, system, lr, options)])
    )


def summary(runs: Runs[Trial, Outcome], best: dict[str, float], options: argparse.Namespace) -> str:
    torch.manual_seed(0)
    W = dict(network(options.width).weights.items())[HIDDEN].detach().clone()
    mark = picture(options.width)
    draw(W, mark)
    rows = [["before training", "·", "·", "·", f"{correlation(W, mark):.2f}", "1.00"]]
    for system, lr in best.items():
        outcomes = at(runs, system, lr, options)
        losses, changes = (
            mean([one.loss for one in outcomes]),
            mean([one.change for one in outcomes]),
        )
        marks = [
            f"{mean(some):.2f}"
            for some in ([one.correlation for one in outcomes], [one.contrast for one in outcomes])
        ]
        rows.append([TITLES[system], f"{lr:g}", f"{losses:.4f}", f"{changes:.2f}", *marks])
    header = [
        "",
        "learning rate",
        "training loss",
        "change of the weight, relative",
        "correlation with the picture",
        "its contrast, relative",
    ]
    size = (
        f"Width {options.width}, {options.steps} steps of {options.batch} images, {options.seeds} "
        "seeds; each system at the best of "
    )
    ranks = [
        [
            width,
            batch,
            *(
                f"{mean(ranks_at(runs, kind, width, batch, options)):.1f}"
                for kind in ("gradient_rank", "update_rank")
            ),
        ]
        for width in (options.widths[0], options.widths[-1])
        for batch in (options.batches[0], options.batches[-1])
    ]
    tried = " and ".join(f"{len(RATES[system])} rates for {TITLES[system]}" for system in RATES)
    return "\n\n".join(
        [
            table(header, rows),
            f"{size}{tried}.",
            table(["width", "batch", "stable rank of the gradient", "of the update"], ranks),
        ]
    )


def ranks_at(
    runs: Runs[Trial, Outcome], kind: str, width: int, batch: int, options: argparse.Namespace
) -> list[float | None]:
    return [
        getattr(runs.results[Trial("rank", width, batch, 0.0, seed)], kind)
        for seed in range(options.seeds)
    ]


def plot(
    runs: Runs[Trial, Outcome],
    best: dict[str, float],
    matrices: dict[str, tuple[Tensor, Tensor]],
    options: argparse.Namespace,
) -> Figure:
    figure, axes = canvas(2, 4, (3.6, 3.3))
    shown = [("before training", next(iter(matrices.values()))[0])]
    shown += [
        (f"after {TITLES[system].replace(', ', chr(10))}", after)
        for system, (_, after) in matrices.items()
    ]
    for place, (title, W) in zip(axes[0], shown, strict=True):
        limit = 3 * W.square().mean().sqrt().item()
        place.imshow(W.abs().numpy(), cmap="Greys", vmin=0, vmax=limit, interpolation="nearest")
        place.set(title=title, xticks=[], yticks=[])
    for i, system in enumerate(best):
        curve = {
            lr: [one.correlation for one in at(runs, system, lr, options)] for lr in RATES[system]
        }
        band(axes[1][0], curve, f"C{i}", TITLES[system])
        chosen = mean(curve[best[system]])
        axes[1][0].plot(best[system], chosen, "o", color=f"C{i}", markersize=9)
    axes[1][0].set(
        xscale="log",
        xlabel="learning rate",
        title="correlation with the picture\n(dot: the rate of lowest loss)",
    )
    axes[1][3].axis("off")
    axes[1][3].legend(
        *axes[1][0].get_legend_handles_labels(), loc="center left", title="correlation"
    )
    for place, kind, title in (
        (axes[1][1], "gradient_rank", "the gradient"),
        (axes[1][2], "update_rank", "the dualized update"),
    ):
        for i, width in enumerate(options.widths):
            curve = {
                float(batch): ranks_at(runs, kind, width, batch, options)
                for batch in options.batches
            }
            band(place, curve, f"C{i}", f"{width}")
        place.set(xscale="log", yscale="log", xlabel="batch size", title=f"stable rank of {title}")
    axes[1][1].set_ylim(axes[1][2].get_ylim())
    axes[1][1].legend(title="width", fontsize="small")
    return figure


if __name__ == "__main__":
    main()
