"""Measure rules of the optimizer, each alone and some together, at the best rate of each.

    python -m benchmarks.rules                          # half an hour
    python -m benchmarks.rules --out docs/results/experiments   # and update docs/guides/rules.md

Trains a GPT on text with each choice at five rates with the first seed, and with the other seeds at
the best of them, from the same initial weights on the same batches. Leaves rules.json and rules.png
in --out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from modula import GPT, SteepestDescent
from modula.optim import (
    Ball,
    Cautious,
    CautiousDecay,
    Constraint,
    Decay,
    Dualized,
    Momentum,
    Projected,
    Rule,
    SecondMoments,
    Sphere,
    Steepest,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "experiments"))
from best_rates import Comparison, Outcome, Trial
from gpt_on_text import SETTINGS, add_options, add_size, loss_after_training, model_of, text
from trials import DOCS, Runs, arguments, powers, publish

RATES = powers(2**-4, 2**0)
STEEPEST_RATES = powers(2**-7, 2**-3)
"""For steps that are ‖m‖† times as long as their rate."""

DUALIZED = Dualized(Momentum(0.85))
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
    rates: Sequence[float] = tuple(RATES)


def by_rule(rule: Rule) -> Choice:
    return Choice(Arguments(rule=rule))


def within(constraint: Constraint) -> Choice:
    return Choice(Arguments(rule=DUALIZED, constraint=constraint))


def exponential(decay: float) -> Average:
    average = get_ema_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return lambda model: AveragedModel(model, avg_fn=average)


CHOICES: dict[str, Choice] = {
    DEFAULT: Choice(),
    "SecondMoments of rows": by_rule(SecondMoments(DUALIZED)),
    "SecondMoments of columns": by_rule(SecondMoments(DUALIZED, lines="columns")),
    "Cautious": by_rule(Cautious(DUALIZED)),
    "Cautious, SecondMoments of rows": by_rule(Cautious(SecondMoments(DUALIZED))),
    "weight decay 0.1": Choice(Arguments(rule=DUALIZED, weight_decay=0.1)),
    "CautiousDecay, 0.1": Choice(Arguments(rule=DUALIZED, weight_decay=0.1, decay=CautiousDecay())),
    "Ball(2)": within(Ball(2.0)),
    "Sphere(1)": within(Sphere(1.0)),
    "Projected": within(Projected()),
    "Steepest": Choice(Arguments(rule=Steepest(Momentum(0.85))), rates=STEEPEST_RATES),
    "average of weights, 0.95": Choice(average=exponential(0.95)),
}


def main(given: Sequence[str] | None = None) -> Runs[Trial, Outcome]:
    parser = arguments(__doc__, seeds=3)
    add_options(parser)
    add_size(parser)
    parser.add_argument(
        "--only", nargs="+", choices=list(CHOICES), help="these choices (default all)"
    )
    options = parser.parse_args(given)
    options.steps = options.steps or (60 if options.quick else 200)

    settings = {key: getattr(options, key) for key in SETTINGS}
    runs = Runs(options.out / "rules.json", Trial, Outcome, settings, fresh=options.fresh)
    rates = {name: CHOICES[name].rates for name in options.only or CHOICES}
    comparison = Comparison(runs, {DEFAULT: RATES, **rates}, options.seeds)
    corpus = text.load(options.data)
    comparison.make(lambda trial: train(trial, corpus, options))
    summary = comparison.summary("rule", DEFAULT)
    publish("rules", comparison.plot(), summary, options.out, page=DOCS / "guides" / "rules.md")
    return runs


def train(trial: Trial, corpus: text.Corpus, options: argparse.Namespace) -> Outcome:
    torch.manual_seed(trial.seed)
    choice = CHOICES[trial.choice]
    model = model_of(corpus, options)
    optimizer = SteepestDescent(model, trial.lr, **choice.arguments)
    average = None if choice.average is None else choice.average(model)
    return Outcome(
        loss_after_training(
            model,
            [optimizer],
            corpus,
            options,
            seed=trial.seed,
            windows=512,
            average=average,
        )
    )


if __name__ == "__main__":
    main()
