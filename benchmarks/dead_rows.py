"""Train on a text of 4,096 byte pairs, most of which a batch does not contain, in several ways.

    python -m benchmarks.dead_rows                    # the source of Python's standard library
    python -m benchmarks.dead_rows --data FILE --name FILE
    python -m benchmarks.dead_rows --out docs/results/experiments   # and update the documentation

The average of gradients has a trace of every token that it ever took in, and the duality map gives
each row of the embedding the same length. A row whose token no longer occurs would move at full
length for ever. The ways differ in what such a row does. Needs the `tokenizers` library. Leaves the
loss curves as a picture and all numbers as JSON.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from modula import GPT, SteepestDescent, Update
from modula.geometry import Vectors
from modula.optim import Dualized, Momentum, Rule, Step

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "experiments"))
import byte_pairs
from text import shuffled, windows
from trials import DOCS, RUNS, Bar, Runs, canvas, publish, table

VOCABULARY, WIDTH, HEADS, BLOCKS, BATCH, CONTEXT = 4096, 64, 4, 2, 4, 64
RATES = (0.05, 0.1, 0.2, 0.4)
ADAM_RATES = (0.01, 0.03, 0.1, 0.3)
OTHERS_RATE = 0.1
"""Of the other weights, where AdamW trains the embedding."""

RARE = 20
"""A token is rare if training meets it fewer times than this."""

VALIDATION_WINDOWS, EVERY = 400, 10

Shares = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Of rows [n, 1]: the magnitudes of the average, those of the step's gradient, the number of steps
since the row was touched, and the momentum, to the share of its full length that each row moves."""


def floor(average: Tensor, gradient: Tensor, age: Tensor, momentum: float) -> Tensor:
    return (average / (0.1 * average.amax())).clamp(max=1)


def touched_alone(average: Tensor, gradient: Tensor, age: Tensor, momentum: float) -> Tensor:
    return (gradient > 0).float()


def fading(average: Tensor, gradient: Tensor, age: Tensor, momentum: float) -> Tensor:
    return momentum**age


def full(average: Tensor, gradient: Tensor, age: Tensor, momentum: float) -> Tensor:
    return torch.ones_like(average)


@dataclass(frozen=True)
class Rows(Rule):
    """The dualized average, with each row of a table at a share of its length."""

    shares: Shares
    average: Momentum = field(default_factory=Momentum)

    def buffers(self, p: Tensor) -> dict[str, torch.dtype]:
        return {**self.average.buffers(p), "age": torch.float32}

    def defaults(self) -> dict[str, object]:
        return dict(self.average.defaults())

    def __call__(self, step: Step) -> Update:
        average = self.average(step)
        update = step.plan.dualize(average, step.lr)
        for geometry, g, m, u, ages in zip(
            step.plan.geometries,
            step.gradient.tensors,
            average.tensors,
            update.tensors,
            step.buffers("age"),
            strict=True,
        ):
            if isinstance(geometry, Vectors):
                size, of_step = (t.abs().amax(dim=1, keepdim=True) for t in (m, g))
                age = ages[:, :1].add_(1).masked_fill_(of_step > 0, 0)
                u.mul_(self.shares(size, of_step, age, self.average.momentum))
        return update


WAYS: dict[str, Rule] = {
    "SteepestDescent": Dualized(),
    "full length for ever": Rows(full),
    "rows that are touched alone": Rows(touched_alone),
    "momentum^age": Rows(fading),
    "floor for all rows": Rows(floor),
}
ADAMW = "AdamW for the embedding"


@dataclass(frozen=True)
class Trial:
    """One run.

    Args:
        way: one of WAYS, or AdamW.
        rate: of the way; with AdamW, of the embedding.
        seed: of the weights and of the order of the text.
    """

    way: str
    rate: float
    seed: int


@dataclass(frozen=True)
class Result:
    """The losses of a run, in nats a token.

    Args:
        validation: over all tokens, and `rare`: over those that follow a rare one.
        curve: in training, means of ten steps.
        size: the mean RMS of the rows of the embedding at the end; 1 at the start.
    """

    validation: float
    rare: float
    curve: list[float]
    size: float


def run(trial: Trial, train: Tensor, validation: Tensor, steps: int) -> Result:
    torch.manual_seed(trial.seed)
    model = GPT(VOCABULARY, d_embed=WIDTH, num_heads=HEADS, num_blocks=BLOCKS)
    embedding = model.weights.tensors[0]
    by_adam = trial.way == ADAMW
    rule = Dualized() if by_adam else WAYS[trial.way]
    peak = OTHERS_RATE if by_adam else trial.rate
    optimizers: list[tuple[torch.optim.Optimizer, float]] = [
        (SteepestDescent(model, peak, rule=rule), peak)
    ]
    if by_adam:
        adam = torch.optim.AdamW([embedding], betas=(0.9, 0.95), weight_decay=0.1)
        optimizers.insert(0, (adam, trial.rate))
    losses = []
    seen = torch.zeros(VOCABULARY)
    for step in range(steps):
        x, y = shuffled(train, BATCH, CONTEXT, step, trial.seed)
        seen += torch.bincount(x.flatten(), minlength=VOCABULARY)
        model.zero_grad()
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()  # type: ignore[no-untyped-call] # torch does not annotate it
        for optimizer, rate in optimizers:
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
            optimizer.step()
            if by_adam:
                embedding.grad = None  # so that the other leaves it alone
        losses.append(loss.item())
    every, rare = evaluate(model, validation, seen < RARE)
    curve = [statistics.fmean(losses[k : k + EVERY]) for k in range(0, steps, EVERY)]
    size = embedding.detach().square().mean(dim=1).sqrt().mean().item()
    return Result(every, rare, curve, size)


@torch.no_grad()
def evaluate(model: GPT, ids: Tensor, is_rare: Tensor) -> tuple[float, float]:
    """Return the mean loss over the first windows of a text, and over what follows rare tokens."""
    x, y = windows(ids[: CONTEXT * VALIDATION_WINDOWS + 1], CONTEXT)
    losses = torch.cat(
        [
            F.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none")
            for inputs, targets in zip(torch.split(x, 50), torch.split(y, 50), strict=True)
        ]
    )
    return losses.mean().item(), losses[is_rare[x]].mean().item()


def trials(seeds: int) -> Iterator[Trial]:
    for way in (*WAYS, ADAMW):
        for rate in ADAM_RATES if way == ADAMW else RATES:
            for seed in range(seeds):
                yield Trial(way, rate, seed)


def best(results: dict[Trial, Result], way: str) -> tuple[float, list[Result]]:
    """Return the rate at which a way has the lowest validation loss, and its runs."""
    rates = sorted({trial.rate for trial in results if trial.way == way})
    runs = {r: [results[t] for t in results if t.way == way and t.rate == r] for r in rates}
    rate = min(rates, key=lambda r: statistics.fmean([one.validation for one in runs[r]]))
    return rate, runs[rate]


def text_of(results: dict[Trial, Result], source: str, steps: int, seeds: int) -> str:
    header = (
        "rows of the embedding",
        "best rate",
        "validation loss",
        "less the first way's, by seed",
        "after rare tokens",
        "RMS",
    )
    rows = []
    first = [one.validation for one in best(results, next(iter(WAYS)))[1]]
    for way in (*WAYS, ADAMW):
        rate, runs = best(results, way)
        losses = [one.validation for one in runs]
        differences = [loss - other for loss, other in zip(losses, first, strict=True)]
        rows.append(
            (
                way,
                f"{rate:g}",
                f"{statistics.fmean(losses):.3f} ({min(losses):.3f} to {max(losses):.3f})",
                f"{min(differences):+.3f} to {max(differences):+.3f}",
                f"{statistics.fmean([one.rare for one in runs]):.3f}",
                f"{statistics.fmean([one.size for one in runs]):.2f}",
            )
        )
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    adam = ", ".join(f"{rate:g}" for rate in ADAM_RATES)
    conditions = (
        f"Text: {source}, {VOCABULARY} byte pairs; a GPT of {BLOCKS} blocks of width {WIDTH}, "
        f"context {CONTEXT}, batch {BATCH}, {steps} steps, seeds: {seeds}; rates {rates}, for "
        f"AdamW {adam} with the other weights at {OTHERS_RATE:g}. Losses in nats a token. A token "
        f"is rare if training meets it fewer than {RARE} times. RMS: of the rows at the end, 1 at "
        "the start."
    )
    return f"{table(header, rows)}\n\n{conditions}"


def picture(results: dict[Trial, Result]) -> Figure:
    figure, ((axes,),) = canvas(1, 1, (7, 4))
    for way in (*WAYS, ADAMW):
        rate, runs = best(results, way)
        means = [statistics.fmean(losses) for losses in zip(*[r.curve for r in runs], strict=True)]
        axes.plot([EVERY * (k + 1) for k in range(len(means))], means, label=f"{way}, {rate:g}")
    axes.set(xlabel="step", ylabel="training loss (nats a token)")
    axes.legend()
    return figure


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default="stdlib", help='"stdlib", "shakespeare", or a file (default %(default)s)'
    )
    parser.add_argument(
        "--name", default="dead_rows", help="of the picture and the numbers (default %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=300, help="of a run (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (default %(default)s)")
    parser.add_argument("--out", type=Path, default=RUNS, help="folder (default %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="discard the runs in --out")
    options = parser.parse_args(given)

    source = Path(options.data).name
    corpus = byte_pairs.load(options.data, VOCABULARY)
    train, validation = corpus.train, corpus.validation
    settings = {"text": source, "tokens": len(train), "steps": options.steps}
    file = options.out / f"{options.name}.json"
    runs = Runs(file, Trial, Result, settings, fresh=options.fresh)
    planned = list(trials(options.seeds))
    with Bar(lambda _: 1.0, planned, runs.results) as bar:
        runs.make(planned, lambda trial: run(trial, train, validation, options.steps), bar)
    results = {trial: runs.results[trial] for trial in planned}
    text = text_of(results, source, options.steps, options.seeds)
    publish(options.name, picture(results), text, options.out, DOCS / "guides" / "optimizer.md")


if __name__ == "__main__":
    main()
