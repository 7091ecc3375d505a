"""`mass_sweep`: the loss of small networks as a function of the mass of one part."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from modula.atomic import write_whole
from modula.checks import check_mass
from modula.instruments.report import canvas, caption, table
from modula.network import Network

if TYPE_CHECKING:
    from matplotlib.axes import Axes

M = TypeVar("M", bound=Network)


@dataclass(frozen=True)
class Run:
    """One network, trained once."""

    model: str
    mass: float
    seed: int
    loss: float


@dataclass(frozen=True)
class Point:
    """The runs of one network at one mass."""

    mass: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class MassSweep:
    """The runs of a sweep."""

    at: str
    """The part whose mass was varied."""

    runs: tuple[Run, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the networks."""
        return tuple(dict.fromkeys([run.model for run in self.runs]))

    def curve(self, model: str) -> tuple[Point, ...]:
        """Return mean, lowest and highest loss over seeds at each mass, by rising mass.

        They are NaN if a run diverged.

        Raises:
            KeyError: there is no network of that name.
        """
        if model not in self.models:
            raise KeyError(
                f"no network {model!r} in this sweep; there are {', '.join(map(repr, self.models))}"
            )
        by_mass: dict[float, list[float]] = {}
        for run in self.runs:
            if run.model == model:
                by_mass.setdefault(run.mass, []).append(run.loss)
        return tuple([_point(mass, by_mass[mass]) for mass in sorted(by_mass)])

    def best(self, model: str) -> Point:
        """Return the mass with the lowest mean loss.

        Raises:
            KeyError: there is no network of that name.
            ValueError: every run of it diverged.
        """
        points = [point for point in self.curve(model) if math.isfinite(point.mean)]
        if not points:
            raise ValueError(f"every run of {model!r} diverged: lower the learning rate")
        return min(points, key=lambda point: point.mean)

    def __str__(self) -> str:
        masses = sorted({run.mass for run in self.runs})
        points = {
            (model, point.mass): point for model in self.models for point in self.curve(model)
        }
        header = [f"mass of {self.at}", *self.models]
        cells = [
            [f"{mass:g}", *[_written(points.get((model, mass))) for model in self.models]]
            for mass in masses
        ]
        best = ", ".join(
            [
                f"{self.best(model).mass:g} for {model}"
                for model in self.models
                if _finite(self.curve(model))
            ]
        )
        return f"{table(header, cells, left=())}\nbest: {best or 'every run diverged'}"

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the loss over the mass, one line a network.

        A band reaches from the lowest to the highest seed, and a dot marks the best mass.

        Args:
            axes: to draw on; None makes a new figure.

        Returns:
            The axes that were drawn on.

        Raises:
            ImportError: matplotlib is not installed.
        """
        axes = canvas(axes)
        for i, model in enumerate(self.models):
            curve = self.curve(model)
            masses = [point.mass for point in curve]
            axes.plot(
                masses, [point.mean for point in curve], color=f"C{i}", marker=".", label=model
            )
            axes.fill_between(
                masses,
                [point.low for point in curve],
                [point.high for point in curve],
                color=f"C{i}",
                alpha=0.2,
                linewidth=0,
            )
            if _finite(curve):
                axes.plot(
                    self.best(model).mass, self.best(model).mean, "o", color=f"C{i}", markersize=9
                )
        axes.set(xscale="log", xlabel=f"mass of {self.at}", ylabel="loss")
        caption(axes, "Loss over mass")
        return axes


def mass_sweep(
    build: Mapping[str, Callable[[], M]],
    train: Callable[[M], float],
    at: str,
    masses: Sequence[float],
    *,
    seeds: Sequence[int] = (0,),
    save: str | Path | None = None,
    progress: bool = True,
) -> MassSweep:
    """Train small networks with each of several masses for one part, and compare their losses.

    The best mass of a small network serves larger ones if it is the same at every size: build
    networks of two or more sizes to see whether it is.

    Args:
        build: functions that make the networks, by the names that the plot shows. Each is called
            under a seed.
        train: trains a network and returns its loss, under the same seed. NaN and infinity count as
            diverged.
        at: the part, by path or by the name of a class, as `tare` takes it. The other masses stay
            as they were built.
        masses: the grid, each > 0.
        seeds: of the random numbers; every network is trained once for each mass and seed.
        save: a JSON file to which every run is added when it ends. Runs that are in it are not
            repeated, so that a sweep that was stopped goes on.
        progress: whether to show a bar, if tqdm is installed.

    Returns:
        All runs. Print it, `.plot()` it, ask for `.best(name)`. The random numbers of the caller
        are as before.

    Raises:
        ValueError: an empty grid, or a mass that is not positive and finite; a network without that
            part; a file of another sweep.

    Example:
        >>> import torch
        >>> from modula import ResMLP
        >>> from modula.instruments import mass_sweep
        >>> def train(model: ResMLP) -> float:
        ...     x, y = torch.randn(64, 8), torch.randn(64, 2)
        ...     for step in range(5):
        ...         loss = (model(x) - y).square().mean()
        ...         model.weights -= model.dualize(model.gradient(loss), target_norm=0.1)
        ...     return loss.item()
        >>> build = {"2 blocks": lambda: ResMLP(2, 8, width=16, num_blocks=2)}
        >>> sweep = mass_sweep(build, train, "Composition", [0.5, 2.0], progress=False)
        >>> [run.mass for run in sweep.runs]
        [0.5, 2.0]

    Source: Large et al. 2024 (arXiv:2405.14813), figure 3.
    """
    for mass in masses:
        check_mass(at, mass)
    if not (build and seeds and masses) or min(masses) == 0:
        raise ValueError(
            f"a sweep takes at least one network, one seed and one mass > 0; got {list(build)}, "
            f"{list(seeds)}, {list(masses)}"
        )
    file = None if save is None else Path(save)
    done = _load(file, at)
    wanted = list(product(build, masses, seeds))
    for model, mass, seed in _bar(
        [key for key in wanted if key not in done], len(wanted), progress
    ):
        done[model, mass, seed] = Run(
            model, mass, seed, _trained(build[model], train, at, mass, seed)
        )
        _store(file, at, list(done.values()))
    return MassSweep(at, tuple([done[key] for key in wanted]))


def _trained(
    build: Callable[[], M], train: Callable[[M], float], at: str, mass: float, seed: int
) -> float:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        return float(train(build().tare(mass, at)))


Key = tuple[str, float, int]


def _bar(keys: list[Key], total: int, progress: bool) -> Iterator[Key]:
    """The keys, with a progress bar if one is wanted and tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield from keys
    else:
        yield from tqdm(
            keys, initial=total - len(keys), total=total, unit="run", disable=not progress
        )


def _load(file: Path | None, at: str) -> dict[Key, Run]:
    if file is None or not file.exists():
        return {}
    try:
        content = json.loads(file.read_bytes())
        runs = [Run(**run) for run in content["runs"]]
        found = content["at"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is not a file of sweeps, or is damaged: save this one to another file"
        ) from error
    if found != at:
        raise ValueError(
            f"{file} holds a sweep over the mass of {found!r}, not of {at!r}: save this "
            "one to another file"
        )
    return {(run.model, run.mass, run.seed): run for run in runs}


def _store(file: Path | None, at: str, runs: Sequence[Run]) -> None:
    """Write all runs to the file, if there is one."""
    if file is not None:
        content = {"at": at, "runs": [asdict(run) for run in runs]}
        text = json.dumps(content, indent=1) + "\n"
        write_whole(file, lambda opened: opened.write(text.encode()))


def _point(mass: float, losses: Sequence[float]) -> Point:
    if not all(map(math.isfinite, losses)):
        return Point(mass, math.nan, math.nan, math.nan)
    return Point(mass, statistics.mean(losses), min(losses), max(losses))


def _finite(curve: Sequence[Point]) -> bool:
    return any(math.isfinite(point.mean) for point in curve)


def _written(point: Point | None) -> str:
    if point is None:
        return "·"
    if not math.isfinite(point.mean):
        return "diverged"
    return (
        f"{point.mean:.4g}"
        if point.low == point.high
        else f"{point.mean:.4g} ({point.low:.4g} to {point.high:.4g})"
    )
