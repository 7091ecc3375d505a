"""The options that the scripts which train a GPT on text have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch


def parser(description: str | None, out: Path) -> argparse.ArgumentParser:
    """A parser with those options; runs go to `out` by default."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--data", default="stdlib", help='"stdlib", "shakespeare" or a UTF-8 file')
    made.add_argument("--steps", type=int, default=2000)
    made.add_argument(
        "--batch", type=int, default=12, help="windows of text a step, over all processes"
    )
    made.add_argument("--context", type=int, default=64)
    made.add_argument("--blocks", type=int, default=4)
    made.add_argument("--width", type=int, default=128)
    made.add_argument("--heads", type=int, default=4)
    made.add_argument("--momentum", type=float, default=0.85, help="of the gradient's average")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--out", type=Path, default=out)
    made.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")
    made.add_argument(
        "--stop-after",
        type=int,
        help="stop after this many steps, with a checkpoint; the schedule still ends at --steps",
    )
    made.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    return made
