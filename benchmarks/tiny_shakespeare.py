"""Measure the README's table: one GPT on tiny Shakespeare, by modula, AdamW and Muon.

    python -m benchmarks.gpt_search --out docs/results/experiments    # chose the settings
    python -m benchmarks.tiny_shakespeare                  # downloads the text
    python -m benchmarks.tiny_shakespeare --data FILE      # reads a copy of it
    python -m benchmarks.tiny_shakespeare --write README.md

Needs a C++ compiler, since forward and backward passes are compiled.

Every run is `examples/train_gpt.py` with its defaults, which `benchmarks.gpt_search` chose on
another text; nothing is chosen here. A run that has left its result.json is not repeated. Prints
the table.
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
from benchmarks.gpt_search import count_trials

ROOT = Path(__file__).parent.parent
NAMES = {
    "modula": "`SteepestDescent`, `SecondMoments` of rows",
    "dualize": "`model.dualize`",
    "muon": "torch.optim.Muon, AdamW for embedding and head",
    "adamw": "torch.optim.AdamW",
}
PLAIN = "plain"
"""modula's run without token shift."""

STEPS = {
    "modula": "SteepestDescent",
    "dualize": "model.dualize",
    "muon": "torch.optim.Muon",
    "adamw": "torch.optim.AdamW",
}
"""What `benchmarks.train_step` calls them."""


def run(data: str, out: Path, name: str, seed: int) -> dict[str, float]:
    """Return the numbers of one run, which is trained if it has left none."""
    result = out / f"{name}-{seed}" / "result.json"
    choice = ["--optimizer", name]
    if name == PLAIN:
        choice = ["--optimizer", "modula", "--token-shift", "0"]
    if not result.exists():
        script = [
            sys.executable,
            str(ROOT / "examples" / "train_gpt.py"),
            "--data",
            data,
            "--compile",
            "inductor",
            "--out",
            str(result.parent),
        ]
        subprocess.run([*script, *choice, "--seed", str(seed)], check=True)
    numbers: dict[str, float] = json.loads(result.read_text())
    return numbers


def loss_of(runs: list[dict[str, float]]) -> str:
    """Return the mean loss, and its standard deviation over seeds."""
    losses = [numbers["validation_loss"] for numbers in runs]
    spread = f" ± {statistics.stdev(losses):.3f}" if len(losses) > 1 else ""
    return f"{statistics.mean(losses):.3f}{spread}"


def step_times(out: Path) -> dict[str, float]:
    """Return the milliseconds of a step of each optimizer, measured in turns."""
    file = out / "steps.json"
    if not file.exists():
        script = [sys.executable, "-m", "benchmarks.train_step", "--json", str(file)]
        subprocess.run(script, check=True, cwd=ROOT)
    times: dict[str, float] = json.loads(file.read_text())
    return {optimizer: times[name] for optimizer, name in STEPS.items()}


def row(optimizer: str, runs: list[dict[str, float]], times: dict[str, float]) -> str:
    ratio = times[optimizer] / times["adamw"]
    return (
        f"| {NAMES[optimizer]} | {runs[0]['lr']:g} | {loss_of(runs)} | {times[optimizer]:.0f} ms | "
        f"{ratio:.2f} |"
    )


def table(data: str, out: Path, seeds: int) -> str:
    turns = [(seed, optimizer) for seed in range(seeds) for optimizer in NAMES]
    runs: dict[str, list[dict[str, float]]] = {optimizer: [] for optimizer in NAMES}
    for seed, optimizer in tqdm(turns, unit="run"):
        runs[optimizer].append(run(data, out, optimizer, seed))
    plain = run(data, out, PLAIN, 0)
    times = step_times(out)
    header = (
        "| optimizer | learning rate | validation loss (nats per character) | a step | of AdamW's |"
    )
    lines = [
        header,
        "|---|---|---|---|---|",
        *[row(optimizer, each, times) for optimizer, each in runs.items()],
        "",
        textwrap.fill(
            conditions(seeds, plain["validation_loss"]),
            width=100,
            break_long_words=False,
            break_on_hyphens=False,
        ),
    ]
    return "\n".join(lines)


def conditions(seeds: int, plain: float) -> str:
    """Return the conditions of the runs, for below the table."""
    counts = count_trials()
    trials = ", ".join(f"{count} for {name}" for name, count in counts.items())
    return (
        "4 blocks, width 128, 4 heads, context 64, batch 12, 2,000 steps; the loss is over the "
        f"whole last tenth of the text. Seeds: {seeds}. `model.dualize` stands in a plain loop, "
        "at the settings that were best before second moments of rows and weight decay were tried. "
        "Each branch takes half of its features from the character before (`TokenShift`), "
        "without which the first row ends at "
        f"{plain:.3f} (one seed, the other settings as they are). Rates, momenta, "
        "masses, betas, weight decay, token shift and rotary base were chosen on another text, the "
        "source of Python's standard library, and then used unchanged, after the same number of "
        f"trials for each optimizer: {trials} ([all of "
        "them](docs/results/experiments.md#which-settings-train-the-gpt)). The activation and the "
        "linear schedule, which all share, are older choices of `GPT`, made on this text, and "
        "runs on it were the reason to try second moments of rows and small decays. "
        f"Steps are medians on {machine()}, of `python -m benchmarks.train_step`, which takes them "
        "in turns. To reproduce: `python -m benchmarks.gpt_search` and `python -m "
        "benchmarks.tiny_shakespeare`."
    )


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
        "--seeds", type=int, default=5, help="runs of each, for the mean and its spread (default 5)"
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
    written = table(options.data, options.out, options.seeds)
    print(written)
    if options.write:
        write_between(options.write, "results", written)


if __name__ == "__main__":
    main()
