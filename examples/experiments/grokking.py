"""Count the steps after which a transformer generalises to sums modulo p that it has not seen.

    python examples/experiments/grokking.py            # p = 97
    python examples/experiments/grokking.py --quick    # p = 23, minutes

Trains a GPT of one block on a fraction of all sums a + b modulo p, by dualized descent, Muon and
AdamW, each at several rates, and counts the steps to 95% and 99% on the rest. Leaves grokking.json
and grokking.png in --out.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
from systems import NAMES, optimizers, step
from torch import Tensor
from trials import Bar, Runs, arguments, canvas, powers, publish, table

from modula import GPT

RATES = {
    "dualize": powers(2**-3, 2**-1),
    "muon": powers(2**-5, 2**-3),
    "adamw": powers(2**-9, 2**-7),
}
WEIGHT_DECAY = {"dualize": 0.1, "muon": 0.1, "adamw": 1.0}
"""AdamW's is that of Power et al. 2022. It multiplies the rate, so that equal numbers do not mean
equal decay."""

BATCH = 512


@dataclass(frozen=True)
class Trial:
    """One run."""

    system: str
    lr: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The accuracies at equal intervals of steps; a run ends when it has generalised."""

    train: list[float]
    validation: list[float]


def main(given: Sequence[str] | None = None) -> Runs[Trial, Outcome]:
    parser = arguments(__doc__, seeds=3)
    parser.add_argument("--p", type=int, help="by default 97, with --quick 23")
    parser.add_argument("--width", type=int, help="by default 128, with --quick 64")
    parser.add_argument("--steps", type=int, help="at most; by default 1200, with --quick 600")
    parser.add_argument(
        "--every",
        type=int,
        default=20,
        help="steps between measurements of the accuracy (default %(default)s)",
    )
    parser.add_argument(
        "--fraction", type=float, default=0.5, help="of all sums, to train on (default %(default)s)"
    )
    options = parser.parse_args(given)
    options.p = options.p or (23 if options.quick else 97)
    options.width = options.width or (64 if options.quick else 128)
    options.steps = options.steps or (600 if options.quick else 1200)

    settings = {key: getattr(options, key) for key in ("p", "width", "steps", "every", "fraction")}
    runs = Runs(options.out / "grokking.json", Trial, Outcome, settings, fresh=options.fresh)
    trials = [
        Trial(system, lr, seed)
        for system in RATES
        for lr in RATES[system]
        for seed in range(options.seeds)
    ]
    with Bar(lambda _: 1.0, trials, made=runs.results) as bar:
        runs.make(trials, lambda trial: train(trial, options), bar)
    publish("grokking", plot(runs, options), summary(runs, options), options.out)
    return runs


def sums(p: int, fraction: float, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return all a + b = c modulo p, to train on and the rest.

    Questions are tokens [n, 3] that spell "a b =", answers are [n].
    """
    a, b = torch.meshgrid(torch.arange(p), torch.arange(p), indexing="ij")
    questions = torch.stack((a.flatten(), b.flatten(), torch.full((p * p,), p)), dim=-1)
    answers = (a + b).flatten() % p
    order = torch.randperm(p * p, generator=torch.Generator().manual_seed(seed))
    known, unknown = order[: round(fraction * p * p)], order[round(fraction * p * p) :]
    return questions[known], answers[known], questions[unknown], answers[unknown]


def train(trial: Trial, options: argparse.Namespace) -> Outcome:
    torch.manual_seed(trial.seed)
    x, y, unseen, hidden = sums(options.p, options.fraction, trial.seed)
    model = GPT(options.p + 1, d_embed=options.width, num_heads=4, num_blocks=1)
    chosen = optimizers(trial.system, model, trial.lr, WEIGHT_DECAY[trial.system])
    outcome = Outcome([], [])
    for k in range(1, options.steps + 1):
        some = torch.randint(len(x), (min(BATCH, len(x)),))
        step(chosen, F.cross_entropy(model(x[some])[:, -1], y[some]))
        if k % options.every == 0:
            outcome.train.append(accuracy(model, x, y))
            outcome.validation.append(accuracy(model, unseen, hidden))
            if outcome.validation[-1] >= 0.99:
                break
    return outcome


@torch.no_grad()
def accuracy(model: GPT, x: Tensor, y: Tensor) -> float:
    return (model(x)[:, -1].argmax(dim=-1) == y).float().mean().item()


def steps_to(accuracies: list[float], level: float, every: int) -> int | None:
    """Return the step of the first measurement that reached the level, or None."""
    return next((every * (i + 1) for i, reached in enumerate(accuracies) if reached >= level), None)


def reached(
    runs: Runs[Trial, Outcome], system: str, lr: float, level: float, options: argparse.Namespace
) -> list[int | None]:
    """Return the steps to a level of validation accuracy, for each seed."""
    outcomes = [runs.results[Trial(system, lr, seed)] for seed in range(options.seeds)]
    return [steps_to(outcome.validation, level, options.every) for outcome in outcomes]


def best_rate(runs: Runs[Trial, Outcome], system: str, options: argparse.Namespace) -> float:
    """Return the rate with the fewest steps to 95%.

    A run that did not reach 95% counts as twice the longest run.
    """

    def steps(lr: float) -> float:
        return statistics.fmean(
            [
                2 * options.steps if one is None else one
                for one in reached(runs, system, lr, 0.95, options)
            ]
        )

    return min(RATES[system], key=steps)


def summary(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> str:
    rows = []
    for system in RATES:
        lr = best_rate(runs, system, options)
        memorised = [
            steps_to(runs.results[Trial(system, lr, seed)].train, 0.99, options.every)
            for seed in range(options.seeds)
        ]
        levels = [
            written(some)
            for some in (
                memorised,
                *(reached(runs, system, lr, level, options) for level in (0.95, 0.99)),
            )
        ]
        rows.append([NAMES[system], f"{lr:.3g}", f"{WEIGHT_DECAY[system]:g}", *levels])
    header = [
        "system",
        "learning rate",
        "weight decay",
        "steps to 99% of the known",
        "to 95% of the unknown",
        "to 99% of the unknown",
    ]
    size = (
        f"p = {options.p}, {100 * options.fraction:g}% of all sums known, GPT of 1 block and width "
        f"{options.width}, batches of {BATCH}, at most {options.steps} steps; {options.seeds} "
        f"seeds; each system at the best of {len(RATES['adamw'])} rates."
    )
    return f"{table(header, rows)}\n\n{size}"


def written(steps: list[int | None]) -> str:
    """Return the mean and the range over seeds, and the number of runs that never got there."""
    there = [one for one in steps if one is not None]
    missing = f"{len(steps) - len(there)} of {len(steps)} never" if len(there) < len(steps) else ""
    if not there:
        return missing
    spread = f" ({min(there)} to {max(there)})" if len(there) > 1 else ""
    return f"{statistics.fmean(there):.0f}{spread}{'; ' * bool(missing)}{missing}"


def plot(runs: Runs[Trial, Outcome], options: argparse.Namespace) -> Figure:
    figure, axes = canvas(1, len(RATES), (3.8, 3.2), sharey=True)
    for place, system in zip(axes[0], RATES, strict=True):
        lr = best_rate(runs, system, options)
        for seed in range(options.seeds):
            outcome = runs.results[Trial(system, lr, seed)]
            steps = [options.every * (i + 1) for i in range(len(outcome.train))]
            place.plot(
                steps,
                outcome.train,
                color="C0",
                alpha=0.7,
                label="known sums" if seed == 0 else None,
            )
            place.plot(
                steps,
                outcome.validation,
                color="C1",
                alpha=0.7,
                label="unknown sums" if seed == 0 else None,
            )
        place.set(xscale="log", xlabel="step", title=f"{NAMES[system]}, rate {lr:.3g}")
        place.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.xaxis.set_major_formatter(ScalarFormatter())
        place.xaxis.set_minor_formatter(NullFormatter())
    axes[0][0].set_ylabel("accuracy, one line a seed")
    axes[0][0].legend(fontsize="small")
    return figure


if __name__ == "__main__":
    main()
