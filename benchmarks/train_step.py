"""Time a training step of the GPT example by `SteepestDescent`, `model.dualize`, AdamW and Muon.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --compile inductor    # needs a C++ compiler
    python -m benchmarks.train_step --device cuda --width 768 --blocks 12 --heads 12 --context 1024

All train one network in turns of a few steps, so that each finds the caches as its own training
leaves them; the first step of a turn is not counted. Prints medians over many turns. They train the
same network, not copies of it, because the addresses of a copy in memory change its time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from tqdm import tqdm

from modula import GPT, Gradient, SteepestDescent

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from gpt_settings import SETTINGS, Settings, network, optimizers, torch_optimizers

CHARACTERS = 65
COMPILED = ("SteepestDescent", "torch.optim.AdamW")
"""The optimizers whose step is compiled as well with --compile."""

STEPS_A_TURN = 5


class Timer:
    """Seconds between calls, each measured when the device has finished its work."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.last = 0.0
        self.lap()

    def lap(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        passed, self.last = now - self.last, now
        return passed


Step = Callable[[Tensor, Tensor, Timer], tuple[float, float]]
"""One training step on tokens and their successors.

It returns the seconds of forward and backward, and those of the rest."""


def loss_of(model: GPT, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def dualized(model: GPT, settings: Settings) -> Step:
    momentum = Gradient({name: torch.zeros_like(weight) for name, weight in model.weights.items()})
    grad = momentum  # outlives a step, as in a plain loop

    def step(x: Tensor, y: Tensor, timer: Timer) -> tuple[float, float]:
        nonlocal momentum, grad
        timer.lap()
        grad = model.gradient(loss_of(model, x, y))
        backward = timer.lap()
        momentum += grad
        momentum *= settings.momentum
        grad += momentum
        model.weights -= model.dualize(grad, target_norm=settings.lr)
        return backward, timer.lap()

    return step


Take = Callable[[], object]
"""The step of an optimizer."""


def as_it_is(take: Take) -> Take:
    return take


def optimized(
    model: GPT,
    optimizers: list[torch.optim.Optimizer],
    prepared: Callable[[Take], Take] = as_it_is,
) -> Step:
    takes = [prepared(optimizer.step) for optimizer in optimizers]

    def step(x: Tensor, y: Tensor, timer: Timer) -> tuple[float, float]:
        timer.lap()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss_of(model, x, y).backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        backward = timer.lap()
        for take in takes:
            take()
        return backward, timer.lap()

    return step


def compiled_by(counter: CompileCounterWithBackend) -> Callable[[Take], Take]:
    return lambda take: torch.compile(take, backend=counter)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", default="cpu", type=torch.device, help="on which to train (default %(default)s)"
    )
    parser.add_argument(
        "--turns", type=int, default=20, help="turns of each optimizer (default %(default)s)"
    )
    parser.add_argument(
        "--batch", type=int, default=12, help="windows of text per step (default %(default)s)"
    )
    parser.add_argument(
        "--context", type=int, default=64, help="characters per window (default %(default)s)"
    )
    parser.add_argument(
        "--blocks", type=int, default=4, help="number of blocks (default %(default)s)"
    )
    parser.add_argument(
        "--width", type=int, default=128, help="number of features (default %(default)s)"
    )
    parser.add_argument(
        "--heads", type=int, default=4, help="attention heads (default %(default)s)"
    )
    parser.add_argument(
        "--compile",
        metavar="BACKEND",
        default="",
        help="also compile the steps of SteepestDescent and AdamW, by inductor say (default: not)",
    )
    parser.add_argument(
        "--json", type=Path, help="also write the medians of the whole step, in ms, into this file"
    )
    options = parser.parse_args()

    torch.manual_seed(0)
    model = network(
        CHARACTERS,
        SETTINGS["modula"],
        width=options.width,
        heads=options.heads,
        blocks=options.blocks,
    ).to(options.device)
    settings = SETTINGS["modula"]
    steps = {
        "model.dualize": dualized(model, settings),
        "SteepestDescent": optimized(model, optimizers(settings, model)),
        "torch.optim.AdamW": optimized(model, torch_optimizers(SETTINGS["adamw"], model)),
        "torch.optim.Muon": optimized(model, torch_optimizers(SETTINGS["muon"], model)),
    }
    counters = {name: CompileCounterWithBackend(options.compile) for name in COMPILED}
    if options.compile:
        rate = torch.tensor(0.1, device=options.device)  # a number would be a constant of the graph
        descent, adam = counters.values()
        steps["SteepestDescent, compiled"] = optimized(
            model, [SteepestDescent(model, rate, rule=settings.rule)], compiled_by(descent)
        )
        steps["torch.optim.AdamW, compiled"] = optimized(
            model, torch_optimizers(SETTINGS["adamw"], model), compiled_by(adam)
        )
    timer = Timer(options.device)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in tqdm(range(options.turns), leave=False):
        for name, step in steps.items():
            for number in range(STEPS_A_TURN + 1):
                x, y = torch.randint(
                    CHARACTERS, (2, options.batch, options.context), device=options.device
                )
                times = step(x, y, timer)
                if number:
                    taken[name].append(times)
            model.zero_grad()
    totals = {name: statistics.median(sum(times) for times in rows) for name, rows in taken.items()}
    print(
        f"medians of {STEPS_A_TURN * options.turns} steps, {torch.get_num_threads()} threads, "
        f"PyTorch {torch.__version__}, {options.device}"
    )
    for name, rows in taken.items():
        backward, rest = (1000 * statistics.median(column) for column in zip(*rows, strict=True))
        ratio = totals[name] / totals["torch.optim.AdamW"]
        print(
            f"  {name:27} forward and backward {backward:7.2f} ms, the rest {rest:7.2f} ms; the "
            f"whole step {ratio:5.2f} of AdamW's"
        )
    if options.json:
        options.json.write_text(json.dumps({name: 1000 * total for name, total in totals.items()}))
    if options.compile:
        counts = ", ".join(f"{name} {counter.frame_count}" for name, counter in counters.items())
        print(f"graphs that were compiled: {counts}")


if __name__ == "__main__":
    main()
