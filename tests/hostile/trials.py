"""The hostile suite: every function `trial_…` of the modules beside this one.

A trial is `def trial_xxx(count: int, seed: int) -> int`, with one line that says what is tried. It
draws `count` hostile inputs from `seed`, gives them to the library, and returns how many were
handled wrongly. A refusal in an error of modula's own is right; any other exception counts as one
failure, and ends its round.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MODULES = sorted(
    name
    for _, name, _ in pkgutil.iter_modules([str(Path(__file__).parent)])
    if name not in ("draws", "trials") and not name.startswith(("test_", "__"))
)


@dataclass(frozen=True)
class Trial:
    """One kind of hostile input: the module it is in, and what is tried."""

    module: str
    run: Callable[[int, int], int]

    @property
    def tried(self) -> str:
        """What is tried, the docstring of the function without its full stop."""
        return (inspect.getdoc(self.run) or self.run.__name__).splitlines()[0].rstrip(".")

    @property
    def name(self) -> str:
        return f"{self.module}.{self.run.__name__.removeprefix('trial_')}"


@dataclass(frozen=True)
class Outcome:
    """How many inputs were tried, how many of them failed, and the first exception."""

    trials: int
    failures: int
    error: str = ""


def collected() -> Iterator[Trial]:
    """Yield every trial, in the order in which they are written."""
    for name in MODULES:
        module = importlib.import_module(f"tests.hostile.{name}")
        for function in vars(module).values():
            if (
                inspect.isfunction(function)
                and function.__name__.startswith("trial_")
                and function.__module__ == module.__name__
            ):
                yield Trial(name, function)


def attempt(trial: Trial, count: int, seed: int) -> Outcome:
    """Run one round of a trial."""
    try:
        return Outcome(count, trial.run(count, seed))
    except Exception:
        return Outcome(count, 1, traceback.format_exc())


def attempt_for(trial: Trial, seconds: float, limit: int, seed: int = 0) -> Outcome:
    """Run rounds of growing size, each with a seed of its own, until the time is over.

    Args:
        trial: the trial.
        seconds: the time; the last round may exceed it by as much as all earlier ones took.
        limit: the most inputs in all.
        seed: of the first round.
    """
    start, count, trials, failures, error = time.monotonic(), 1, 0, 0, ""
    while trials < limit:
        found = attempt(trial, min(count, limit - trials), seed)
        trials, failures = trials + found.trials, failures + found.failures
        error = error or found.error
        spent = time.monotonic() - start
        if spent * 2 > seconds:
            break
        count, seed = min(2 * count, max(1, int(trials / max(spent, 1e-3) * seconds / 2))), seed + 1
    return Outcome(trials, failures, error)
