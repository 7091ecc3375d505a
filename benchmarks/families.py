"""Train networks of each family by modula and by AdamW, and tabulate how well they do.

    python -m benchmarks.families                               # all families
    python -m benchmarks.families --only resnet vit             # some
    python -m benchmarks.families --write docs/results/families.md

Networks of each family are trained at two or three widths, at five learning rates from one seed.
Further seeds follow at the rate in the table: for AdamW the best of each width, for modula the best
of the narrowest network, at all widths. Runs are stored in --out as they end, and are not repeated.
"""

from __future__ import annotations

import argparse
import importlib
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.docs_tables import write_between

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path[:0] = [str(EXAMPLES / "families"), str(EXAMPLES / "experiments")]

from training import OPTIMIZERS, Family, Measure, Outcome, Trial, train  # noqa: E402
from trials import Bar, Runs, table  # noqa: E402

FAMILIES = ["resnet", "vit", "unet", "char_lstm", "char_llama", "char_moe", "two_tower"]
"""The files of examples/families that define a family, in the order of the table."""
NAMES = {"modula": "`SteepestDescent`", "adamw": "AdamW"}


def kind(name: str) -> type[Family]:
    """Return the family that a file of examples/families defines."""
    module = importlib.import_module(name)
    (found,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Family) and value.__module__ == name
    ]
    return found


class Study:
    """The runs of one family.

    Args:
        name: of the file.
        seeds: the number of runs at the best rate.
        steps: of each run; None takes the family's own.
        out: the folder where the results are stored.
        data: where the data are; None takes the family's default.
    """

    def __init__(
        self, name: str, seeds: int, steps: int | None, out: Path, data: Path | None
    ) -> None:
        self.name, self.kind, self.seeds, self.data = name, kind(name), seeds, data
        self.steps = self.kind.steps if steps is None else steps
        self.runs = Runs(out / f"{name}.json", Trial, Outcome, {"steps": self.steps})

    def make(self) -> None:
        """Make the runs that have no result yet: all rates, then further seeds at the table's."""
        grid = [
            self._trial(optimizer, width, lr, 0)
            for width in self.kind.widths
            for optimizer in OPTIMIZERS
            for lr in self.kind.rates[optimizer]
        ]
        count = len(grid) + len(OPTIMIZERS) * len(self.kind.widths) * (self.seeds - 1)
        expected = [*grid, *[grid[0]] * (count - len(grid))]
        with Bar(lambda _: 1.0, expected, self.runs.results) as bar:
            family: Family | None = None

            def run(trial: Trial) -> Outcome:
                nonlocal family
                family = self.kind(self.data) if family is None else family
                return train(family, trial, self.steps)

            self.runs.make(grid, run, bar)
            more = [
                self._trial(optimizer, width, self.rate(optimizer, width), seed)
                for width in self.kind.widths
                for optimizer in OPTIMIZERS
                for seed in range(1, self.seeds)
            ]
            self.runs.make(more, run, bar)

    def best(self, optimizer: str, width: int) -> float:
        """Return the learning rate with the best score of the first seed."""
        rates = self.kind.rates[optimizer]
        return min(rates, key=lambda lr: self._error(self._trial(optimizer, width, lr, 0)))

    def rate(self, optimizer: str, width: int) -> float:
        """Return the rate of the table of scores: modula has one for all widths of a family."""
        return self.best(optimizer, self.kind.widths[0] if optimizer == "modula" else width)

    def rows(self) -> list[list[str]]:
        """Return the rows of the family in the table of scores."""
        return [self._row(optimizer, w) for w in self.kind.widths for optimizer in OPTIMIZERS]

    def transfer(self) -> list[list[str]]:
        """Return the rows of the family in the table of rates over widths."""
        narrow, *wider = self.kind.widths
        return [
            self._transferred(optimizer, narrow, wide) for wide in wider for optimizer in OPTIMIZERS
        ]

    def _transferred(self, optimizer: str, narrow: int, wide: int) -> list[str]:
        kept, own = self.best(optimizer, narrow), self.best(optimizer, wide)
        scores = [
            shown(self._result(optimizer, wide, lr, 0).score, self.kind.measure)
            for lr in (kept, own)
        ]
        rates = [f"{lr:g}" for lr in (kept, own)]
        return [self.kind.title, f"{narrow} to {wide}", NAMES[optimizer], *rates, *scores]

    def _row(self, optimizer: str, width: int) -> list[str]:
        lr = self.rate(optimizer, width)
        results = [self._result(optimizer, width, lr, seed) for seed in range(self.seeds)]
        scores = [result.score for result in results]
        spread = (
            f" ± {shown(statistics.stdev(scores), self.kind.measure)}" if self.seeds > 1 else ""
        )
        seconds = statistics.median(result.seconds for result in results)
        return [
            self.kind.title,
            str(width),
            NAMES[optimizer],
            f"{lr:g}",
            f"{self.kind.measure.name} {shown(statistics.mean(scores), self.kind.measure)}{spread}",
            f"{seconds:.1f} s",
        ]

    def _trial(self, optimizer: str, width: int, lr: float, seed: int) -> Trial:
        return Trial(self.name, optimizer, width, lr, seed)

    def _result(self, optimizer: str, width: int, lr: float, seed: int) -> Outcome:
        return self.runs.results[self._trial(optimizer, width, lr, seed)]

    def _error(self, trial: Trial) -> float:
        """The score as an error; infinite where a run diverged."""
        score = self.runs.results[trial].score
        if not math.isfinite(score):
            return math.inf
        return score if self.kind.measure.is_error else -score


def shown(score: float, measure: Measure) -> str:
    """Return a score as the tables have it."""
    return f"{score:{measure.format}}"


def tables(studies: Sequence[Study]) -> str:
    """Return both tables, of scores and of learning rates over widths, each under a heading."""
    scores = table(
        ["network, data", "width", "optimizer", "learning rate", "score", "processor time"],
        [row for study in studies for row in study.rows()],
    )
    rates = table(
        [
            "network, data",
            "widths",
            "optimizer",
            "best rate, narrow",
            "best rate, wide",
            "wide network at the narrow one's rate",
            "at its own",
        ],
        [row for study in studies for row in study.transfer()],
    )
    return f"## Scores\n\n{scores}\n\n## One rate for all widths\n\n{rates}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=FAMILIES, default=FAMILIES, help="the families (default: all)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs at the table's rate (default 3)")
    parser.add_argument("--steps", type=int, help="of each run (default: the family's own)")
    parser.add_argument("--data", type=Path, help="where the data are (default: the family's own)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/families"),
        help="folder of the results (default %(default)s)",
    )
    parser.add_argument(
        "--write", type=Path, help="write the tables into this page, between its marks"
    )
    options = parser.parse_args()
    studies = [
        Study(name, options.seeds, options.steps, options.out, options.data)
        for name in options.only
    ]
    for study in studies:
        study.make()
    written = tables(studies)
    print(written)
    if options.write:
        write_between(options.write, "families", written)


if __name__ == "__main__":
    main()
