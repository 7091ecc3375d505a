"""Choices that are compared, each at its best rate: all rates once, the best with more seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.figure import Figure
from trials import Bar, Runs, band, canvas, mean, table

COLORS = [*[f"C{i}" for i in range(10)], "black", "goldenrod", "navy", "lime", "magenta", "teal"]

STYLES = ("-", "--", ":")
"""Of the curves: each color is drawn in the first, then in the next."""

UNKNOWN = math.nan
"""The rate of a trial before the best one is known."""


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


@dataclass(frozen=True)
class Comparison:
    """Choices, each at its own best rate.

    Args:
        runs: the results.
        rates: the rates of each choice.
        seeds: how many runs there are at the best rate.
    """

    runs: Runs[Trial, Outcome]
    rates: Mapping[str, Sequence[float]]
    seeds: int

    def make(self, train: Callable[[Trial], Outcome]) -> None:
        """Run every choice at each of its rates once, and with the other seeds at the best."""
        search = [Trial(choice, lr, 0) for choice, rates in self.rates.items() for lr in rates]
        others = [
            Trial(choice, UNKNOWN, seed) for choice in self.rates for seed in range(1, self.seeds)
        ]
        with Bar(lambda _: 1.0, [*search, *others], made=self.runs.results) as bar:
            self.runs.make(search, train, bar)
            repeated = [replace(trial, lr=self.best_rate(trial.choice)) for trial in others]
            self.runs.make(repeated, train, bar)

    def best_rate(self, choice: str) -> float:
        """Return the rate at which the first seed ends lowest."""
        return min(self.rates[choice], key=lambda lr: self._loss(Trial(choice, lr, 0)))

    def losses(self, choice: str) -> list[float]:
        """Return the losses of all seeds at the best rate, infinite where a run diverged."""
        lr = self.best_rate(choice)
        return [self._loss(Trial(choice, lr, seed)) for seed in range(self.seeds)]

    def outcomes(self, choice: str) -> list[Outcome]:
        """Return the results of all seeds at the best rate."""
        lr = self.best_rate(choice)
        return [self.runs.results[Trial(choice, lr, seed)] for seed in range(self.seeds)]

    def summary(
        self,
        name: str,
        reference: str,
        columns: Mapping[str, Callable[[Sequence[Outcome]], str]] | None = None,
    ) -> str:
        """Return the losses as a table, how far they are above those of one choice, and the size.

        Args:
            name: of the first column.
            reference: the choice with which the others are compared, seed by seed.
            columns: more of them by name, each a function of the results of all seeds.
        """
        more = columns or {}
        rows = []
        for choice in self.rates:
            pairs = zip(self.losses(choice), self.losses(reference), strict=True)
            above = [loss - other for loss, other in pairs]
            rate = f"{self.best_rate(choice):.3g}"
            cells = [cell(self.outcomes(choice)) for cell in more.values()]
            rows.append([choice, rate, _spread(self.losses(choice)), _spread(above), *cells])
        settings = ", ".join(f"{key} {value}" for key, value in self.runs.settings.items())
        return (
            f"{table([name, 'best rate', 'validation loss', f'above {reference}', *more], rows)}\n"
            "\n"
            f"GPT: {settings}; {self.seeds} seeds; {len(self.rates[reference])} rates each. In "
            "brackets the lowest and the highest of the seeds."
        )

    def plot(self) -> Figure:
        """Return the losses of the first seed over the rates."""
        figure, axes = canvas(1, 1, (7.0, 4.2))
        curves = []
        lines = itertools.product(STYLES, COLORS)
        for (style, color), (choice, rates) in zip(lines, self.rates.items(), strict=False):
            curve = {lr: [self.runs.results[Trial(choice, lr, 0)].loss] for lr in rates}
            band(axes[0][0], curve, color, choice, best=True, style=style)
            curves.append([mean(losses) for losses in curve.values()])
        axes[0][0].set(xscale="log", xlabel="learning rate", ylabel="validation loss, first seed")
        axes[0][0].set_ylim(*_limits(curves))
        figure.legend(loc="outside right upper", fontsize="small")
        return figure

    def _loss(self, trial: Trial) -> float:
        return mean([self.runs.results[trial].loss])


HEIGHT = 0.3
"""How far a picture reaches above the choice whose lowest loss is the highest."""


def _limits(curves: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the lower and the upper end of an axis that shows the lowest loss of every choice.

    Losses that are far above are cut off, such as those of runs that went wrong.
    """
    known = [[loss for loss in curve if math.isfinite(loss)] for curve in curves]
    lows = [min(curve) for curve in known if curve]
    if not lows:
        return 0.0, 1.0
    top = min(max(map(max, filter(None, known))), max(lows) + HEIGHT)
    margin = max(0.05 * (top - min(lows)), 1e-3)
    return min(lows) - margin, top + margin


def _spread(numbers: Sequence[float]) -> str:
    """The mean, the lowest and the highest, as text."""
    return f"{mean(numbers):.3f} ({min(numbers):.3f} to {max(numbers):.3f})"
