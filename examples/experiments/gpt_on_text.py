"""The GPT on text that several experiments train: its options, one run, and the loss at its end."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

sys.path.insert(0, str(Path(__file__).parents[1]))  # for text

import systems
import text
from trials import finite

from modula import GPT


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all these experiments have with the same defaults."""
    parser.add_argument(
        "--data",
        default="stdlib",
        help='"stdlib", "shakespeare" or a UTF-8 file (default %(default)s)',
    )
    parser.add_argument(
        "--batch", type=int, default=8, help="windows of text per step (default %(default)s)"
    )
    parser.add_argument(
        "--context", type=int, default=32, help="characters per window (default %(default)s)"
    )


__all__ = [
    "SETTINGS",
    "add_options",
    "add_size",
    "loss_after_training",
    "loss_of",
    "model_of",
    "text",
    "validation_loss",
]

SETTINGS = ("data", "width", "heads", "blocks", "steps", "batch", "context")
"""The options on which the results depend, of experiments that `add_size`."""


def add_size(parser: argparse.ArgumentParser) -> None:
    """Add the options of a small GPT and short runs."""
    parser.add_argument(
        "--width", type=int, default=64, help="number of features (default %(default)s)"
    )
    parser.add_argument(
        "--heads",
        type=int,
        default=2,
        help=(
            "attention heads (default %(default)s, whose matrices have the 32 rows from which on "
            "the default orthogonalisation takes few steps)"
        ),
    )
    parser.add_argument(
        "--blocks", type=int, default=2, help="number of blocks (default %(default)s)"
    )
    parser.add_argument("--steps", type=int, help="by default 200, with --quick 60")


def model_of(corpus: text.Corpus, options: argparse.Namespace) -> GPT:
    return GPT(
        corpus.size,
        d_embed=options.width,
        num_heads=options.heads,
        num_blocks=options.blocks,
    )


def loss_after_training(
    model: GPT,
    optimizers: list[torch.optim.Optimizer],
    corpus: text.Corpus,
    options: argparse.Namespace,
    *,
    seed: int,
    windows: int,
    average: AveragedModel | None = None,
    after_step: Callable[[int], None] | None = None,
) -> float | None:
    """Train, at a rate that falls linearly to zero, and return the validation loss.

    Args:
        model: to be trained.
        optimizers: each of some of the weights, at its peak rate.
        corpus: the text.
        options: with steps, batch and context.
        seed: of the batches.
        windows: the number of windows of the validation split that the loss is taken over.
        average: of the weights over the steps, whose loss is taken in place of the model's.
        after_step: called with the number of steps that have been taken.

    Returns:
        The loss at the end, None if the run diverged.
    """
    batches = torch.Generator().manual_seed(seed)
    for k in range(options.steps):
        loss = loss_of(model, *text.batch(corpus.train, options.batch, options.context, batches))
        if not math.isfinite(loss.item()):
            return None
        systems.step(optimizers, loss, 1 - k / options.steps)
        if average is not None:
            average.update_parameters(model)
        if after_step is not None:
            after_step(k + 1)
    return finite(validation_loss(average or model, corpus, options.context, windows))


@torch.no_grad()
def validation_loss(model: nn.Module, corpus: text.Corpus, context: int, windows: int) -> float:
    """Return the loss over the same windows of the validation split in every call."""
    x, y = text.windows(corpus.validation, context)
    some = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:windows]
    return loss_of(model, x[some], y[some]).item()


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())
