r"""Choose the settings of examples/train_gpt.py on the source of Python's standard library.

    python -m benchmarks.gpt_search                                 # two and a half hours
    python -m benchmarks.gpt_search --out docs/results/experiments \
        --write docs/results/experiments.md                         # and update the page

Each optimizer has the same number of trials, and none of them sees the text of the README's table.
A search goes from setting to setting: it tries values of one beside the best of all others so far,
in short runs, after that the rate in long ones, and in these what a short run cannot tell. Trials
that --out has are not repeated. Leaves gpt_search.json there and prints all trials.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from modula import GPT

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "experiments"))
import text
from gpt_settings import Settings, network, optimizers
from trials import PICTURES, Bar, Runs, table, wrapped

from benchmarks.docs_tables import write_between

BATCH, CONTEXT = 12, 64
WIDTH, HEADS, BLOCKS = 128, 4, 4
SHORT, LONG = 250, 2000
LONG_FACTORS = (0.28, 0.4, 0.57, 0.8)
"""Of the rate that is best in short runs; they are tried in long ones."""
NEAR_FACTORS = (0.75, 1.33)
"""Of the rate that is best in long runs; they are tried once all else is chosen."""

STORED = PICTURES / "gpt_search.json"

Loss = Callable[[Tensor, Tensor], Tensor]
"""From tokens and their successors."""


@dataclass(frozen=True)
class Trial(Settings):
    """One run of so many steps."""

    length: int = SHORT


@dataclass(frozen=True)
class Outcome:
    """The loss on windows of the validation split; None if the run diverged."""

    loss: float | None


@dataclass(frozen=True)
class Stage:
    """A setting of which values are tried, beside the best of all others so far."""

    name: str
    values: Sequence[float]

    def beside(self, best: Trial) -> list[Trial]:
        """Return the best trial with each of the values that it does not have."""
        others = [float(value) for value in self.values if value != getattr(best, self.name)]
        return [Trial(**{**asdict(best), self.name: value}) for value in others]


@dataclass(frozen=True)
class Search:
    """Where a search begins, and what it tries after that: in short runs, and in long ones."""

    start: Trial
    stages: Sequence[Stage]
    long_stages: Sequence[Stage] = ()


SEARCHES = {
    "modula": Search(
        Trial("modula", 0.2, momentum=0.85),
        [
            Stage("token_shift", [0.5]),
            Stage("lr", [0.14, 0.28]),
            Stage("momentum", [0.8, 0.9]),
            Stage("rope_base", [100]),
            Stage("attention_mass", [1.4, 2.8]),
            Stage("mlp_mass", [2.1, 4.2]),
            Stage("embedding_mass", [0.5, 2.0]),
            Stage("lr", [0.1, 0.14, 0.2, 0.28, 0.4]),
        ],
        [Stage("beta_rows", [0.95]), Stage("momentum", [0.9, 0.95]), Stage("decay", [0.03])],
    ),
    "adamw": Search(
        Trial("adamw", 5.7e-3),
        [
            Stage("lr", [2.8e-3, 4e-3, 8e-3, 1.13e-2]),
            Stage("beta2", [0.9, 0.98, 0.99]),
            Stage("beta1", [0.8, 0.95]),
            Stage("weight_decay", [0.0, 0.3, 1.0]),
            Stage("lr", [2.8e-3, 4e-3, 5.7e-3, 8e-3, 1.13e-2]),
        ],
        [Stage("beta1", [0.9]), Stage("beta2", [0.95]), Stage("weight_decay", [0.3, 1.0])],
    ),
    "muon": Search(
        Trial("muon", 2.8e-2, momentum=0.95),
        [
            Stage("lr", [1.4e-2, 2e-2, 4e-2, 5.7e-2]),
            Stage("adamw_lr", [1.5e-3, 6e-3, 1.2e-2]),
            Stage("momentum", [0.85, 0.9]),
            Stage("weight_decay", [0.0, 0.3]),
            Stage("beta2", [0.98]),
            Stage("lr", [1.4e-2, 2e-2, 2.8e-2, 4e-2, 5.7e-2]),
        ],
        [Stage("momentum", [0.95]), Stage("weight_decay", [0.03, 0.1]), Stage("adamw_lr", [6e-3])],
    ),
}
"""By optimizer. AdamW and Muon train the network that modula's search arrived at."""

NETWORK = ("token_shift", "rope_base")
"""The settings of the network itself."""


class Trainer:
    """Trains networks on a text, all from one seed, with a compiled forward and backward pass."""

    def __init__(self, corpus: text.Corpus, seed: int, windows: int) -> None:
        self.corpus = corpus
        self.seed = seed
        x, y = text.windows(corpus.validation, CONTEXT)
        chosen = torch.linspace(0, len(x) - 1, min(windows, len(x))).long()
        self.validation = x[chosen], y[chosen]
        self.compiled: tuple[GPT, Loss] | None = None
        self.key: tuple[object, ...] = ()

    def __call__(self, trial: Trial) -> Outcome:
        model, loss_of = self._begin(trial)
        taken = optimizers(trial, model)
        groups = [group for optimizer in taken for group in optimizer.param_groups]
        peaks = [group["lr"] for group in groups]
        for step in range(trial.length):
            x, y = text.shuffled(self.corpus.train, BATCH, CONTEXT, step, self.seed)
            loss_of(x, y).backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            for group, peak in zip(groups, peaks, strict=True):
                group["lr"] = peak * (1 - step / trial.length)
            for optimizer in taken:
                optimizer.step()
                optimizer.zero_grad()
        return Outcome(self._validation_loss(model))

    def _begin(self, trial: Trial) -> tuple[GPT, Loss]:
        """The network of a trial with the seed's weights, and its loss.

        What was compiled for the trial before is kept where only masses differ.
        """
        torch.manual_seed(self.seed)
        size = {"width": WIDTH, "heads": HEADS, "blocks": BLOCKS}
        fresh = network(self.corpus.size, trial, **size)
        key = tuple(getattr(trial, name) for name in NETWORK)
        if self.compiled is None or self.key != key:
            torch.compiler.reset()
            self.compiled = fresh, torch.compile(lambda x, y: loss_on(fresh, x, y))
            self.key = key
        model, _ = self.compiled
        model.load_state_dict(fresh.state_dict())
        model.tare({"Attention": trial.attention_mass, "FeedForward": trial.mlp_mass})
        model.tare({"Embed": trial.embedding_mass})
        return self.compiled

    @torch.no_grad()
    def _validation_loss(self, model: GPT) -> float | None:
        x, y = self.validation
        parts = zip(torch.split(x, 256), torch.split(y, 256), strict=True)
        mean = sum(loss_on(model, x, y).item() * len(x) for x, y in parts) / len(x)
        return mean if math.isfinite(mean) else None


def loss_on(model: GPT, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


@dataclass(frozen=True)
class Tried:
    """The values of one setting that were compared, and the best trial among them."""

    name: str
    losses: dict[float, float]
    best: Trial

    def row(self) -> list[str]:
        chosen = getattr(self.best, self.name)
        entries = [
            f"**{value:g}: {loss:.4f}**" if value == chosen else f"{value:g}: {loss:.4f}"
            for value, loss in sorted(self.losses.items())
        ]
        return [self.best.optimizer, str(self.best.length), self.name, ", ".join(entries)]


class Comparison:
    """Runs trials that have no result yet, and compares them."""

    def __init__(self, runs: Runs[Trial, Outcome], train: Callable[[Trial], Outcome]) -> None:
        self.runs = runs
        self.train = train

    def of(self, name: str, trials: Sequence[Trial]) -> Tried:
        """Compare trials that differ in one setting."""
        missing = [trial for trial in trials if trial not in self.runs.results]
        if missing:
            with Bar(lambda trial: trial.length, missing, []) as bar:
                self.runs.make(missing, self.train, bar)
        losses = {trial: self.runs.results[trial].loss for trial in trials}
        by_value = {
            getattr(trial, name): math.inf if loss is None else loss
            for trial, loss in losses.items()
        }
        return Tried(name, by_value, min(trials, key=lambda trial: by_value[getattr(trial, name)]))

    def search(self, search: Search, start: Trial) -> list[Tried]:
        """Return what was tried, of which the last is the rate in long runs."""
        short = self._in_turn(search.stages, start)
        best = replace(short[-1].best, length=LONG)
        rates = self.of("lr", [at_rate(best, factor) for factor in LONG_FACTORS])
        long = [rates, *self._in_turn(search.long_stages, rates.best)]
        best = long[-1].best
        nearby = [best, *(at_rate(best, factor) for factor in NEAR_FACTORS)]
        return [*short, *long, self.of("lr", nearby)]

    def _in_turn(self, stages: Sequence[Stage], best: Trial) -> list[Tried]:
        tried: list[Tried] = []
        for stage in stages:
            tried.append(self.of(stage.name, [best, *stage.beside(best)]))
            best = tried[-1].best
        return tried


def at_rate(trial: Trial, factor: float) -> Trial:
    """Return the trial at its rate times the factor, in two digits."""
    return replace(trial, lr=float(f"{trial.lr * factor:.2g}"))


def in_network_of(trial: Trial, other: Trial) -> Trial:
    """Return the trial, in the network of another."""
    return replace(trial, token_shift=other.token_shift, rope_base=other.rope_base)


def search_all(runs: Runs[Trial, Outcome], train: Callable[[Trial], Outcome]) -> list[Tried]:
    """Return what was tried for modula, and after that for the others, in modula's network."""
    comparison = Comparison(runs, train)
    tried = comparison.search(SEARCHES["modula"], SEARCHES["modula"].start)
    network = tried[-1].best
    for name in ("adamw", "muon"):
        search = SEARCHES[name]
        tried += comparison.search(search, in_network_of(search.start, network))
    return tried


def chosen(tried: Sequence[Tried]) -> dict[str, Trial]:
    """Return the settings in which the search of each optimizer ended."""
    return {each.best.optimizer: each.best for each in tried}


def stored_runs() -> Runs[Trial, Outcome]:
    """Return the runs of the documentation, of which all settings come."""
    content = json.loads(STORED.read_text())
    return Runs(STORED, Trial, Outcome, content["settings"])


def count_trials() -> Counter[str]:
    """Return the number of runs that the search of each optimizer took."""
    return Counter(trial.optimizer for trial in stored_runs().results)


def summary(tried: Sequence[Tried], runs: Runs[Trial, Outcome]) -> str:
    counts = Counter(trial.optimizer for trial in runs.results)
    trials = ", ".join(f"{name} {count}" for name, count in counts.items())
    settings = ", ".join(f"{key} {value}" for key, value in runs.settings.items())
    return (
        f"{table(['optimizer', 'steps', 'setting', 'loss of each value'], map(Tried.row, tried))}"
        f"\n\nTrials: {trials}. Losses on the validation split; {settings}."
    )


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default="stdlib", help='"stdlib" or a UTF-8 file (default %(default)s)'
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights and batches (default %(default)s)"
    )
    parser.add_argument(
        "--windows",
        type=int,
        default=1024,
        help="of the validation split on which the loss is taken (default %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/gpt_search"),
        help="folder of gpt_search.json (default %(default)s)",
    )
    parser.add_argument(
        "--write", type=Path, help="write the table into this page, between its marks"
    )
    options = parser.parse_args(given)
    settings = {"data": options.data, "seed": options.seed, "windows": options.windows}
    runs = Runs(options.out / STORED.name, Trial, Outcome, settings)
    train = Trainer(text.load(options.data), options.seed, options.windows)
    tried = search_all(runs, train)
    written = wrapped(summary(tried, runs))
    print(written)
    for best in chosen(tried).values():
        print(best)
    if options.write:
        write_between(options.write, "gpt_search", written)


if __name__ == "__main__":
    main()
