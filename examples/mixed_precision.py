"""Train a GPT in float32, under autocast and with bfloat16 weights, and compare the losses.

    python examples/mixed_precision.py                # on tiny Shakespeare, downloaded once
    python examples/mixed_precision.py --data FILE    # on any text

Every run starts from the same weights and sees the same batches. bfloat16 weights are updated in
four ways: by SteepestDescent (with a float32 master copy), with a master copy and a float32
average, by subtracting and rounding to nearest, and by subtracting and rounding up or down at
random. A run that has left its numbers in --out is not repeated. Leaves mixed-precision.json and
.png in --assets; docs/guides/mixed-precision.md shows those of docs/assets.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeAlias, TypedDict

import matplotlib
import torch
import torch.nn.functional as F
from text import Corpus, batch, load
from torch import Tensor
from tqdm import tqdm
from train_gpt import evaluate

from modula import GPT, Gradient, SteepestDescent, Weights

Step: TypeAlias = Callable[[Gradient, float], None]
"""A function of the gradient and the learning rate that updates the weights."""

MOMENTUM = 0.85


def by_optimizer(model: GPT) -> Step:
    optimizer = SteepestDescent(model, 0.0, momentum=MOMENTUM)

    def step(grad: Gradient, lr: float) -> None:
        for weight, g in zip(model.weights.tensors, grad.tensors, strict=True):
            weight.grad = g
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()

    return step


def by_float32_average(model: GPT) -> Step:
    """Return a step with a master copy and an average in float32."""
    master = Weights({name: w.detach().float() for name, w in model.weights.items()})
    average = Gradient({name: torch.zeros_like(w) for name, w in master.items()})

    def step(grad: Gradient, lr: float) -> None:
        nonlocal master
        master -= model.dualize(
            look_ahead(average, Gradient({name: g.float() for name, g in grad.items()})), lr
        )
        for weight, precise in zip(model.weights.tensors, master.tensors, strict=True):
            weight.data.copy_(precise)

    return step


def by_rounding(round_: Callable[[Tensor], Tensor]) -> Callable[[GPT], Step]:
    """Return steps without a master copy, which subtract in float32 and round the result."""

    def begin(model: GPT) -> Step:
        average = Gradient({name: torch.zeros_like(w) for name, w in model.weights.items()})

        def step(grad: Gradient, lr: float) -> None:
            moved = Weights({name: w.detach().float() for name, w in model.weights.items()})
            moved -= model.dualize(look_ahead(average, grad), lr)
            for weight, precise in zip(model.weights.tensors, moved.tensors, strict=True):
                weight.data.copy_(round_(precise))

        return step

    return begin


def look_ahead(average: Gradient, grad: Gradient) -> Gradient:
    average *= MOMENTUM
    average += grad
    return MOMENTUM * average + grad


def nearest(x: Tensor) -> Tensor:
    return x.bfloat16()


def stochastic(x: Tensor) -> Tensor:
    """Round to one of the two neighbours in bfloat16, at random, so that the mean is x.

    This adds noise to the bits that bfloat16 lacks, and then drops these bits.
    """
    bits = x.view(torch.int32) + torch.randint(1 << 16, x.shape, dtype=torch.int32)
    return (bits & -(1 << 16)).view(torch.float32).bfloat16()


VARIANTS: dict[str, tuple[torch.dtype, bool, Callable[[GPT], Step]]] = {
    "float32": (torch.float32, False, by_optimizer),
    "float32 weights, autocast": (torch.float32, True, by_optimizer),
    "bfloat16, master copy": (torch.bfloat16, False, by_optimizer),
    "bfloat16, master copy, float32 average": (torch.bfloat16, False, by_float32_average),
    "bfloat16, stochastic rounding": (torch.bfloat16, False, by_rounding(stochastic)),
    "bfloat16, rounded to nearest": (torch.bfloat16, False, by_rounding(nearest)),
}
"""By name: the dtype of the weights, whether the forward pass runs under autocast, and the step."""


class Run(TypedDict):
    """The numbers of one run."""

    losses: list[float]
    validation_loss: float


def run(name: str, seed: int, corpus: Corpus, options: argparse.Namespace) -> Run:
    """Return the losses of one run, which is trained if it has left none."""
    path = options.out / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}.json"
    if path.exists():
        finished: Run = json.loads(path.read_text())
        return finished
    dtype, autocast, begin = VARIANTS[name]
    torch.manual_seed(seed)
    batches = torch.Generator().manual_seed(seed)
    model = GPT(corpus.size, d_embed=options.width, num_heads=4, num_blocks=options.blocks).to(
        dtype
    )
    step = begin(model)
    losses: list[float] = []
    for k in tqdm(range(options.steps), desc=f"{name}, seed {seed}", unit="step"):
        x, y = batch(corpus.train, options.batch, options.context, batches)
        context: AbstractContextManager[object] = (
            torch.autocast("cpu", dtype=torch.bfloat16) if autocast else nullcontext()
        )
        with context:
            logits = model(x)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        step(model.gradient(loss), options.lr * (1 - k / options.steps))
        losses.append(round(loss.item(), 5))
    numbers: Run = {
        "losses": losses,
        "validation_loss": evaluate(model.float(), corpus.validation, options.context),
    }
    path.write_text(json.dumps(numbers) + "\n")
    return numbers


def mean_curve(runs: list[list[float]]) -> list[float]:
    """Return means over windows of 50 steps and over the runs."""
    windows = range(0, len(runs[0]) - 49, 50)
    return [
        round(statistics.fmean([statistics.fmean(losses[i : i + 50]) for losses in runs]), 4)
        for i in windows
    ]


def plot(curves: dict[str, list[float]], path: Path) -> None:
    """Plot the loss of each variant, and its difference from that of float32."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, figsize=(7, 7), sharex=True, layout="constrained")
    for name, curve in curves.items():
        steps = [50 * (i + 1) for i in range(len(curve))]
        above.plot(steps, curve, label=name)
        below.plot(
            steps, [a - b for a, b in zip(curve, curves["float32"], strict=True)], label=name
        )
    above.set(ylabel="training loss (nats a character)", title="Means of 50 steps and of all seeds")
    below.set(xlabel="step", ylabel="minus that of float32")
    above.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> dict[str, list[float]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="shakespeare",
        help='"shakespeare", "stdlib", or a UTF-8 file (default %(default)s)',
    )
    parser.add_argument(
        "--lr",
        type=float,
        default=0.1,
        help="peak learning rate: the norm of a step (default %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, default=800, help="training steps (default %(default)s)"
    )
    parser.add_argument(
        "--batch", type=int, default=12, help="windows of text per step (default %(default)s)"
    )
    parser.add_argument(
        "--context", type=int, default=64, help="characters per window (default %(default)s)"
    )
    parser.add_argument(
        "--blocks", type=int, default=2, help="number of blocks (default %(default)s)"
    )
    parser.add_argument(
        "--width", type=int, default=64, help="number of features (default %(default)s)"
    )
    parser.add_argument(
        "--seeds", type=int, default=2, help="runs of each variant (default %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/mixed_precision"),
        help="folder of the numbers of each run (default %(default)s)",
    )
    parser.add_argument(
        "--assets",
        type=Path,
        default=Path("runs/mixed_precision"),
        help="folder of the summary and the picture (default %(default)s)",
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    corpus = load(options.data)
    runs = {
        name: [run(name, seed, corpus, options) for seed in range(options.seeds)]
        for name in VARIANTS
    }
    validation = {
        name: [round(one["validation_loss"], 4) for one in each] for name, each in runs.items()
    }
    curves = {name: mean_curve([one["losses"] for one in each]) for name, each in runs.items()}
    for name, losses in validation.items():
        print(f"{name:40} {statistics.fmean(losses):.4f}   {losses}")
    settings = {
        key: getattr(options, key)
        for key in ("lr", "steps", "batch", "context", "blocks", "width", "seeds")
    }
    summary = {"settings": settings, "validation_loss": validation, "training_loss": curves}
    options.assets.mkdir(parents=True, exist_ok=True)
    (options.assets / "mixed-precision.json").write_text(json.dumps(summary, indent=1) + "\n")
    plot(curves, options.assets / "mixed-precision.png")
    return validation


if __name__ == "__main__":
    main()
