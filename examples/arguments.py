"""Options that the scripts which train a GPT on text have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from gpt_settings import SETTINGS


def add_text_options(
    made: argparse.ArgumentParser, *, steps: int = 2000, unit: str = "characters"
) -> None:
    """Add the options of a text, of a GPT and of the length of its training.

    Args:
        made: the parser that takes them.
        steps: by default.
        unit: of the text, in the plural.
    """
    made.add_argument(
        "--data",
        default="stdlib",
        help='"stdlib", "shakespeare" or a UTF-8 file (default %(default)s)',
    )
    made.add_argument(
        "--steps", type=int, default=steps, help="training steps (default %(default)s)"
    )
    made.add_argument(
        "--context", type=int, default=64, help=f"{unit} per window (default %(default)s)"
    )
    made.add_argument(
        "--blocks", type=int, default=4, help="number of blocks (default %(default)s)"
    )
    made.add_argument(
        "--width", type=int, default=128, help="number of features (default %(default)s)"
    )
    made.add_argument("--heads", type=int, default=4, help="attention heads (default %(default)s)")
    made.add_argument(
        "--seed", type=int, default=0, help="of weights and batches (default %(default)s)"
    )


def parser(description: str | None, out: Path) -> argparse.ArgumentParser:
    """Return a parser with the options of all plain loops, which write to `out` by default."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_text_options(made)
    made.add_argument(
        "--batch",
        type=int,
        default=12,
        help="windows of text per step, over all processes (default %(default)s)",
    )
    made.add_argument(
        "--momentum",
        type=float,
        default=SETTINGS["modula"].momentum,
        help="of the average of gradients (default %(default)s)",
    )
    made.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="on which to train (default %(default)s)",
    )
    made.add_argument(
        "--out",
        type=Path,
        default=out,
        help="folder of all that the run leaves (default %(default)s)",
    )
    made.add_argument(
        "--save-every",
        type=int,
        default=500,
        help="steps between checkpoints (default %(default)s)",
    )
    made.add_argument(
        "--stop-after",
        type=int,
        help="stop after this many steps, with a checkpoint; the schedule still ends at --steps",
    )
    made.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out")
    return made
