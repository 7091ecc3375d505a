"""Compare `SteepestDescent` with torch's AdamW and Muon on text in 4,096 byte pairs.

    python -m benchmarks.byte_pairs                     # the source of Python's standard library
    python -m benchmarks.byte_pairs --data shakespeare --name byte_pairs_shakespeare
    python -m benchmarks.byte_pairs --out docs/results/experiments   # and update the documentation
    python -m benchmarks.byte_pairs --out docs/results/experiments --write README.md

Trains one GPT, whose embedding and head are most of its weights, with each optimizer at five rates
with the first seed, and with the other seeds at the best of them, from the same initial weights on
the same batches. Needs the `tokenizers` library. Leaves the losses over the rates as a picture and
all numbers as JSON in --out; runs that are there already are not repeated. With --write the table
goes into a page as well, between the marks of --name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.docs_tables import write_between

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "experiments"))
import systems
from best_rates import Comparison, Outcome, Trial
from gpt_on_text import SETTINGS, add_options, add_size, loss_after_training, model_of, text
from trials import Runs, arguments, powers, publish, wrapped

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import byte_pairs

RATES = {
    "dualize": powers(2**-5, 2**-1),
    "adamw": powers(2**-10, 2**-6),
    "muon": powers(2**-7, 2**-3),
}


def main(given: Sequence[str] | None = None) -> Runs[Trial, Outcome]:
    parser = arguments(__doc__, seeds=3)
    add_options(parser)
    add_size(parser)
    parser.add_argument(
        "--vocabulary",
        type=int,
        default=byte_pairs.VOCABULARY,
        help="the number of byte pairs and bytes (default %(default)s)",
    )
    parser.add_argument(
        "--name", default="byte_pairs", help="of the picture and the numbers (default %(default)s)"
    )
    parser.add_argument("--write", type=Path, help="write the table into this page, between marks")
    options = parser.parse_args(given)
    options.steps = options.steps or (60 if options.quick else 200)

    settings = {key: getattr(options, key) for key in (*SETTINGS, "vocabulary")}
    runs = Runs(options.out / f"{options.name}.json", Trial, Outcome, settings, fresh=options.fresh)
    rates = {systems.NAMES[system]: rates for system, rates in RATES.items()}
    comparison = Comparison(runs, rates, options.seeds)
    corpus = byte_pairs.load(options.data, options.vocabulary)
    comparison.make(lambda trial: train(trial, corpus, options))
    summary = comparison.summary("optimizer", systems.NAMES["dualize"])
    publish(options.name, comparison.plot(), summary, options.out)
    if options.write:
        write_between(options.write, options.name, wrapped(summary))
    return runs


def train(trial: Trial, corpus: text.Corpus, options: argparse.Namespace) -> Outcome:
    torch.manual_seed(trial.seed)
    model = model_of(corpus, options)
    system = {name: system for system, name in systems.NAMES.items()}[trial.choice]
    optimizers = systems.optimizers(system, model, trial.lr)
    return Outcome(
        loss_after_training(model, optimizers, corpus, options, seed=trial.seed, windows=256)
    )


if __name__ == "__main__":
    main()
