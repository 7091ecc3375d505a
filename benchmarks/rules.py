r"""Measure rules of the optimizer, each alone and some together, at the best rate of each.

    python -m benchmarks.rules                          # an hour
    python -m benchmarks.rules --out docs/results/experiments   # and update docs/guides/rules.md
    python -m benchmarks.rules --name rules_longer --data shakespeare --steps 2000 --target 1.6 \
        --width 128 --heads 4 --blocks 4 --batch 12 --context 64 \
        --rates 0.088 0.125 0.177 0.25

Trains a GPT on text with each choice at five rates with the first seed, and with the other seeds at
the best of them, from the same initial weights on the same batches. Notes after how many steps the
validation loss is first at most --target. Leaves rules.json and rules.png in --out, or under the
name that is given, and puts the table into docs/guides/rules.md between the marks of that name.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from modula import GPT, SteepestDescent
from modula.optim import (
    AsDirection,
    Ball,
    Cautious,
    CautiousDecay,
    Constraint,
    Decay,
    Dualized,
    KeepFrobenius,
    Momentum,
    Normalized,
    Projected,
    Rule,
    SecondMoments,
    Sphere,
    Steepest,
    Whitened,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "experiments"))
from best_rates import Comparison, Outcome, Trial
from gpt_on_text import (
    SETTINGS,
    add_options,
    add_size,
    loss_after_training,
    model_of,
    text,
    validation_loss,
)
from trials import DOCS, Runs, arguments, powers, publish

RATES = powers(2**-4, 2**0)

WATCHED = 10
"""Steps from one look at the validation loss to the next."""

MOMENTUM = Momentum(0.85)
DUALIZED = Dualized(MOMENTUM)
WHITENED = Dualized(Whitened(MOMENTUM))
ROWS = SecondMoments(DUALIZED, rescaling=KeepFrobenius())
DEFAULT = "the default"


class Arguments(TypedDict, total=False):
    """Of `SteepestDescent`, beside the model and the rate."""

    rule: Rule
    weight_decay: float
    decay: Decay
    constraint: Constraint


Average = Callable[[GPT], AveragedModel]


@dataclass(frozen=True)
class Choice:
    """How a network is trained."""

    arguments: Arguments = field(default_factory=lambda: Arguments(rule=DUALIZED))
    average: Average | None = None
    scale: float = 1.0
    """Its rates over those of the default."""


def by_rule(rule: Rule, scale: float = 1.0) -> Choice:
    return Choice(Arguments(rule=rule), scale=scale)


def within(constraint: Constraint) -> Choice:
    return Choice(Arguments(rule=DUALIZED, constraint=constraint))


def decaying(amount: float, decay: Decay | None = None, rule: Rule = DUALIZED) -> Choice:
    given = Arguments(rule=rule, weight_decay=amount)
    if decay is not None:
        given["decay"] = decay
    return Choice(given)


def exponential(decay: float) -> Average:
    average = get_ema_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return lambda model: AveragedModel(model, avg_fn=average)


CHOICES: dict[str, Choice] = {
    DEFAULT: Choice(),
    "SecondMoments of rows": by_rule(SecondMoments(DUALIZED)),
    "SecondMoments of columns": by_rule(SecondMoments(DUALIZED, lines="columns")),
    "rows, KeepFrobenius": by_rule(ROWS),
    "columns, KeepFrobenius": by_rule(
        SecondMoments(DUALIZED, lines="columns", rescaling=KeepFrobenius())
    ),
    "Whitened": by_rule(WHITENED),
    # one direction alone is as long as the rate
    "Whitened, normalized": by_rule(Normalized(AsDirection(Whitened(MOMENTUM))), scale=4.0),
    "Whitened, SecondMoments of rows": by_rule(SecondMoments(WHITENED)),
    # half the entries make a step of the same norm
    "Cautious": by_rule(Cautious(DUALIZED), scale=2.0),
    "Cautious, SecondMoments of rows": by_rule(Cautious(SecondMoments(DUALIZED)), scale=2.0),
    "weight decay 0.03": decaying(0.03),
    "weight decay 0.1": decaying(0.1),
    "rows, KeepFrobenius, weight decay 0.03": decaying(0.03, rule=ROWS),
    "CautiousDecay, 0.03": decaying(0.03, CautiousDecay()),
    "CautiousDecay, 0.1": decaying(0.1, CautiousDecay()),
    "Ball(2)": within(Ball(2.0)),
    "Sphere(1)": within(Sphere(1.0)),
    "Projected": within(Projected()),
    # steps are ‖m‖† times as long as their rate
    "Steepest": by_rule(Steepest(MOMENTUM), scale=1 / 8),
    "average of weights, 0.95": Choice(average=exponential(0.95)),
}


@dataclass(frozen=True)
class Reached(Outcome):
    """The loss at the end, and the steps to the target; None if it was not reached."""

    steps: int | None


def main(given: Sequence[str] | None = None) -> Runs[Trial, Outcome]:
    parser = arguments(__doc__, seeds=5)
    add_options(parser)
    add_size(parser)
    parser.add_argument(
        "--only", nargs="+", choices=list(CHOICES), help="these choices (default all)"
    )
    parser.add_argument(
        "--target",
        type=float,
        default=2.4,
        help="validation loss to which steps are counted (default %(default)s)",
    )
    parser.add_argument(
        "--rates",
        nargs="+",
        type=float,
        default=RATES,
        help="of the default; the others' are multiples of them (default %(default)s)",
    )
    parser.add_argument(
        "--name", default="rules", help="of the picture and the numbers (default %(default)s)"
    )
    options = parser.parse_args(given)
    options.steps = options.steps or (60 if options.quick else 100)

    settings = {key: getattr(options, key) for key in (*SETTINGS, "target")}
    runs: Runs[Trial, Outcome] = Runs(
        options.out / f"{options.name}.json", Trial, Reached, settings, fresh=options.fresh
    )
    names = dict.fromkeys([DEFAULT, *(options.only or CHOICES)])
    rates = {name: [CHOICES[name].scale * rate for rate in options.rates] for name in names}
    comparison = Comparison(runs, rates, options.seeds)
    corpus = text.load(options.data)
    comparison.make(lambda trial: train(trial, corpus, options))
    summary = comparison.summary("rule", DEFAULT, {f"steps to {options.target:g}": steps_of})
    page = DOCS / "guides" / "rules.md"
    publish(options.name, comparison.plot(), summary, options.out, page)
    return runs


def train(trial: Trial, corpus: text.Corpus, options: argparse.Namespace) -> Reached:
    torch.manual_seed(trial.seed)
    choice = CHOICES[trial.choice]
    model = model_of(corpus, options)
    optimizer = SteepestDescent(model, trial.lr, **choice.arguments)
    average = None if choice.average is None else choice.average(model)
    reached: list[int] = []

    def watch(step: int) -> None:
        if not reached and step % WATCHED == 0:
            loss = validation_loss(average or model, corpus, options.context, windows=64)
            reached.extend([step] * (loss <= options.target))

    loss = loss_after_training(
        model,
        [optimizer],
        corpus,
        options,
        seed=trial.seed,
        windows=512,
        average=average,
        after_step=watch,
    )
    return Reached(loss, reached[0] if reached else None)


def steps_of(outcomes: Sequence[Outcome]) -> str:
    """The mean number of steps to the target; a dash if a seed does not reach it."""
    steps = [one.steps for one in outcomes if isinstance(one, Reached) and one.steps is not None]
    return f"{statistics.fmean(steps):.0f}" if len(steps) == len(outcomes) else "–"


if __name__ == "__main__":
    main()
