"""Time type checkers on a file with a network of 200 modules, relative to one without modules.

    python -m benchmarks.typecheck

Both files import torch and modula; one builds a chain of 200 modules, with residual blocks, tuples
and activations, the other has as many lines of plain torch. Each checker starts anew for every run,
with its cache of torch and modula. Prints medians over several runs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

HEAD = (
    "import torch\n"
    "\n"
    "from modula import RMS, Add, Embed, Identity, Linear, Module, OneHot, ReLU, RMSNorm\n"
    "\n"
)


def with_modules(count: int) -> str:
    """Return a program whose network has `count` modules, in blocks of ten."""
    lines = ["network_0: Module[OneHot, RMS] = Embed(8, 8)"]
    for i in range(count // 10):
        lines += [
            f"branch_{i} = Linear(8, 8) @ ReLU() @ Linear(8, 8) @ RMSNorm()",
            f"block_{i} = 0.5 * Identity() + 0.5 * branch_{i}",
            (
                f"network_{i + 1} = Linear(8, 8) @ Add() @ (Linear(8, 8), Identity()) @ block_{i} "
                f"@ network_{i}"
            ),
        ]
    return HEAD + "\n".join([*lines, f"result = network_{count // 10}(torch.arange(8))"]) + "\n"


def without_modules(count: int) -> str:
    """Return a program of as many lines, on tensors only."""
    lines = ["x_0 = torch.ones(8, 8)"]
    for i in range(count // 10):
        lines += [
            f"a_{i} = x_{i} @ x_{i} + x_{i} @ x_{i}",
            f"b_{i} = 0.5 * x_{i} + 0.5 * a_{i}",
            f"x_{i + 1} = (a_{i} @ b_{i} + x_{i}) @ x_{i}",
        ]
    return HEAD + "\n".join([*lines, f"result = x_{count // 10}.sum()"]) + "\n"


def seconds(command: list[str], program: Path, texts: list[str], runs: int) -> list[float]:
    """Return the median time to check each of `texts`, taken in turns.

    The texts differ a little from run to run, so that the checker cannot cache its results.
    """
    times: list[list[float]] = [[] for _ in texts]
    for run in tqdm(range(runs + 1), unit="run", leave=False):
        for text, taken in zip(texts, times, strict=True):
            program.write_text(f"{text}\nrun = {run}\n", encoding="utf-8")
            start = time.perf_counter()
            subprocess.run([*command, str(program)], check=True, capture_output=True)
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--modules", type=int, default=200, help="modules in the network (default %(default)s)"
    )
    parser.add_argument(
        "--runs",
        type=int,
        default=5,
        help="repetitions, of which the median counts (default %(default)s)",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = folder / "program.py"
        checkers = {
            "mypy": [
                sys.executable,
                "-m",
                "mypy",
                "--strict",
                "--config-file=",
                f"--cache-dir={folder / 'cache'}",
            ],
            "pyright": [sys.executable, "-m", "pyright", f"--pythonpath={sys.executable}"],
        }
        for checker, command in checkers.items():
            texts = [without_modules(options.modules), with_modules(options.modules)]
            none, many = seconds(command, program, texts, options.runs)
            print(
                f"{checker:8} {none:6.2f} s with no module, {many:6.2f} s with {options.modules}: "
                f"{many / none:.2f} times (at most 1.5)"
            )


if __name__ == "__main__":
    main()
