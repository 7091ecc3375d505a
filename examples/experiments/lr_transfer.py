r"""Measure whether the best learning rate stays the same when a network grows wider or deeper.

    python examples/experiments/lr_transfer.py --plan     # estimates the time on this machine
    python examples/experiments/lr_transfer.py            # continues where it was stopped
    python examples/experiments/lr_transfer.py --quick    # minutes
    python examples/experiments/lr_transfer.py --lifted   # a plain GPT of torch's modules
    python examples/experiments/lr_transfer.py --networks gpt --name lr_transfer_rules \
        --systems rows keep_frobenius whitened            # under other rules

Trains a GPT on text and a ResMLP on digits at many widths and depths, by modula (dualized, and
normalised Adam), AdamW and Muon. For every size it searches the rates, by factors of 2 around the
best rate of the size before and then by √2 around the lowest point, until the lowest point has
neighbours on both sides. Leaves lr_transfer.json and lr_transfer.png in --out, or under the name
that is given; with --lifted lr_transfer_lifted.json and lr_transfer_lifted.png.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # for text and digits

import digits
import text
from plain_gpt import PlainGPT
from systems import NAMES, RULES, SYSTEMS, optimizers, step
from trials import Bar, Runs, arguments, band, canvas, finite, mean, publish, table

from modula import GPT, Network, ResMLP, lift

START = {
    "dualize": 2**-3.0,
    "normalize": 2**-3.0,
    "adamw": 2**-7.0,
    "muon": 2**-4.5,
    **dict.fromkeys(RULES, 2**-3.0),
}
"""The rates at which the search of the smallest network begins."""


@dataclass(frozen=True)
class Size:
    """One network of a family."""

    network: str
    width: int
    depth: int


@dataclass(frozen=True)
class Trial:
    """One run."""

    network: str
    system: str
    width: int
    depth: int
    lr: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The loss at the end of a run, None if it diverged."""

    loss: float | None


Batches = Callable[[torch.Generator], tuple[Tensor, Tensor]]


NOISE = 0.3
"""The fraction of the digits' labels that are drawn anew in every batch, so that the loss has a
lower bound above zero, as that of text has."""


HEAD_WIDTH = 16
"""The features of a head where the number of heads grows with the width."""


@dataclass(frozen=True)
class Task:
    """A family of networks and their data."""

    build: Callable[[Size], Network]
    batch: Batches
    held_out: tuple[Tensor, Tensor]
    """The data of the loss at the end."""

    noise: float = 0.0
    """The fraction of random labels that the loss at the end expects."""


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = arguments(__doc__, seeds=2)
    parser.add_argument(
        "--data",
        default="stdlib",
        help='of the GPT: "stdlib", "shakespeare" or a UTF-8 file (default %(default)s)',
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=["gpt", "resmlp", "plain", "heads", "scaled", "tied"],
        help="which networks to train; by default gpt resmlp, with --lifted plain heads scaled "
        f"tied, of which the second has heads of {HEAD_WIDTH} features in place of 4 heads, the "
        "third divides its residual branches by the number of blocks, and the fourth has one "
        "matrix as table and head",
    )
    parser.add_argument(
        "--lifted",
        action="store_true",
        help="train a GPT of nn.Linear, LayerNorm and plain residual sums, by modula lifted",
    )
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=list(START),
        help=f"which systems train them; by default {' '.join(SYSTEMS)}, with --lifted all but "
        "normalize; the others are modula's under other rules",
    )
    parser.add_argument("--name", help="of the picture and the numbers")
    parser.add_argument(
        "--widths", nargs="+", type=int, help="by default 32 64 128 256 512, with --quick 16 32 64"
    )
    parser.add_argument(
        "--depths", nargs="+", type=int, help="in blocks; by default 2 4 8 16, with --quick 1 2 4"
    )
    parser.add_argument(
        "--width",
        type=int,
        help="width at which depth is varied; by default the second of --widths",
    )
    parser.add_argument("--steps", type=int, help="by default 100, with --quick 40")
    parser.add_argument(
        "--batch",
        type=int,
        default=8,
        help="windows of text; of digits 16 times as many (default %(default)s)",
    )
    parser.add_argument(
        "--context", type=int, default=32, help="characters per window (default %(default)s)"
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="time one step of everything, print how long the whole takes, and stop",
    )
    options = parser.parse_args(given)
    options.name = options.name or ("lr_transfer_lifted" if options.lifted else "lr_transfer")
    options.networks = options.networks or (
        ["plain", "heads", "scaled", "tied"] if options.lifted else ["gpt", "resmlp"]
    )
    options.systems = options.systems or [
        system for system in SYSTEMS if not (options.lifted and system == "normalize")
    ]
    options.widths = options.widths or ([16, 32, 64] if options.quick else [32, 64, 128, 256, 512])
    options.depths = options.depths or ([1, 2, 4] if options.quick else [2, 4, 8, 16])
    options.width = options.width or options.widths[min(1, len(options.widths) - 1)]
    options.steps = options.steps or (40 if options.quick else 100)
    return options


def main(given: Sequence[str] | None = None) -> Runs[Trial, Outcome]:
    options = parse(given)
    settings = {key: getattr(options, key) for key in ("data", "steps", "batch", "context")}
    runs = Runs(options.out / f"{options.name}.json", Trial, Outcome, settings, fresh=options.fresh)
    tasks = {network: task(network, options) for network in options.networks}
    if options.plan:
        plan(tasks, runs, options)
        return runs

    expected = [
        Trial(size.network, system, size.width, size.depth, START[system], seed)
        for system in options.systems
        for network in options.networks
        for size in sizes(network, options)
        for seed in range(options.seeds)
        for _ in range(RUNS_A_WALK)
    ]
    with Bar(cost, expected, made=runs.results) as bar:
        for network in options.networks:
            for system in options.systems:
                walked: dict[Size, float] = {}
                for axis in axes_of(network, options).values():
                    walk_axis(axis, system, tasks[network], walked, runs, bar, options)

    figure = plot(runs, options)
    publish(options.name, figure, summary(runs, options), options.out)
    return runs


# What is trained


def task(network: str, options: argparse.Namespace) -> Task:
    if network == "resmlp":
        images, labels, _, _ = digits.load()
        x = images.flatten(1)

        def some_digits(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            chosen = torch.randint(len(x), (16 * options.batch,), generator=generator)
            return x[chosen], digits.noisy(labels[chosen], NOISE, generator)

        return Task(
            lambda size: ResMLP(10, 64, width=size.width, num_blocks=size.depth),
            some_digits,
            (x, labels),
            NOISE,
        )

    corpus = text.load(options.data)
    windows, following = text.windows(corpus.validation, options.context)
    some = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))[:128]
    vocabulary = corpus.size

    def build(size: Size) -> Network:
        if network == "gpt":
            return GPT(vocabulary, d_embed=size.width, num_heads=4, num_blocks=size.depth)
        scale = 1 / size.depth if network == "scaled" else 1.0
        model = PlainGPT(
            vocabulary,
            context=options.context,
            width=size.width,
            heads=max(1, size.width // HEAD_WIDTH) if network == "heads" else 4,
            blocks=size.depth,
            tied=network == "tied",
            scale=scale,
        )
        return lift(model, windows[:4])

    return Task(
        build,
        lambda generator: text.batch(corpus.train, options.batch, options.context, generator),
        (windows[some], following[some]),
    )


def train(trial: Trial, task: Task, steps: int) -> Outcome:
    """Train one network, at a rate that falls linearly to zero."""
    torch.manual_seed(trial.seed)
    generator = torch.Generator().manual_seed(trial.seed)
    model = task.build(Size(trial.network, trial.width, trial.depth))
    chosen = optimizers(trial.system, model, trial.lr, hidden=hidden(model))
    for k in range(steps):
        loss = loss_of(model, *task.batch(generator))
        if not math.isfinite(loss.item()):
            return Outcome(None)
        step(chosen, loss, decay=1 - k / steps)
    with torch.no_grad():
        return Outcome(finite(loss_of(model, *task.held_out, noise=task.noise).item()))


def hidden(model: Network) -> list[Tensor] | None:
    """Return the matrices of a plain GPT's blocks, and None for other networks."""
    module = model.torch_module
    if not isinstance(module, PlainGPT):
        return None
    return [p for p in module.blocks.parameters() if p.dim() == 2]


def loss_of(model: Network, x: Tensor, y: Tensor, noise: float = 0.0) -> Tensor:
    """Return the expected loss where a fraction of the labels is replaced by random ones."""
    logits = model.torch_module(x)
    return F.cross_entropy(logits.flatten(0, -2), y.flatten(), label_smoothing=noise)


# Which runs are made


def axes_of(network: str, options: argparse.Namespace) -> dict[str, list[Size]]:
    """Return the sizes along width and those along depth, each from small to large.

    A scaled network is varied in its depth alone. One with a tied head or more heads is varied in
    its width.
    """
    wide = [Size(network, width, options.depths[0]) for width in options.widths]
    deep = [Size(network, options.width, depth) for depth in options.depths]
    both = {"width": wide, "depth": deep}
    chosen = {"scaled": ["depth"], "heads": ["width"], "tied": ["width"]}.get(network, list(both))
    return {axis: both[axis] for axis in chosen}


def sizes(network: str, options: argparse.Namespace) -> list[Size]:
    every = [size for axis in axes_of(network, options).values() for size in axis]
    return list(dict.fromkeys(every))


RUNS_A_WALK = 6
"""The usual number of rates of a search."""


def cost(trial: Trial) -> float:
    """Estimate the time of a run, relative to other runs."""
    per_block = (2 if trial.network == "resmlp" else 12) * trial.width**2
    return trial.depth * (per_block + 2e4) + 1e5


def walk_axis(
    axis: list[Size],
    system: str,
    task: Task,
    walked: dict[Size, float],
    runs: Runs[Trial, Outcome],
    bar: Bar,
    options: argparse.Namespace,
) -> None:
    """Find the best rate of every size that is not among `walked`, and try the smallest's on all.

    The search of a size begins at the best rate of the size before.
    """
    center = START[system]
    for size in axis:

        def loss(lr: float, size: Size = size) -> float:
            trials = [
                Trial(size.network, system, size.width, size.depth, lr, seed)
                for seed in range(options.seeds)
            ]
            runs.make(trials, lambda trial: train(trial, task, options.steps), bar)
            return mean([runs.results[trial].loss for trial in trials])

        if size not in walked:
            walked[size] = walk(loss, center)
        center = walked[size]
        loss(walked[axis[0]])


def walk(loss: Callable[[float], float], start: float) -> float:
    """Return the rate with the lowest loss on a grid of ratio √2.

    The search goes by factors of 2 until the lowest rate has neighbours, and then by √2.
    """
    tried: dict[float, float] = {}
    for ratio in (2.0, math.sqrt(2.0)):
        center = min(tried, key=tried.__getitem__) if tried else start
        while True:
            for lr in (center, center / ratio, center * ratio):
                lr = on_grid(lr)
                if lr not in tried:
                    tried[lr] = loss(lr)
            best = min(tried, key=tried.__getitem__)
            if best == on_grid(center) or not math.isfinite(tried[best]):
                break
            center = best
    return min(tried, key=tried.__getitem__)


def on_grid(lr: float) -> float:
    """Return the nearest power of √2, so that rates that were reached in two ways are equal."""
    return math.exp2(round(2 * math.log2(lr)) / 2)


# What was found


def curve(
    runs: Runs[Trial, Outcome], size: Size, system: str, seeds: int
) -> dict[float, list[float | None]]:
    """Return the losses of all seeds, by rate."""
    found: dict[float, dict[int, float | None]] = {}
    for trial, outcome in runs.results.items():
        if (trial.network, trial.width, trial.depth, trial.system) == (
            size.network,
            size.width,
            size.depth,
            system,
        ):
            found.setdefault(trial.lr, {})[trial.seed] = outcome.loss
    return {
        lr: [by_seed[seed] for seed in range(seeds)]
        for lr, by_seed in sorted(found.items())
        if set(range(seeds)) <= set(by_seed)
    }


def best_rate(losses: dict[float, list[float | None]]) -> float:
    return min(losses, key=lambda lr: mean(losses[lr]))


def vertex(losses: dict[float, list[float | None]]) -> float:
    """Return the rate at the vertex of the parabola through the lowest point and its neighbours.

    The parabola is over the logarithm of the rate.
    """
    rates = [lr for lr in losses if math.isfinite(mean(losses[lr]))]
    i = rates.index(best_rate(losses))
    if i in (0, len(rates) - 1):
        return rates[i]
    (x0, y0), (x1, y1), (x2, y2) = [
        (math.log2(lr), mean(losses[lr])) for lr in rates[i - 1 : i + 2]
    ]
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    return (
        float(2 ** ((x0 + x1) / 2 - left * (x2 - x0) / 2 / (right - left)))
        if right > left
        else rates[i]
    )


def summary(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> str:
    """Return the moves of the best rate along each axis, and the cost of keeping the smallest's."""
    rows = []
    for network in options.networks:
        for name, axis in axes_of(network, options).items():
            for system in options.systems:
                curves = [curve(runs, size, system, options.seeds) for size in axis]
                if not all(curves):
                    continue
                rates = [best_rate(losses) for losses in curves]
                smooth = [vertex(losses) for losses in curves]
                kept = [
                    mean(losses[rates[0]]) / mean(losses[rate]) - 1
                    for losses, rate in zip(curves, rates, strict=True)
                ]
                signature = f"{getattr(axis[0], name)} to {getattr(axis[-1], name)}"
                shown = ", ".join(f"{rate:.3g}" for rate in rates)
                moved, moved_smooth = (max(some) / min(some) for some in (rates, smooth))
                rows.append(
                    [
                        network,
                        f"{name} {signature}",
                        NAMES[system],
                        shown,
                        f"{moved:.2f}",
                        f"{moved_smooth:.2f}",
                        f"{100 * max(kept):.2f}%",
                    ]
                )
    header = [
        "network",
        "axis",
        "system",
        "best rate of each size",
        "moves by",
        "of parabolas",
        "worst loss at the smallest's rate",
    ]
    settings = ", ".join(f"{key} {value}" for key, value in runs.settings.items())
    others = (
        f"width varied at depth {options.depths[0]}, depth at width {options.width}; "
        f"{options.seeds} seeds; {settings}."
    )
    return f"{table(header, rows)}\n\n{others[0].upper()}{others[1:]}"


def plot(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> Figure:
    from matplotlib import colormaps

    rows = [
        (network, name, axis)
        for network in options.networks
        for name, axis in axes_of(network, options).items()
    ]
    figure, axes = canvas(len(rows), len(options.systems), (3.4, 2.8), sharey="row")
    for (network, name, axis), line in zip(rows, axes, strict=True):
        for system, place in zip(options.systems, line, strict=True):
            for i, size in enumerate(axis):
                shade = colormaps["viridis"](0.8 * i / max(1, len(axis) - 1))
                band(
                    place,
                    curve(runs, size, system, options.seeds),
                    shade,
                    f"{getattr(size, name)}",
                    best=True,
                )
            place.set_xscale("log", base=2)
            place.set(
                title=NAMES[system] if line is axes[0] else "",
                xlabel="learning rate" if line is axes[-1] else "",
            )
        line[0].set_ylabel(f"{network}: loss")
        line[0].legend(title=name, fontsize="small")
        lows = [
            min(mean(y) for y in losses.values())
            for size in axis
            for system in options.systems
            if (losses := curve(runs, size, system, options.seeds))
        ]
        spread = max(lows) - min(lows)
        line[0].set_ylim(min(lows) - 0.1 * spread - 0.01, max(lows) + 0.8 * spread + 0.05)
    return figure


def plan(tasks: dict[str, Task], runs: Runs[Trial, Outcome], options: argparse.Namespace) -> None:
    """Print the estimated time of every run, from the time of a few steps."""
    rows, total = [], 0.0
    for trial in steps_to_time(options):
        train(trial, tasks[trial.network], 1)  # to warm up
        start = time.perf_counter()
        train(trial, tasks[trial.network], 1)
        first = time.perf_counter() - start
        start = time.perf_counter()
        train(trial, tasks[trial.network], 3)
        seconds = max(time.perf_counter() - start - first, 0.0) / 2 * options.steps
        whole = seconds * RUNS_A_WALK * options.seeds
        total += whole
        rows.append(
            [
                trial.network,
                NAMES[trial.system],
                trial.width,
                trial.depth,
                f"{seconds:.1f} s",
                f"{whole / 60:.1f} min",
            ]
        )
    print(
        table(
            [
                "network",
                "system",
                "width",
                "depth",
                "one run",
                f"{RUNS_A_WALK} rates × {options.seeds} seeds",
            ],
            rows,
        )
    )
    print(
        f"all together about {total / 60:.0f} minutes on {torch.get_num_threads()} threads; "
        f"{len(runs.results)} runs have been made"
    )


def steps_to_time(options: argparse.Namespace) -> Iterator[Trial]:
    for network in options.networks:
        for system in options.systems:
            for size in sizes(network, options):
                yield Trial(network, system, size.width, size.depth, START[system], 0)


if __name__ == "__main__":
    main()
