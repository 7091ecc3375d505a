"""What optimizers do with inputs that training meets now and then: a table, optimizer × property.

    python -m benchmarks.peers
    python -m benchmarks.peers --write docs/results/robustness.md

Compared are modula's SteepestDescent, torch.optim.Muon, torch.optim.AdamW, and Muon of heavyball
where it is installed (pip install 'modula-torch[bench]'). Each property is a test with a criterion,
at toy size on the CPU. An optimizer holds or misses it, or refuses with an error; the number that
was seen stands beside. No weight decay anywhere.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

import modula
from benchmarks.docs_tables import write_between
from modula import RMS, Embed, Linear
from modula.optim import SteepestDescent

RATE = 0.1


@dataclass(frozen=True)
class Settings:
    """What a test asks of an optimizer beyond its defaults."""

    momentum: float = 0.95
    nesterov: bool = True


@dataclass(frozen=True)
class Contender:
    """An optimizer: its name, and how it is made for a network."""

    name: str
    make: Callable[[modula.Network, Settings], torch.optim.Optimizer]


@dataclass(frozen=True)
class Finding:
    """Whether a property holds, and the number that was seen."""

    holds: bool
    seen: str


@dataclass(frozen=True)
class Property:
    """What is tried, when it holds, and the test."""

    name: str
    criterion: str
    test: Callable[[Contender], Finding]


def parameters(network: modula.Network) -> list[nn.Parameter]:
    return list(network.torch_module.parameters())


def contenders() -> list[Contender]:
    found = [
        Contender(
            "modula",
            lambda network, s: SteepestDescent(
                network, lr=RATE, momentum=s.momentum, nesterov=s.nesterov
            ),
        ),
        Contender(
            "torch.optim.Muon",
            lambda network, s: torch.optim.Muon(
                parameters(network),
                lr=RATE,
                weight_decay=0.0,
                momentum=s.momentum,
                nesterov=s.nesterov,
            ),
        ),
        Contender(
            "torch.optim.AdamW",
            lambda network, s: torch.optim.AdamW(
                parameters(network), lr=RATE, weight_decay=0.0, betas=(s.momentum, 0.999)
            ),
        ),
    ]
    try:
        heavyball = importlib.import_module("heavyball")
        vars(importlib.import_module("heavyball.utils"))["compile_mode"] = None
    except ImportError:
        print("heavyball is not installed and is left out")
        return found
    return [
        *found,
        Contender(
            "heavyball.Muon",
            lambda network, s: heavyball.Muon(
                parameters(network),
                lr=RATE,
                betas=(s.momentum, 0.99),
                nesterov=s.nesterov,
                gradient_clipping=None,
                update_clipping=None,
            ),
        ),
    ]


def step(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradient: Tensor) -> Tensor:
    """Take a step with this gradient, and return the change of the weight, over the rate."""
    before = weight.detach().clone()
    weight.grad = gradient.to(weight.dtype).clone()
    optimizer.step()
    return (weight.detach() - before).double() / RATE


def first_step(contender: Contender, gradient: Tensor) -> Tensor:
    """The first step from zero weights."""
    network = matrix(gradient)
    return step(contender.make(network, Settings()), parameters(network)[0], gradient)


def matrix(like: Tensor) -> modula.Network:
    """A network of one matrix of zeros."""
    network = Linear(*like.shape, dtype=like.dtype)
    with torch.no_grad():
        parameters(network)[0].zero_()
    return network


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0))


def scales(contender: Contender) -> Finding:
    gradient = normal(48, 64)
    usual = first_step(contender, gradient)
    missed = []
    for exponent in range(-30, 21, 5):
        found = first_step(contender, gradient * 10.0**exponent)
        off = float((found - usual).norm() / usual.norm())
        if not off <= 0.02:
            missed.append(f"1e{exponent}")
    return Finding(not missed, f"off at {', '.join(missed)}" if missed else "off at none")


def sixteen_bits(contender: Contender) -> Finding:
    settings = Settings(momentum=0.999, nesterov=False)
    old, new = normal(6, 6, seed=1), normal(6, 6, seed=2)
    network = matrix(torch.zeros(6, 6, dtype=torch.bfloat16))
    optimizer, weight = contender.make(network, settings), parameters(network)[0]
    change = torch.zeros(6, 6)
    for gradient in [old] * 300 + [new] * 8000:
        with torch.no_grad():
            weight.zero_()
        change = step(optimizer, weight, gradient)
    reference = matrix(torch.zeros(6, 6))
    fresh = step(contender.make(reference, settings), parameters(reference)[0], new)
    found = cosine(change, fresh)
    return Finding(found >= 0.95, f"cosine {found:.2f}")


def zero_gradient(contender: Contender) -> Finding:
    found = float(first_step(contender, torch.zeros(8, 8)).abs().max())
    return Finding(found == 0, f"moved {found:.2g}")


def rank_one(contender: Contender) -> Finding:
    gradient = torch.outer(normal(48, seed=1), normal(64, seed=2))
    sizes = torch.linalg.svdvals(first_step(contender, gradient))
    ratio = float(sizes[1] / sizes[0])
    return Finding(ratio <= 0.05, f"σ₂/σ₁ = {ratio:.3f}")


def tied(contender: Contender) -> Finding:
    head, table = Linear(64, 32), Embed(32, 64)
    table.weight = head.weight
    network = head @ modula.RMSNorm() @ table
    (weight,) = network.parameters()
    change = step(contender.make(network, Settings()), weight, normal(64, 32))
    spectral = float(torch.linalg.matrix_norm(change, 2)) * math.sqrt(32 / 64)
    rows = float(RMS.norm(change).max())
    return Finding(max(spectral, rows) <= 1.1, f"{spectral:.2f} as a map, {rows:.2f} as a table")


def dead_row(contender: Contender) -> Finding:
    network = Embed(16, 64)
    optimizer, (weight,) = contender.make(network, Settings()), parameters(network)
    first = change = step(optimizer, weight, normal(64, 16))
    for i in range(300):
        gradient = normal(64, 16, seed=i)
        gradient[1] = 0
        change = step(optimizer, weight, gradient)
    ratio = float(change[1].norm() / first[1].norm())
    return Finding(ratio <= 0.05, f"{ratio:.2g} of its first step")


def under_autocast(contender: Contender) -> Finding:
    gradient = normal(48, 64)
    outside = first_step(contender, gradient)
    with torch.autocast("cpu", torch.bfloat16):
        inside = first_step(contender, gradient)
    off = float((inside - outside).norm() / outside.norm())
    return Finding(off <= 1e-6, f"off by {off:.1g}")


class InterruptAt(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its __init_subclass__ unannotated
    """A mode that raises KeyboardInterrupt in place of one operation, and counts all."""

    def __init__(self, operation: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self.operation, self.count = operation, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # torch leaves its signature open
        self.count += 1
        if self.count - 1 == self.operation:
            raise KeyboardInterrupt
        return func(*args, **(kwargs or {}))


def interrupted(contender: Contender) -> Finding:
    """Interrupt the third step at each operation that it makes."""
    total, changed, i = 0, 0, 0
    while True:
        network = Linear(6, 8) @ modula.ReLU() @ Linear(8, 6)
        optimizer = contender.make(network, Settings())
        weights = parameters(network)
        for seed in range(3):
            for j, weight in enumerate(weights):
                weight.grad = normal(*weight.shape, seed=10 * seed + j)
            if seed < 2:
                optimizer.step()
        before = [w.detach().clone() for w in weights], copy.deepcopy(optimizer.state_dict())
        try:
            with InterruptAt(i):
                optimizer.step()
            break
        except KeyboardInterrupt:
            total += 1
            changed += not (
                all(map(torch.equal, before[0], weights))
                and _same(before[1], optimizer.state_dict())
            )
        i += 1
    return Finding(changed == 0, f"changed at {changed} of {total}")


def _same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return type(a) is type(b) and (not isinstance(a, (int, float, str, bool)) or a == b)


def foreign_states(contender: Contender) -> Finding:
    """States of torch's optimizers after a step, other than those of the contender's own class."""
    others: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
        "SGD": lambda weights: torch.optim.SGD(weights, lr=RATE, momentum=0.9),
        "AdamW": lambda weights: torch.optim.AdamW(weights, lr=RATE),
        "RMSprop": lambda weights: torch.optim.RMSprop(weights, lr=RATE),
        "Muon": lambda weights: torch.optim.Muon(weights, lr=RATE),
    }
    taken = []
    tried = 0
    for name, make in others.items():
        network, other = matrix(torch.zeros(6, 8)), matrix(torch.zeros(6, 8))
        optimizer, foreign = contender.make(network, Settings()), make(parameters(other))
        if type(optimizer) is type(foreign):
            continue
        tried += 1
        step(foreign, parameters(other)[0], normal(6, 8))
        before = copy.deepcopy(optimizer.state_dict())
        try:
            optimizer.load_state_dict(foreign.state_dict())
            taken.append(name)
        except Exception:
            if not _same(before, optimizer.state_dict()):
                taken.append(f"half of {name}")
    return Finding(not taken, f"took {', '.join(taken) or 'none'} of {tried}")


def one_cycle(contender: Contender) -> Finding:
    """Whether the last step differs from that at a constant momentum, at the same rate."""
    steps = []
    for base in (0.5, 0.95):
        network = matrix(torch.zeros(6, 8))
        optimizer, (weight,) = contender.make(network, Settings()), parameters(network)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=RATE, total_steps=20, base_momentum=base, max_momentum=0.95
        )
        change = torch.zeros(6, 8)
        for seed in range(8):
            change = step(optimizer, weight, normal(6, 8, seed=seed))
            schedule.step()
        steps.append(change)
    off = float((steps[0] - steps[1]).norm() / steps[1].norm())
    return Finding(off > 1e-3, f"{off:.2g} apart")


def plain_list(contender: Contender) -> Finding:
    """A matrix, a vector and a kernel that belong to no network."""

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.ParameterList([normal(4, 4), normal(4), normal(4, 4, 3, 3)])

    bag = Bag()
    if contender.name == "modula":
        SteepestDescent(bag, lr=RATE)  # type: ignore[arg-type]  # the refusal is what is tried
    holder = _Holder(bag)
    optimizer = contender.make(holder, Settings())  # type: ignore[arg-type]  # parameters are all it is asked for
    for weight in bag.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    return Finding(True, "moved")


@dataclass(frozen=True)
class _Holder:
    torch_module: nn.Module


def state_bytes(contender: Contender) -> str:
    network = matrix(torch.zeros(64, 64, dtype=torch.bfloat16))
    optimizer, (weight,) = contender.make(network, Settings()), parameters(network)
    step(optimizer, weight, normal(64, 64))
    tensors: dict[int, Tensor] = {}
    _collect(optimizer.state_dict()["state"], tensors)
    each = sum(t.numel() * t.element_size() for t in tensors.values() if t.numel() > 1) / 64**2
    return f"{each:.0f} bytes"


def _collect(value: object, found: dict[int, Tensor]) -> None:
    if isinstance(value, Tensor):
        found[id(value)] = value
    for inner in value.values() if isinstance(value, dict) else ():
        _collect(inner, found)
    for inner in value if isinstance(value, (list, tuple)) else ():
        _collect(inner, found)


def step_time(contender: Contender) -> str:
    network = Linear(512, 512) ** 4
    optimizer = contender.make(network, Settings())
    times = []
    for seed in range(12):
        for weight in parameters(network):
            weight.grad = normal(*weight.shape, seed=seed)
        start = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return f"{1000 * min(times):.0f} ms"


PROPERTIES = [
    Property("gradients of 1e-30 to 1e20", "the first step is that at 1, within 2%", scales),
    Property(
        "momentum 0.999 in bfloat16, no Nesterov",
        "after 300 gradients and 8,000 of another the step is that of the other, cosine ≥ 0.95",
        sixteen_bits,
    ),
    Property("a gradient of zeros", "nothing moves", zero_gradient),
    Property("a gradient of rank one", "the step has rank one, σ₂ ≤ 0.05·σ₁", rank_one),
    Property(
        "a tied table, 64×32",
        "one step is at most 1.1 rates, as a map RMS → RMS and in each row's RMS",
        tied,
    ),
    Property(
        "a row without gradients",
        "after 300 steps it moves by less than 1/20 of a full step",
        dead_row,
    ),
    Property("a step under autocast", "is that outside, within 1e-6", under_autocast),
    Property(
        "an interrupt at each operation of a step",
        "weights and state are as before",
        interrupted,
    ),
    Property("states of other optimizers", "all are refused, and change nothing", foreign_states),
    Property("OneCycleLR", "turns the momentum that is used", one_cycle),
    Property("parameters of no network, vectors too", "are trained", plain_list),
]
COSTS: dict[str, Callable[[Contender], str]] = {
    "state for an entry of a bfloat16 weight": state_bytes,
    "a step of four 512×512 matrices, one thread": step_time,
}


def cell(prop: Property, contender: Contender) -> str:
    """What one optimizer did with one property."""
    torch.manual_seed(0)
    try:
        found = prop.test(contender)
    except Exception as error:
        return f"refused: {type(error).__name__}"
    return f"{'held' if found.holds else '**missed**'}: {found.seen}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="properties whose name contains this text")
    parser.add_argument("--write", type=Path, help="the page that the table is written onto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = contenders()
    rows = [
        f"| property | criterion | {' | '.join(contender.name for contender in found)} |",
        "|---" * (len(found) + 2) + "|",
    ]
    for prop in tqdm([prop for prop in PROPERTIES if options.only in prop.name]):
        cells = " | ".join(cell(prop, contender) for contender in found)
        rows.append(f"| {prop.name} | {prop.criterion} | {cells} |")
    for name, measured in COSTS.items() if not options.only else ():
        rows.append(f"| {name} | | {' | '.join(map(measured, found))} |")
    rows += ["", f"Made by `python -m benchmarks.peers` with torch {torch.__version__}."]
    print("\n".join(rows))
    if options.write:
        write_between(options.write, "peers", "\n".join(rows))


if __name__ == "__main__":
    main()
