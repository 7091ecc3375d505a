"""Time type checkers on a file with a network of 200 modules, relative to one without modules.

    python -m benchmarks.typecheck [--checkers mypy pyright pyrefly ty zuban]
                                   [--write docs/guides/type-errors.md]

Both files import torch and modula; one builds a chain of 200 modules, with residual blocks, tuples
and activations, the other has as many lines of plain torch. Each checker starts anew for every run,
with its cache of torch and modula if it keeps one. Prints medians over several runs, for mypy also
with the plugin modula.mypy.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from tests.typing.checkers import CHECKERS, DEVELOPED_WITH, WITH_PLUGIN, Checker
from tests.typing.installed import PROGRAMS, ROOT, Installation
from tests.typing.tables import write_table

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


def seconds(
    checker: Checker, installation: Installation, texts: list[str], runs: int
) -> list[float]:
    """Return the median time to check each of `texts`, taken in turns.

    The texts differ a little from run to run, so that the checker cannot cache its results.

    Raises:
        ValueError: the checker rejects a line.
    """
    program = installation.folder / PROGRAMS / "program.py"
    times: list[list[float]] = [[] for _ in texts]
    for run in tqdm(range(runs + 1), unit="run", leave=False):
        for text, taken in zip(texts, times, strict=True):
            program.write_text(f"{text}\nrun = {run}\n", encoding="utf-8")
            start = time.perf_counter()
            rejected = checker.errors(installation)
            taken.append(time.perf_counter() - start)
            if rejected:
                raise ValueError(f"{checker.name} rejects a right program: {rejected}")
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
    parser.add_argument(
        "--checkers",
        nargs="+",
        choices=CHECKERS,
        default=list(DEVELOPED_WITH),
        help="to time (default %(default)s)",
    )
    parser.add_argument("--write", type=Path, help="write the table of all five into this page")
    options = parser.parse_args()
    texts = [without_modules(options.modules), with_modules(options.modules)]
    names = CHECKERS if options.write else options.checkers
    checkers = {CHECKERS[name].version(): CHECKERS[name] for name in names}
    if "mypy" in names:
        checkers["mypy with modula.mypy"] = WITH_PLUGIN
    rows = [
        f"| checker | seconds, no module | seconds, {options.modules} modules | times |",
        "|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty").mkdir()
        installation = Installation.make(ROOT / "modula", folder / "empty", folder / "installed")
        for shown, checker in checkers.items():
            none, many = seconds(checker, installation, texts, options.runs)
            print(
                f"{shown:22} {none:6.2f} s with no module, {many:6.2f} s with {options.modules}: "
                f"{many / none:.2f} times (at most 1.5)",
                flush=True,
            )
            rows.append(f"| {shown} | {none:.2f} | {many:.2f} | {many / none:.2f} |")
    if options.write:
        write_table(options.write, "speed", rows)


if __name__ == "__main__":
    main()
