"""Train a small GPT on text with `SteepestDescent`, in the conventions of torch.optim.

    python examples/train_gpt_optimizer.py              # on the source of Python's standard library
    python examples/train_gpt_optimizer.py --data FILE  # on any text

This is the run of `train_gpt.py --optimizer dualize` with loss.backward(), optimizer.step(), a
scheduler of torch's and state dicts: the same data, the same arithmetic, and the same losses to the
last digit. Leaves in --out: the loss curve (loss.png), the numbers (result.json), and a checkpoint
from which --resume continues bit for bit.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
import torch.nn.functional as F
from arguments import parser
from gpt_settings import SETTINGS, network
from text import load, shuffled
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm
from train_gpt import evaluate, plot

from modula import SteepestDescent, checkpoint
from modula.optim import Dualized, Momentum

CHOSEN = SETTINGS["dualize"]


class Progress(TypedDict):
    """The contents of a checkpoint of this run beside the model and the optimizer."""

    schedule: dict[str, Any]
    losses: list[float]


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    options = parser(__doc__, out=Path("runs/gpt_optimizer"))
    options.add_argument(
        "--lr",
        type=float,
        default=CHOSEN.lr,
        help="peak learning rate: the norm of a step (default %(default)s)",
    )
    options.add_argument(
        "--weight-decay",
        type=float,
        default=0.0,
        help="decay at norm 1, relative to the learning rate (default %(default)s)",
    )
    return options.parse_args(given)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "checkpoint.pt"

    torch.manual_seed(options.seed)
    corpus = load(options.data)
    model = network(
        corpus.size,
        CHOSEN,
        width=options.width,
        heads=options.heads,
        blocks=options.blocks,
    ).to(options.device)
    rule = Dualized(Momentum(options.momentum))
    optimizer = SteepestDescent(model, options.lr, rule=rule, weight_decay=options.weight_decay)
    schedule = LambdaLR(optimizer, lambda step: 1 - step / options.steps)
    losses: list[float] = []
    if options.resume:
        state = cast("Progress", checkpoint.load(path, model, optimizer))
        schedule.load_state_dict(state["schedule"])
        losses = state["losses"]

    def save() -> None:
        checkpoint.save(path, model, optimizer, schedule=schedule.state_dict(), losses=losses)

    start = time.perf_counter()
    last = (
        options.steps
        if options.stop_after is None
        else min(options.steps, len(losses) + options.stop_after)
    )
    bar = tqdm(range(len(losses), last), initial=len(losses), total=options.steps, unit="step")
    for step in bar:
        x, y = shuffled(corpus.train, options.batch, options.context, step, options.seed)
        logits = model(x.to(options.device))
        loss = F.cross_entropy(logits.flatten(0, 1), y.to(options.device).flatten())

        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch does not annotate it
        optimizer.step()
        schedule.step()

        losses.append(loss.item())
        bar.set_postfix(loss=f"{sum(losses[-50:]) / len(losses[-50:]):.3f}", refresh=False)
        if len(losses) % options.save_every == 0:
            save()
    bar.close()
    save()
    if last < options.steps:
        print(f"stopped at step {last} of {options.steps}; --resume continues from {path}")
        return {"step": last}

    validation_loss = evaluate(model, corpus.validation, options.context)
    result = {
        "validation_loss": validation_loss,
        "train_loss": sum(losses[-100:]) / len(losses[-100:]),
        "lr": options.lr,
    }
    print(
        f"validation loss {validation_loss:.4f} nats a character, after "
        f"{time.perf_counter() - start:.0f} s"
    )
    (options.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    plot(
        losses,
        validation_loss,
        options.out / "loss.png",
        title=f"SteepestDescent, peak learning rate {options.lr:g}",
    )
    print(f"curve, numbers and checkpoint in {options.out}/")
    return result


if __name__ == "__main__":
    main()
