"""Time the Python around the batched mathematics, on a network of 1,000 atoms.

    python -m benchmarks.plan
    python -m benchmarks.plan --against ../other   # beside another checkout, in one run

It prints the time to build the plan, and the time that `dualize` takes beyond the same mathematics
on tensors that are stacked already: medians of CPU time over many calls. With `--against`, both
checkouts run in turns, in processes of their own, so that a busy machine slows both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from modula import RMS, Linear, Module, ReLU
from modula.geometry import operator_geometry

HERE = Path(__file__).parents[1]
WORK = {
    "plan": "building the plan",
    "dualize": "dualize",
    "mathematics": "the batched mathematics alone",
}


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


def measure(atoms: int, width: int, repeats: int) -> dict[str, float]:
    """Return the median time of each piece of work in milliseconds."""
    torch.set_num_threads(1)
    model = tree(atoms, width)
    grad = model.gradient(model(torch.randn(8, width)).square().mean())
    stacked = torch.stack(list(grad.tensors))
    geometry = operator_geometry(RMS, RMS)
    # a checkout from before `plan` was public has `_plan`
    plan: Callable[[], object] = getattr(model, "plan", None) or getattr(model, "_plan")  # noqa: B009
    return {
        "plan": median_ms(plan, repeats),
        "dualize": median_ms(lambda: model.dualize(grad), repeats),
        "mathematics": median_ms(lambda: geometry.dualize(stacked), repeats),
    }


def measure_in(checkout: Path, arguments: Sequence[str]) -> dict[str, float]:
    """Return the same, measured in a process of its own with the library of that checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--json", *arguments]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(output.stdout)
    return found


def compare(other: Path, rounds: int, arguments: Sequence[str]) -> None:
    """Print the medians of both checkouts over several rounds, and their ratio."""
    if not (other / "modula" / "__init__.py").is_file():
        raise SystemExit(f"--against takes a checkout, a folder that holds modula/; got {other}")
    times: dict[Path, list[dict[str, float]]] = {HERE: [], other: []}
    for _ in tqdm(range(rounds), unit="round", leave=False):
        for checkout, measured in times.items():
            measured.append(measure_in(checkout, arguments))
    print(f"medians of {rounds} processes each, in ms: this checkout, {other}, this over the other")
    for work, label in WORK.items():
        here, there = (statistics.median([one[work] for one in found]) for found in times.values())
        print(f"  {label:34}{here:8.2f} {there:8.2f}   {here / there:.2f}")


def report(found: dict[str, float]) -> None:
    bounds = {"plan": "   (at most 50)"}
    for work, label in WORK.items():
        print(f"  {label:34}{found[work]:8.2f} ms{bounds.get(work, '')}")
    added = found["dualize"] - found["mathematics"]
    print(f"  {'added by Python':34}{added:8.2f} ms   (at most 5)")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--atoms", type=int, default=1000, help="of the network (default %(default)s)"
    )
    parser.add_argument(
        "--width", type=int, default=4, help="number of features (default %(default)s)"
    )
    parser.add_argument(
        "--repeats", type=int, default=50, help="calls that are timed (default %(default)s)"
    )
    parser.add_argument(
        "--against", type=Path, help="another checkout to compare with (default: none)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="processes of each checkout (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers alone")
    options = parser.parse_args()

    if options.against is not None:
        sizes = {name: getattr(options, name) for name in ("atoms", "width", "repeats")}
        arguments = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
        compare(options.against.resolve(), options.rounds, arguments)
        return
    found = measure(options.atoms, options.width, options.repeats)
    if options.json:
        print(json.dumps(found))
        return
    print(
        f"a network of {options.atoms} atoms of {options.width}×{options.width}, medians of "
        f"{options.repeats} calls"
    )
    report(found)


if __name__ == "__main__":
    main()
