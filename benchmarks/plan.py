"""What the Python around the batched mathematics costs, on a tree of 1,000 atoms.

    python -m benchmarks.plan

Prints the time to build the plan, and what a whole `dualize` takes beyond the same batched
mathematics done by hand on tensors that are stacked already. Medians over many runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from modula import RMS, Linear, Module, ReLU
from modula.geometry import operator_geometry


def tree(atoms: int, width: int) -> Module[RMS, RMS]:
    """A chain of `atoms` Linears with a bond between them, in blocks of ten."""
    return ((Linear(width, width) @ ReLU()) ** 10) ** (atoms // 10)


def median_ms(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--atoms", type=int, default=1000)
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()

    torch.set_num_threads(1)
    model = tree(options.atoms, options.width)
    grad = model.gradient(model(torch.randn(8, options.width)).square().mean())
    stacked = torch.stack(grad.tensors)
    geometry = operator_geometry(RMS, RMS)

    plan = median_ms(model.plan, options.repeats)
    mathematics = median_ms(lambda: geometry.dualize(stacked), options.repeats)
    dualize = median_ms(lambda: model.dualize(grad), options.repeats)
    print(
        f"a tree of {options.atoms} atoms of {options.width}×{options.width}, medians of "
        f"{options.repeats} runs"
    )
    print(f"  building the plan                       {plan:8.2f} ms   (at most 50)")
    print(f"  dualize                                 {dualize:8.2f} ms")
    print(f"  the batched mathematics alone           {mathematics:8.2f} ms")
    print(
        f"  what Python adds                        {dualize - mathematics:8.2f} ms   (at most 5)"
    )


if __name__ == "__main__":
    main()
