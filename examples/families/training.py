"""Train a network of one family at one width, by modula or by AdamW, from the same loop.

A family is a subclass of `Family` in a file of its own, which ends with a call of `main`. The list
of all is in benchmarks/families.py, which trains each and writes the table of the documentation.
"""

from __future__ import annotations

import argparse
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from tqdm import tqdm

from modula import AnyModule, SteepestDescent

OPTIMIZERS = ("modula", "adamw")


@dataclass(frozen=True)
class Measure:
    """The number by which trained networks are compared.

    Args:
        name: with its unit, as tables have it.
        is_error: whether less is better.
        format: of the number, as in format strings.
    """

    name: str
    is_error: bool
    format: str


ACCURACY = Measure("test accuracy", is_error=False, format=".1%")
LOSS = Measure("test loss", is_error=True, format=".3f")


class Family(ABC):
    """Networks of one kind at any width, with a task to train them on.

    A subclass sets the class variables, reads its data in `__init__`, and defines `network`, `loss`
    and `score`.

    Args:
        data: where the data are; None takes `default_data`.
    """

    title: ClassVar[str]
    """The kind of network and its task."""
    measure: ClassVar[Measure]
    """The kind of number that `score` returns."""
    widths: ClassVar[tuple[int, ...]]
    """Of at least two networks, the narrowest first."""
    steps: ClassVar[int]
    """The number of training steps."""
    rates: ClassVar[Mapping[str, tuple[float, ...]]]
    """The peak learning rates to try, in rising order, for each of `OPTIMIZERS`."""
    default_data: ClassVar[Path | None] = None
    """Where the data are by default; None if they are made and not read."""

    def __init__(self, data: Path | None = None) -> None:
        self.data = self.default_data if data is None else data

    @abstractmethod
    def network(self, width: int) -> AnyModule:
        """Return a fresh network."""

    @abstractmethod
    def loss(self, model: AnyModule, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch that is drawn from the generator, a scalar."""

    @abstractmethod
    def score(self, model: AnyModule) -> float:
        """Return how well a network does on data that it was not trained on."""


@dataclass(frozen=True)
class Trial:
    """One run.

    Args:
        family: the name of its file.
        optimizer: one of `OPTIMIZERS`.
        width: of the network.
        lr: the peak learning rate, which falls to zero in a line.
        seed: of weights and batches.
    """

    family: str
    optimizer: str
    width: int
    lr: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The score of a run, and the processor time of its training in seconds."""

    score: float
    seconds: float


def train(family: Family, trial: Trial, steps: int | None = None) -> Outcome:
    """Train a fresh network, and return its score."""
    steps = family.steps if steps is None else steps
    torch.manual_seed(trial.seed)
    batches = torch.Generator().manual_seed(trial.seed)
    model = family.network(trial.width)
    optimizer = _optimizer(trial.optimizer, model, trial.lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    start = time.process_time()
    bar = tqdm(range(steps), unit="step", desc=f"{trial.family}, {trial.optimizer}", leave=False)
    for _ in bar:
        loss = family.loss(model, batches)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch does not annotate it
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    seconds = time.process_time() - start
    model.eval()
    with torch.no_grad():
        return Outcome(family.score(model), seconds)


def _optimizer(name: str, model: AnyModule, lr: float) -> torch.optim.Optimizer:
    if name == "modula":
        return SteepestDescent(model, lr, momentum=0.9)
    return torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.95), weight_decay=0.01)


def main(kind: type[Family], arguments: Sequence[str] | None = None) -> float:
    """Train one network by the options of the command line, print its score, and return it."""
    options = _parser(kind).parse_args(arguments)
    family = kind(options.data)
    lr = kind.rates[options.optimizer][2] if options.lr is None else options.lr
    print(family.network(options.width))
    trial = Trial(kind.__name__, options.optimizer, options.width, lr, options.seed)
    outcome = train(family, trial, options.steps)
    print(
        f"{kind.title}, {trial.optimizer}, width {trial.width}, learning rate {lr:g}: "
        f"{kind.measure.name} {outcome.score:{kind.measure.format}} after {options.steps} steps "
        f"in {outcome.seconds:.1f} s"
    )
    return outcome.score


def _parser(kind: type[Family]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=kind.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        default="modula",
        help="which optimizer trains the network (default %(default)s)",
    )
    parser.add_argument(
        "--lr", type=float, help=f"peak learning rate; the middle one of {dict(kind.rates)} if none"
    )
    parser.add_argument(
        "--width",
        type=int,
        default=kind.widths[0],
        help="of the network (default %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, default=kind.steps, help="training steps (default %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights and batches (default %(default)s)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=kind.default_data,
        help="where the data are (default %(default)s)",
    )
    return parser
