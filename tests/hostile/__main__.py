"""Run the whole hostile suite, and write its table onto a page.

python -m tests.hostile --write docs/results/robustness.md
python -m tests.hostile --only matrices --seconds 5
"""

from __future__ import annotations

import argparse
import os
import platform
import textwrap
from pathlib import Path

import torch
from tqdm import tqdm

import modula
from benchmarks.docs_tables import write_between
from tests.hostile.trials import Outcome, Trial, attempt_for, collected


def main() -> None:
    """Run what the command line asks for; exit with 1 if anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="for each kind of trial (default: %(default)s)"
    )
    parser.add_argument(
        "--limit", type=int, default=20_000, help="trials of each kind at most (%(default)s)"
    )
    parser.add_argument("--only", default="", help="kinds whose name contains this text")
    parser.add_argument("--write", type=Path, help="the page that the table is written onto")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trials = [trial for trial in collected() if arguments.only in trial.name]
    found: list[tuple[Trial, Outcome]] = []
    for trial in (bar := tqdm(trials)):
        bar.set_description(trial.name)
        found.append((trial, attempt_for(trial, arguments.seconds, arguments.limit)))
        if found[-1][1].failures:
            tqdm.write(f"{trial.name}: {found[-1][1].failures} failed\n{found[-1][1].error}")
    print(table(found))
    if arguments.write:
        write_between(arguments.write, "hostile", table(found))
    raise SystemExit(any(outcome.failures for _, outcome in found))


def table(found: list[tuple[Trial, Outcome]]) -> str:
    """Return the rows of a page: what was tried, how often, and what failed."""
    total = sum(outcome.trials for _, outcome in found)
    failures = sum(outcome.failures for _, outcome in found)
    rows = [
        f"| {trial.module} | {trial.tried} | {outcome.trials:,} | {outcome.failures} |"
        for trial, outcome in found
    ]
    return "\n".join(
        [
            "| part | what was tried | trials | failures |",
            "| --- | --- | --- | --- |",
            *rows,
            f"| all | | {total:,} | {failures} |",
            "",
            textwrap.fill(
                f"Made by `make hostile` with modula {modula.__version__}, torch "
                f"{torch.__version__}, Python {platform.python_version()}, on {os.cpu_count()} "
                f"cores of {platform.machine()}, one thread.",
                100,
            ),
        ]
    )


if __name__ == "__main__":
    main()
