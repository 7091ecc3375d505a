"""Train a plain GPT, lifted and unchanged, beside torch's Muon and AdamW.

    python -m benchmarks.nanogpt                        # on tiny Shakespeare, downloaded once
    python -m benchmarks.nanogpt --data FILE            # on a copy of it
    python -m benchmarks.nanogpt --steps 2000           # longer, at lower rates
    python -m benchmarks.nanogpt --only muon --rates 0.02   # one system, at some rates
    python -m benchmarks.nanogpt --table                # the runs that were made so far
    python -m benchmarks.nanogpt --choose               # the settings that were compared
    python -m benchmarks.nanogpt --only "muon, decay 0.03"   # with a weight decay
    python -m benchmarks.nanogpt --times                # the processor time of a step of each
    python -m benchmarks.nanogpt --write docs/guides/lifting.md

The network is `examples/plain_gpt.py`, with a head of its own and with a tied one. Every system
runs at five rates with one seed, and then at the best of them with the others. Lifted, all tensors
have one rate; Muon trains the matrices of the blocks, and AdamW the rest at a rate of its own.
`--choose` compares settings of lifting on another text, the source of Python's standard library;
with `--characters` the text has as many as another one.

Each run is stored in --out as it ends, and is not repeated, so that the command may be stopped and
called again. Prints the tables.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.docs_tables import write_between
from benchmarks.tiny_shakespeare import ROOT, machine
from modula import SteepestDescent, lift
from modula.lift import Calibration
from modula.optim import Dualized, KeepFrobenius, Momentum, Rule, SecondMoments
from modula.polar import PolarExpress

sys.path.insert(0, str(ROOT / "examples"))
sys.path.insert(0, str(ROOT / "examples" / "experiments"))
import text
from plain_gpt import PlainGPT
from trials import Bar, Runs, finite, mean, wrapped

REST = 4e-3
"""AdamW's rate for the weights that Muon does not train."""

VALIDATION_WINDOWS = 800
"""The largest number of windows of the validation split on which a run is evaluated."""


MOMENTUM = Momentum(0.9)
DUALIZED = Dualized(MOMENTUM)


System: TypeAlias = Literal["lifted", "muon", "adamw"]


@dataclass(frozen=True)
class Setting:
    """How a system trains, and its rates.

    Args:
        name: in the table.
        rates: on which it runs.
        longer: on which it runs for more than `LONG` steps; empty for the same.
        warmup: the fraction of the steps in which the rate rises; afterwards it falls to zero.
        system: what trains.
        weight_decay: of `SteepestDescent`, of Muon (AdamW beside it has 0.1), or of AdamW alone.
        rule: of `SteepestDescent`.
        masses, calibrate: of `lift`.
    """

    name: str
    rates: tuple[float, ...]
    longer: tuple[float, ...] = ()
    warmup: float = 0.0
    system: System = "lifted"
    weight_decay: float = 0.0
    rule: Rule = DUALIZED
    masses: Mapping[str, float] | None = None
    calibrate: Calibration = "auto"


LIFTED = (0.113, 0.16, 0.226, 0.32, 0.45)
LONGER = (0.057, 0.08, 0.113, 0.16, 0.226)
MUON = Setting(
    "torch.optim.Muon, AdamW for the rest", (0.01, 0.014, 0.02, 0.028, 0.04), system="muon"
)
ADAMW = Setting(
    "torch.optim.AdamW",
    (2e-3, 4e-3, 5.7e-3, 8e-3, 1.13e-2),
    warmup=0.1,
    system="adamw",
    weight_decay=0.1,
)
SYSTEMS = {
    "lifted": Setting("`modula.lift`, SteepestDescent", LIFTED, LONGER),
    "muon": MUON,
    "adamw": ADAMW,
}
DECAYS = (0.01, 0.03, 0.1)
"""The weight decays that are compared."""

CHOSEN = (0.226, 0.32, 0.45)
LOWER = (0.08, 0.113, 0.16, 0.226, 0.32)
CHOICES = {
    "the default": Setting("the default", CHOSEN),
    "momentum 0.95": Setting("lifted, momentum 0.95", CHOSEN, rule=Dualized(Momentum(0.95))),
    "momentum 0.85": Setting("lifted, momentum 0.85", CHOSEN, rule=Dualized(Momentum(0.85))),
    "momentum 0.8": Setting("lifted, momentum 0.8", CHOSEN, rule=Dualized(Momentum(0.8))),
    "a warm-up": Setting("a warm-up of a tenth", CHOSEN, warmup=0.1),
    "attention 2": Setting("attention 2, MLPs 3", CHOSEN, masses={"attention": 2.0, "matrix": 3.0}),
    "attention 4": Setting("attention 4, MLPs 1", CHOSEN, masses={"attention": 4.0, "matrix": 1.0}),
    "tables 0.3": Setting("tables 0.3", CHOSEN, masses={"table": 0.3}),
    "small 1%": Setting("biases and gains 1%", CHOSEN, masses={"bias": 0.05, "gain": 0.02}),
    "small 15%": Setting("biases and gains 15%", CHOSEN, masses={"bias": 0.82, "gain": 0.41}),
    "MLPs 4": Setting("MLPs 4", CHOSEN, masses={"matrix": 4.0}),
    "four steps": Setting(
        "lifted, four steps of degree 5", CHOSEN, rule=Dualized(MOMENTUM, PolarExpress(4))
    ),
    "six steps": Setting(
        "lifted, six steps of degree 5", CHOSEN, rule=Dualized(MOMENTUM, PolarExpress(6))
    ),
    "rows": Setting("second moments of rows", CHOSEN, rule=SecondMoments(DUALIZED)),
    "rows, KeepFrobenius": Setting(
        "second moments of rows, Frobenius norm kept",
        CHOSEN,
        rule=SecondMoments(DUALIZED, rescaling=KeepFrobenius()),
    ),
    "init": Setting("calibrate='init'", LOWER, calibrate="init"),
    "flat": Setting("calibrate='flat'", CHOSEN, calibrate="flat"),
}
"""The settings of lifting that `--choose` compares."""

DECAYED = {
    f"{name}, decay {decay:g}": replace(
        SYSTEMS[name], name=f"{SYSTEMS[name].name}, decay {decay:g}", weight_decay=decay
    )
    for name in SYSTEMS
    for decay in DECAYS
}
"""Every system with other weight decays."""

SETTINGS = SYSTEMS | CHOICES | DECAYED


@dataclass(frozen=True)
class Trial:
    """One run."""

    tied: bool
    setting: str
    lr: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """The validation loss at the end of a run, None if it diverged."""

    loss: float | None


def made(setting: str, model: PlainGPT, example: Tensor, lr: float) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a setting, of which each trains some of the weights."""
    how = SETTINGS[setting]
    if how.system == "adamw":
        decay = how.weight_decay
        return [torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.99), weight_decay=decay)]
    if how.system == "muon":
        matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
        chosen = set(matrices)
        rest = [p for p in model.parameters() if p not in chosen]
        return [
            torch.optim.Muon(matrices, lr, weight_decay=how.weight_decay),
            torch.optim.AdamW(rest, REST, betas=(0.9, 0.99), weight_decay=0.1),
        ]
    net = lift(model, example, masses=how.masses, calibrate=how.calibrate)
    return [SteepestDescent(net, lr, rule=how.rule, weight_decay=how.weight_decay)]


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the rate of a step over the peak rate: a linear rise, then a linear fall to zero."""
    rising = (step + 1) / (warmup * steps) if warmup else 1.0
    return min(rising, (1 - step / steps) / (1 - warmup))


def train(trial: Trial, corpus: text.Corpus, options: argparse.Namespace) -> Outcome:
    torch.manual_seed(trial.seed)
    model = build(corpus.size, trial.tied, options)
    warmup = SETTINGS[trial.setting].warmup
    optimizers: list[torch.optim.Optimizer] = []
    for step in range(options.steps):
        x, y = text.shuffled(corpus.train, options.batch, options.context, step, trial.seed)
        optimizers = optimizers or made(trial.setting, model, x, trial.lr)
        loss = one_step(model, optimizers, x, y, schedule(step, options.steps, warmup))
        if not math.isfinite(loss):
            return Outcome(None)
    return Outcome(finite(evaluate(model, corpus.validation, options.context)))


def build(vocabulary: int, tied: bool, options: argparse.Namespace) -> PlainGPT:
    return PlainGPT(
        vocabulary,
        context=options.context,
        width=options.width,
        heads=options.heads,
        blocks=options.blocks,
        tied=tied,
    )


def one_step(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    x: Tensor,
    y: Tensor,
    decay: float = 1.0,
) -> float:
    """Take one step at `decay` times the peak rates, and return the loss before it."""
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call] # torch does not annotate it
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = decay * group.setdefault("peak_lr", group["lr"])
        optimizer.step()
    return loss.item()


@torch.no_grad()
def evaluate(model: nn.Module, ids: Tensor, context: int) -> float:
    """Return the mean loss over evenly spaced windows of `ids`."""
    x, y = text.windows(ids, context)
    every = math.ceil(len(x) / VALIDATION_WINDOWS)
    x, y = x[::every], y[::every]
    total = 0.0
    for inputs, targets in zip(torch.split(x, 64), torch.split(y, 64), strict=True):
        logits = model(inputs).flatten(0, 1)
        total += F.cross_entropy(logits, targets.flatten(), reduction="sum").item()
    return total / x.numel()


# Which runs are made

Row = tuple[bool, str]
"""Whether the head is tied, and the setting."""


def search(
    runs: Runs[Trial, Outcome],
    rows: Sequence[Row],
    corpus: text.Corpus,
    options: argparse.Namespace,
) -> None:
    """Run each setting at all rates with the first seed, then at the best with the others."""
    rates = {row: rates_of(row[1], options) for row in rows}
    expected = [
        Trial(*row, lr, seed)
        for row in rows
        for lr, seed in [
            *[(lr, 0) for lr in rates[row]],
            *[(rates[row][0], seed) for seed in range(1, options.seeds)],
        ]
    ]
    with Bar(lambda trial: 1.0, expected, runs.results) as bar:
        for row in rows:
            first = [Trial(*row, lr, 0) for lr in rates[row]]
            runs.make(first, lambda trial: train(trial, corpus, options), bar)
        for row in rows:
            lr = best_rate(runs.results, row)
            others = [Trial(*row, lr, seed) for seed in range(options.seeds)]
            runs.make(others, lambda trial: train(trial, corpus, options), bar)


def rates_of(setting: str, options: argparse.Namespace) -> tuple[float, ...]:
    """Return the rates on which a setting runs for so many steps, or those that are given."""
    if options.rates:
        return tuple(options.rates)
    how = SETTINGS[setting]
    return (how.longer or how.rates) if options.steps > LONG else how.rates


def best_rate(results: Mapping[Trial, Outcome], row: Row) -> float:
    """Return the rate with the lowest loss among those of the first seed."""
    losses = {
        trial.lr: mean([outcome.loss])
        for trial, outcome in results.items()
        if (trial.tied, trial.setting, trial.seed) == (*row, 0)
    }
    return min(losses, key=losses.__getitem__)


def stored(options: argparse.Namespace) -> Runs[Trial, Outcome]:
    """Return the runs that have been made with these options."""
    keys = ("steps", "batch", "context", "blocks", "width", "heads")
    settings: dict[str, object] = {key: getattr(options, key) for key in keys}
    settings["data"] = Path(options.data).name
    stem = Path(options.data).stem
    if options.characters is not None:
        settings["characters"] = options.characters
        stem = f"{stem}-{options.characters}"
    file = options.out / f"{stem}-{options.width}-{options.steps}.json"
    return Runs(file, Trial, Outcome, settings, fresh=options.fresh)


# What was found


def table(runs: Runs[Trial, Outcome], rows: Sequence[Row], options: argparse.Namespace) -> str:
    """Return the rows of which there are runs, with the conditions of these."""
    header = "| network | training | rates | best rate | seeds | validation loss |"
    lines = [header, "|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: row[0]):
        made = [trial for trial in runs.results if (trial.tied, trial.setting) == row]
        if not made:
            continue
        lr = best_rate(runs.results, row)
        tried = ", ".join(f"{rate:g}" for rate in sorted({t.lr for t in made if t.seed == 0}))
        losses = [runs.results[trial].loss for trial in made if trial.lr == lr]
        known = [loss for loss in losses if loss is not None]
        spread = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
        lines.append(
            f"| {'tied' if row[0] else 'untied'} | {SETTINGS[row[1]].name} | {tried} | {lr:g} | "
            f"{len(losses)} | {mean(losses):.3f}{spread} |"
        )
    return "\n".join([*lines, "", wrapped(conditions(options))])


def conditions(options: argparse.Namespace) -> str:
    """Return the conditions of the runs, for below the table."""
    others = f"; AdamW beside Muon at {REST:g}; AdamW alone after a rise in the first tenth"
    return (
        f"{options.blocks} blocks, width {options.width}, {options.heads} heads, context "
        f"{options.context}, batch {options.batch}, {options.steps:,} steps; nats a character, "
        f"on at most {VALIDATION_WINDOWS} windows of the last tenth of the text, evenly spaced. "
        f"All rates with the first seed, the best of them with all seeds. They fall to zero in a "
        f"line{'' if options.choose else others}."
    )


def times(options: argparse.Namespace) -> str:
    """Return the median processor time of a step of each system, over AdamW's, as a sentence.

    The systems take turns of a few steps, so that each finds the machine as the others do.
    """
    vocabulary = 65  # the number of characters in tiny Shakespeare
    x, y = torch.randint(vocabulary, (2, options.batch, options.context))
    taken: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    models = {name: build(vocabulary, False, options) for name in SYSTEMS}
    optimizers = {name: made(name, models[name], x, 1e-3) for name in SYSTEMS}
    for _ in tqdm(range(options.turns), leave=False, desc="processor time of a step"):
        for name in SYSTEMS:
            one_step(models[name], optimizers[name], x, y)  # finds the caches as others left them
            for _ in range(STEPS_A_TURN):
                start = time.process_time()
                one_step(models[name], optimizers[name], x, y)
                taken[name].append(time.process_time() - start)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    lifted, muon = (medians[name] / medians["adamw"] for name in ("lifted", "muon"))
    return (
        f"A step takes {lifted:.2f} of AdamW's processor time lifted, and {muon:.2f} by Muon, on "
        f"{machine()}."
    )


STEPS_A_TURN = 5
LONG = 1000
"""The number of steps above which a setting has its lower rates."""

USUAL = {"data": "shakespeare", "steps": 500, "batch": 12, "context": 64, "width": 128}
SMALL = {"data": "stdlib", "steps": 300, "batch": 8, "context": 32, "width": 64}


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        help='"stdlib", "shakespeare" or a UTF-8 file (by default "shakespeare", with --choose '
        '"stdlib")',
    )
    parser.add_argument("--characters", type=int, help="of the text, from its start (default: all)")
    parser.add_argument(
        "--choose", action="store_true", help="compare settings of lifting in place of systems"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(SETTINGS), help="which settings run (default: all)"
    )
    parser.add_argument(
        "--tied",
        choices=["both", "yes", "no"],
        default="both",
        help="whether the head is also the table of tokens (default %(default)s)",
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="runs at the best rate (default %(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, help="training steps (by default 500, with --choose 300)"
    )
    parser.add_argument("--rates", nargs="+", type=float, help="in place of those of each setting")
    parser.add_argument(
        "--table", action="store_true", help="show the runs that were made, and train nothing"
    )
    parser.add_argument(
        "--batch", type=int, help="windows of text per step (by default 12, with --choose 8)"
    )
    parser.add_argument(
        "--context", type=int, help="characters per window (by default 64, with --choose 32)"
    )
    parser.add_argument(
        "--blocks", type=int, default=4, help="number of blocks (default %(default)s)"
    )
    parser.add_argument(
        "--width", type=int, help="number of features (by default 128, with --choose 64)"
    )
    parser.add_argument(
        "--heads", type=int, default=4, help="attention heads (default %(default)s)"
    )
    parser.add_argument(
        "--times", action="store_true", help="measure processor time alone, and train nothing"
    )
    parser.add_argument(
        "--turns",
        type=int,
        default=20,
        help="of --times, in each of which all systems take steps (default %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "runs" / "nanogpt",
        help="folder of the numbers (default %(default)s)",
    )
    parser.add_argument("--fresh", action="store_true", help="discard the runs in --out")
    parser.add_argument(
        "--write", type=Path, help="write the table into this page, between its marks"
    )
    options = parser.parse_args(given)
    defaults = SMALL if options.choose else USUAL
    for key, value in defaults.items():
        if getattr(options, key) is None:
            setattr(options, key, value)
    return options


def main(given: Sequence[str] | None = None) -> None:
    options = parse(given)
    if options.times:
        measured = wrapped(times(options))
        print(measured)
        if options.write:
            write_between(options.write, "nanogpt-times", measured)
        return
    names = options.only or list(CHOICES if options.choose else SYSTEMS)
    kinds = {"both": (False, True), "yes": (True,), "no": (False,)}[options.tied]
    rows = [(tied, name) for name in names for tied in kinds]
    runs = stored(options)
    if not options.table:
        search(runs, rows, text.load(options.data, options.characters), options)
    written = table(runs, rows, options)
    print(written)
    if options.write:
        kind = "-choices" if options.choose else "-longer" if options.steps > LONG else ""
        write_between(options.write, f"nanogpt{kind}", written)


if __name__ == "__main__":
    main()
