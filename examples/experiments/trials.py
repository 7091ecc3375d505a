"""Common parts of the experiments: stored runs, curves with a band over seeds, published tables."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import matplotlib
from tqdm import tqdm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = DOCS / "results" / "experiments"
RUNS = Path("runs/experiments")
COLUMNS = 100


class Record(Protocol):
    """A frozen dataclass of numbers and strings, or of lists of them."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


T = TypeVar("T", bound=Record)
R = TypeVar("R", bound=Record)


class Runs(Generic[T, R]):
    """The results of runs, by trial, in a JSON file to which each run is added when it ends.

    Runs that are in the file are not repeated, so that an experiment that was stopped continues and
    ends with the same file.

    Args:
        file: the JSON file.
        trial: a dataclass of the settings in which runs differ.
        result: a dataclass of the numbers that a run returns.
        settings: settings that all runs have in common, such as their number of steps.
        fresh: discard the runs that are in the file.

    Raises:
        SystemExit: the file holds runs of other settings.
    """

    def __init__(
        self,
        file: Path,
        trial: type[T],
        result: type[R],
        settings: Mapping[str, object],
        *,
        fresh: bool = False,
    ) -> None:
        self.file = file
        self.settings: dict[str, object] = json.loads(json.dumps(settings, default=str))
        self.results: dict[T, R] = {}
        if fresh or not file.exists():
            return
        content = json.loads(file.read_text())
        if content["settings"] != self.settings:
            both = {**content["settings"], **self.settings}
            differ = [key for key in both if content["settings"].get(key) != self.settings.get(key)]
            written = ", ".join(
                f"{key} {content['settings'].get(key)}, now {self.settings.get(key)}"
                for key in differ
            )
            raise SystemExit(
                f"{file} holds runs of other settings ({written}): pass --fresh to begin anew, or "
                "another --out"
            )
        self.results = {trial(**run["trial"]): result(**run["result"]) for run in content["runs"]}

    def make(self, trials: Iterable[T], run: Callable[[T], R], bar: Bar) -> None:
        """Run those of the trials that have no result yet."""
        for trial in trials:
            if trial not in self.results:
                self.results[trial] = run(trial)
                self._store()
                bar.advance(trial)

    def _store(self) -> None:
        """Write the file whole or not at all, with the runs in the order of their trials."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            {"trial": asdict(trial), "result": asdict(result)}
            for trial, result in self.results.items()
        ]
        rows.sort(key=lambda row: [*row["trial"].values()])
        unfinished = self.file.with_suffix(".tmp")
        lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
        unfinished.write_text(
            f"{{\n"
            f' "settings": {json.dumps(self.settings, ensure_ascii=False)},\n'
            ' "runs": [\n'
            f"{lines}\n"
            " ]\n"
            f"}}\n"
        )
        os.replace(unfinished, self.file)


class Bar:
    """A progress bar over runs of unequal length.

    Args:
        cost: the time that a run takes, in any unit.
        expected: all trials, as far as they are known beforehand. A search finds its rates as it
            goes, so that a trial stands for one with any rate.
        made: those that have results already, among others.
    """

    def __init__(
        self, cost: Callable[[Any], float], expected: Iterable[object], made: Iterable[object]
    ) -> None:
        self.cost = cost
        expected = list(expected)
        missing = Counter(map(_apart_from_the_rate, expected))
        gone = 0.0
        for trial in made:
            kind = _apart_from_the_rate(trial)
            gone += cost(trial) if missing[kind] > 0 else 0.0
            missing[kind] -= 1
        layout = "{percentage:3.0f}%|{bar}| {elapsed} elapsed, {remaining} remaining{postfix}"
        self.bar = tqdm(total=max(sum(map(cost, expected)), 1e-9), initial=gone, bar_format=layout)

    def advance(self, trial: object) -> None:
        self.bar.total = max(self.bar.total or 0.0, self.bar.n + self.cost(trial))
        self.bar.set_postfix_str(
            " ".join(
                f"{value:g}" if isinstance(value, float) else str(value)
                for value in vars(trial).values()
            )
        )
        self.bar.update(self.cost(trial))

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def _apart_from_the_rate(trial: object) -> tuple[str, ...]:
    return tuple(f"{name}={value!r}" for name, value in vars(trial).items() if name != "lr")


def arguments(description: str | None, seeds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that every experiment has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small networks and few steps, which show the shape of the curves in minutes",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=seeds,
        help="repetitions, from other initial weights and on other batches (default %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=RUNS,
        help=(
            "folder of the picture and the numbers; docs/results/experiments updates the page of "
            "the documentation (default %(default)s)"
        ),
    )
    parser.add_argument("--fresh", action="store_true", help="discard the runs in --out")
    return parser


def powers(low: float, high: float, ratio: float = 2.0) -> list[float]:
    """Return `low`, `low`·`ratio`, … up to `high`, the rates of a grid."""
    return [low * ratio**k for k in range(round(math.log(high / low, ratio)) + 1)]


def mean(losses: Sequence[float | None]) -> float:
    """Return the mean over seeds, infinite if a run diverged, which is None."""
    finite = [loss for loss in losses if loss is not None]
    return statistics.fmean(finite) if len(finite) == len(losses) else math.inf


def finite(loss: float) -> float | None:
    """Return `loss`, or None if the run diverged, since JSON has no infinity."""
    return loss if math.isfinite(loss) else None


def band(
    axes: Axes,
    curve: Mapping[float, Sequence[float | None]],
    color: object,
    label: str,
    *,
    best: bool = False,
    style: str = "-",
) -> None:
    """Draw the means over seeds, with a band from the lowest to the highest.

    Runs that diverged are left out.

    Args:
        axes: where to draw.
        curve: the losses of all seeds, by rate.
        color, label: of the line.
        best: mark the lowest mean.
        style: of the line, as matplotlib writes it.
    """
    xs = sorted(x for x in curve if math.isfinite(mean(curve[x])))
    if not xs:
        return
    means = [mean(curve[x]) for x in xs]
    seeds = [[y for y in curve[x] if y is not None] for x in xs]
    (line,) = axes.plot(xs, means, style, marker=".", color=color, label=label)
    axes.fill_between(
        xs,
        [min(ys) for ys in seeds],
        [max(ys) for ys in seeds],
        color=line.get_color(),
        alpha=0.2,
        linewidth=0,
    )
    if best:
        lowest = min(range(len(xs)), key=means.__getitem__)
        axes.plot(xs[lowest], means[lowest], "o", color=line.get_color(), markersize=8)


def canvas(
    rows: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of rows × columns axes, each of `size` inches, that needs no display."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(size[0] * columns, size[1] * rows),
        layout="constrained",
        squeeze=False,
        **options,
    )
    return figure, axes.tolist()


def wrapped(text: str) -> str:
    """Return Markdown with its prose wrapped at the columns of the documentation."""
    return "\n".join(
        line
        if line.startswith("|")
        else textwrap.fill(line, COLUMNS, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def publish(
    name: str,
    figure: Figure,
    text: str,
    out: Path,
    page: Path = DOCS / "results" / "experiments.md",
) -> None:
    """Save the picture and print the text; into the documentation's folder, update its page too."""
    from matplotlib import pyplot as plt

    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / f"{name}.png", dpi=90)
    plt.close(figure)
    text = wrapped(text)
    print(text)
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if out.resolve() == PICTURES.resolve() and begin in page.read_text():
        before, _, rest = page.read_text().partition(begin)
        picture = os.path.relpath(PICTURES / f"{name}.png", page.parent)
        page.write_text(
            f"{before}{begin}\n![{name}]({picture})\n\n{text}\n{end}{rest.partition(end)[2]}"
        )
