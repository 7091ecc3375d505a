"""A training run that saves after every step, for the tests that stop and resume it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR

from modula import GPT, SteepestDescent, checkpoint

VOCABULARY = 13


def start() -> tuple[GPT, SteepestDescent, LambdaLR, torch.Generator]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = GPT(VOCABULARY, d_embed=16, num_heads=2, num_blocks=1)
    optimizer = SteepestDescent(model, lr=0.1, weight_decay=0.1)
    return (
        model,
        optimizer,
        LambdaLR(optimizer, lambda step: 1 / (1 + step)),
        torch.Generator().manual_seed(0),
    )


def go_on(path: Path, until: int) -> GPT:
    """Load the checkpoint, if it exists, and train up to step `until`."""
    model, optimizer, schedule, batches = start()
    step = 0
    try:
        state = checkpoint.load(path, model, optimizer)
    except FileNotFoundError:
        pass
    else:
        schedule.load_state_dict(state["schedule"])
        batches.set_state(state["batches"])
        step = state["step"]
    for done in range(step + 1, until + 1):
        ids = torch.randint(VOCABULARY, (4, 9), generator=batches)
        optimizer.zero_grad()
        F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
        schedule.step()
        checkpoint.save(
            path,
            model,
            optimizer,
            schedule=schedule.state_dict(),
            batches=batches.get_state(),
            step=done,
        )
    return model


def fingerprint(model: GPT) -> str:
    """A hash of the weights, bit for bit."""
    return hashlib.sha256(
        b"".join(w.detach().numpy().tobytes() for w in model.weights.tensors)
    ).hexdigest()


if __name__ == "__main__":
    print(fingerprint(go_on(Path(sys.argv[1]), int(sys.argv[2]))))
