"""Measure the README's table: one GPT on tiny Shakespeare, by `model.dualize`, AdamW and Muon.

    python -m benchmarks.tiny_shakespeare                  # downloads the text
    python -m benchmarks.tiny_shakespeare --data FILE      # reads a copy of it
    python -m benchmarks.tiny_shakespeare --write README.md

Every run is `examples/train_gpt.py` with its defaults, on tiny Shakespeare; AdamW and Muon run at
five learning rates each. A run that has left its result.json is not repeated. Prints the table.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import textwrap
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.docs_tables import write_between

ROOT = Path(__file__).parent.parent
RATES = {
    "adamw": (4e-3, 5.7e-3, 8e-3, 1.13e-2, 1.6e-2),
    "muon": (1.4e-2, 2e-2, 2.8e-2, 4e-2, 5.7e-2),
}
NAMES = {
    "modula": "`model.dualize`",
    "adamw": "torch.optim.AdamW",
    "muon": "torch.optim.Muon, AdamW for embedding and head",
}


def run(data: str, out: Path, optimizer: str, seed: int, lr: float | None) -> dict[str, float]:
    """Return the numbers of one run, which is trained if it has left none."""
    result = out / f"{optimizer}-{'default' if lr is None else lr}-{seed}" / "result.json"
    if not result.exists():
        rate = [] if lr is None else ["--lr", str(lr)]
        script = [
            sys.executable,
            str(ROOT / "examples" / "train_gpt.py"),
            "--data",
            data,
            "--out",
            str(result.parent),
        ]
        subprocess.run([*script, "--optimizer", optimizer, "--seed", str(seed), *rate], check=True)
    numbers: dict[str, float] = json.loads(result.read_text())
    return numbers


def row(optimizer: str, runs: list[dict[str, float]], baseline: float) -> str:
    losses = [numbers["validation_loss"] for numbers in runs]
    seconds = statistics.median([numbers["seconds"] for numbers in runs])
    spread = f" ± {statistics.stdev(losses):.3f}" if len(losses) > 1 else ""
    loss = f"{statistics.mean(losses):.3f}{spread}"
    return (
        f"| {NAMES[optimizer]} | {runs[0]['lr']:g} | {loss} | {seconds:.0f} s | "
        f"{seconds / baseline:.2f} |"
    )


def table(data: str, out: Path, seeds: range) -> str:
    best: dict[str, list[dict[str, float]]] = {}
    for optimizer, rates in tqdm(RATES.items(), unit="optimizer"):
        first = {lr: run(data, out, optimizer, seeds[0], lr) for lr in rates}
        lr = min(first, key=lambda rate: first[rate]["validation_loss"])
        best[optimizer] = [run(data, out, optimizer, seed, lr) for seed in seeds]
    modula = [run(data, out, "modula", seed, None) for seed in seeds]
    baseline = statistics.median([numbers["seconds"] for numbers in best["adamw"]])
    header = (
        "| optimizer | learning rate | validation loss (nats per character) | training | of "
        "AdamW's time |"
    )
    lines = [
        header,
        "|---|---|---|---|---|",
        row("modula", modula, baseline),
        *[row(optimizer, runs, baseline) for optimizer, runs in best.items()],
        "",
        textwrap.fill(
            conditions(len(seeds)), width=100, break_long_words=False, break_on_hyphens=False
        ),
    ]
    return "\n".join(lines)


def conditions(seeds: int) -> str:
    """Return the conditions of the runs, for below the table."""
    return (
        "4 blocks, width 128, 4 heads, context 64, batch 12, 2,000 steps; the loss is over the "
        f"whole last tenth of the text. Seeds: {seeds}. AdamW ran at {tried('adamw')}, Muon at "
        f"{tried('muon')}, the best of which is shown. `model.dualize` ran at the defaults of "
        "`examples/train_gpt.py`; its rate, momentum, masses and activation were chosen on this "
        f"text, by the same loss. Measured on {machine()}, one run after another. To reproduce: "
        "`python -m benchmarks.tiny_shakespeare`."
    )


def tried(optimizer: str) -> str:
    """Return the learning rates at which an optimizer ran."""
    return ", ".join(f"{lr:g}" for lr in RATES[optimizer])


def machine() -> str:
    cores = "1 core" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} cores"
    return (
        f"{cores} of an {platform.machine()} processor, PyTorch "
        f"{torch.__version__.partition('+')[0]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="shakespeare",
        help='"shakespeare", or the path of a copy (default %(default)s)',
    )
    parser.add_argument(
        "--seeds", type=int, default=3, help="runs of each, for the mean and its spread (default 3)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "runs" / "tiny_shakespeare",
        help="folder of the runs (default %(default)s)",
    )
    parser.add_argument(
        "--write", type=Path, help="write the table into this page, between its marks"
    )
    options = parser.parse_args()
    written = table(options.data, options.out, range(options.seeds))
    print(written)
    if options.write:
        write_between(options.write, "results", written)


if __name__ == "__main__":
    main()
