"""Time a record of `watch` relative to n training steps of the GPT of examples/train_gpt.py.

    python -m benchmarks.watch

Prints the fraction for the default record of `watch`, which should stay below 3%, and for each
instrument by itself. The times are medians, of one processor core.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from modula import GPT, Gradient, Update
from modula.instruments import watch

DEFAULT = ("norm", "alignment", "spectra/gradient", "movement")
OTHERS = ("dual_norm", "spectra/update", "spectra/weights", "feature_learning")
SEARCHES = ("sensitivity", "well_normed")
LIMIT = 0.03


def discard(step: int, numbers: Mapping[str, float]) -> None:
    """Log nothing, so that the disk is not measured."""


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in tqdm(range(repeats), unit="step", leave=False):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def train_step(model: GPT, x: Tensor, y: Tensor, momentum: Gradient) -> tuple[Gradient, Update]:
    """Take one step as in examples/train_gpt.py."""
    grad = model.gradient(F.cross_entropy(model(x).flatten(0, 1), y.flatten()))
    momentum *= 0.85
    momentum += grad
    update = model.dualize(0.85 * momentum + grad, target_norm=0.1)
    model.weights -= update
    return grad, update


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--every",
        type=int,
        default=100,
        help="n, the steps between two records (default %(default)s)",
    )
    parser.add_argument(
        "--width", type=int, default=128, help="number of features (default %(default)s)"
    )
    parser.add_argument(
        "--blocks", type=int, default=4, help="number of blocks (default %(default)s)"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=20,
        help="repetitions, of which the median counts (default %(default)s)",
    )
    parser.add_argument(
        "--searches",
        action="store_true",
        help="time sensitivity and well_normed too, which takes minutes",
    )
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT(65, d_embed=options.width, num_heads=4, num_blocks=options.blocks)
    x, y = torch.randint(65, (2, 12, 64))
    momentum = Gradient({name: torch.zeros_like(weight) for name, weight in model.weights.items()})
    step = median_seconds(lambda: train_step(model, x, y, momentum), options.repeats)
    grad, update = train_step(model, x, y, momentum)
    idle = median_seconds(
        lambda: watch(model, 2**40, discard, start=1).step(x, gradient=grad, update=update),
        options.repeats,
    )
    print(
        f"GPT of {options.blocks} blocks, width {options.width}, batch 12 × 64; medians of "
        f"{options.repeats}"
    )
    print(f"  a training step                          {1000 * step:9.1f} ms")
    print(f"  a step of the watch that is not due      {1000 * idle:9.3f} ms")
    print(f"  a record every {options.every} steps{'':22}         of training")

    def line(
        name: str, record: Sequence[str], limit: str = "", repeats: int = options.repeats
    ) -> None:
        watcher = watch(model, 1, discard, record=record)
        seconds = median_seconds(lambda: watcher.step(x, gradient=grad, update=update), repeats)
        share = (seconds + (options.every - 1) * idle) / (options.every * step)
        print(
            (
                f"    {name:18}                     {1000 * seconds:9.1f} ms   {share:7.2%}   "
                f"{limit}"
            ).rstrip()
        )

    line("by default", DEFAULT, f"(at most {LIMIT:.0%})")
    for name in (*DEFAULT, *OTHERS):
        line(name, (name,))
    for name in SEARCHES if options.searches else ():
        line(name, (name,), repeats=1)


if __name__ == "__main__":
    main()
