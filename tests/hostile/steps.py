"""Steps of the optimizer: damaged states, interrupts, settings, gradients, and processes killed."""

from __future__ import annotations

import copy
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from modula import Bias, Embed, Linear, Module, ReLU, SteepestDescent
from modula.errors import StateMismatchError
from modula.optim import (
    Adam,
    Ball,
    Cautious,
    CautiousDecay,
    Normalized,
    Projected,
    SecondMoments,
    Sphere,
    Steepest,
)
from tests.hostile.draws import awkward, choice, failures, generator

RULES: tuple[dict[str, object], ...] = (
    {},
    {"rule": SecondMoments()},
    {"rule": Cautious(Normalized(Adam())), "decay": CautiousDecay(), "weight_decay": 0.1},
    {"rule": Steepest(), "constraint": Ball(0.5)},
    {"constraint": Sphere(2.0)},
    {"constraint": Projected()},
    {"normalize": True},
    {"normalize": True, "base": "adam"},
    {"adapt_masses": 0.1},
    {"momentum": 0.0},
    {"weight_decay": 0.1, "nonfinite": "skip"},
)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
DAMAGED = (None, "7", -1.0, math.nan, b"", [], {}, torch.ones(3), torch.ones(2, 2).to_sparse())


class Interrupted(BaseException):
    """As KeyboardInterrupt is, no Exception."""


class FailAt(TorchDispatchMode):
    """Raise at the n-th operation of torch."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.left = n

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.left -= 1
        if self.left == 0:
            raise Interrupted
        return function(*args, **(kwargs or {}))


def drawn(rng: torch.Generator) -> SteepestDescent:
    """An optimizer of a small network, of any rule and dtype, after a step or two."""
    model: Module = Linear(3, 4) @ ReLU() @ Bias(4) @ Linear(4, 5)
    model = (model @ Embed(5, 6) if choice(rng, (True, False)) else model).to(choice(rng, DTYPES))
    model.initialize(rng)
    optimizer = SteepestDescent(model, 0.1, **choice(rng, RULES))
    for _ in range(choice(rng, (1, 2))):
        assign(optimizer, rng)
        optimizer.step()
    return optimizer


def assign(optimizer: SteepestDescent, rng: torch.Generator) -> None:
    for w in optimizer.model.weights.tensors:
        entries = awkward(rng, (1, *w.shape)[-2:]).reshape(w.shape)
        w.grad = (entries * choice(rng, (1e-30, 1e-3, 1.0, 1e3))).to(w.dtype)


def everything(optimizer: SteepestDescent) -> list[Tensor]:
    kept = [optimizer.state[p] for p in optimizer.param_groups[0]["params"]]
    tensors = [*optimizer.model.weights.tensors, *[t for one in kept for t in one.values()]]
    return [t.detach().clone() for t in [*tensors, optimizer.skipped]]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    pairs = zip(one, other, strict=True)
    return len(one) == len(other) and all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs
    )


def trial_interrupted_steps(count: int, seed: int) -> int:
    """Steps that fail at a random operation of torch, and are taken again."""

    def holds(rng: torch.Generator) -> bool:
        optimizer = drawn(rng)
        assign(optimizer, rng)
        twin = copy.deepcopy(optimizer)
        for p, q in zip(
            twin.param_groups[0]["params"], optimizer.param_groups[0]["params"], strict=True
        ):
            p.grad = q.grad.clone()
        before = everything(optimizer)
        try:
            with FailAt(choice(rng, range(1, 150))):
                optimizer.step()
        except Interrupted:
            if not equal(before, everything(optimizer)):
                return False
            optimizer.step()
        twin.step()
        return all(
            torch.allclose(a.double(), b.double(), rtol=1e-2, atol=1e-3, equal_nan=True)
            for a, b in zip(everything(optimizer), everything(twin), strict=True)
        )

    return failures(holds, count, seed)


def trial_damaged_states(count: int, seed: int) -> int:
    """States with a random entry removed or replaced by another kind of value."""

    def holds(rng: torch.Generator) -> bool:
        optimizer = drawn(rng)
        state = copy.deepcopy(optimizer.state_dict())
        holder = choice(rng, [state, state["param_groups"][0], *state["state"].values()])
        name = choice(rng, sorted(holder, key=str))
        if choice(rng, (True, False)):
            del holder[name]
        else:
            holder[name] = choice(rng, DAMAGED)
        before = everything(optimizer)
        try:
            optimizer.load_state_dict(state)
        except StateMismatchError:
            return equal(before, everything(optimizer))
        assign(optimizer, rng)
        try:
            optimizer.step()
        except (TypeError, ValueError):  # a setting that a step refuses
            return True
        return True

    return failures(holds, count, seed)


def trial_settings_written_between_steps(count: int, seed: int) -> int:
    """Settings of the parameter group that a schedule or a user writes, of any value."""
    values = (0.0, 1.0, -1.0, math.nan, math.inf, 1e308, 5e-324, None, "0.1", (0.9, 2.0), [], True)

    def holds(rng: torch.Generator) -> bool:
        optimizer = drawn(rng)
        group = optimizer.param_groups[0]
        numbers = [name for name in group if name not in ("params", "param_names", "skipped")]
        group[choice(rng, sorted(numbers))] = choice(rng, values)
        assign(optimizer, rng)
        before = everything(optimizer)
        try:
            optimizer.step()
        except (TypeError, ValueError):
            return equal(before, everything(optimizer))
        return True

    return failures(holds, count, seed)


KILLED = """
import sys, torch
from modula import Linear, SteepestDescent, checkpoint
torch.manual_seed(0)
model = Linear(8, 8)
optimizer = SteepestDescent(model, 0.1)
print("ready", flush=True)
for step in range(10**6):
    model.weight.grad = torch.randn(8, 8)
    optimizer.step()
    checkpoint.save(sys.argv[1], model, optimizer, step=step)
"""


def trial_killed_processes(count: int, seed: int) -> int:
    """Processes killed between steps and checkpoints, which are resumed."""
    rng = generator(seed)
    failed = 0
    for _ in range(min(count, 3)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.pt"
            process = subprocess.Popen(
                [sys.executable, "-c", KILLED, str(path)],
                stdout=subprocess.PIPE,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(0.05 + 0.3 * float(torch.rand((), generator=rng)))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            process.communicate()
            failed += path.exists() and not _resumes(path)
    return failed


def _resumes(path: Path) -> bool:
    from modula import checkpoint

    model = Linear(8, 8)
    optimizer = SteepestDescent(model, 0.1)
    saved = checkpoint.load(path, model, optimizer)
    count = optimizer.state[model.weight]["step"]
    return int(count) == int(saved["step"]) + 1 and bool(model.weight.isfinite().all())
