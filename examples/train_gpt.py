"""Train a small GPT on text, by `SteepestDescent`, in a plain loop, or by torch.optim.

    # on the source of Python's standard library
    python examples/train_gpt.py
    # on tiny Shakespeare, downloaded once
    python examples/train_gpt.py --data shakespeare
    # on any text, by model.dualize in a plain loop
    python examples/train_gpt.py --data FILE --optimizer dualize
    # torch.optim for comparison
    python examples/train_gpt.py --optimizer adamw
    # on 4,096 byte pairs, which are learned on the text; needs the tokenizers library
    python examples/train_gpt.py --tokens bytepairs

Leaves in --out: the loss curve (loss.png), the numbers (result.json), and a checkpoint from which
--resume continues bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import torch
import torch.nn.functional as F
from arguments import parser
from gpt_settings import MODULA, SETTINGS, Settings, network, optimizers
from text import Corpus, load, shuffled, windows
from torch import Tensor, nn
from tqdm import tqdm

from modula import GPT, Gradient


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    options = parser(__doc__, out=Path("runs/gpt"))
    options.add_argument(
        "--optimizer",
        choices=list(SETTINGS),
        default="modula",
        help="which optimizer trains the model (default %(default)s)",
    )
    rates = ", ".join(f"{name} {settings.lr:g}" for name, settings in SETTINGS.items())
    options.add_argument("--lr", type=float, help=f"peak learning rate (default {rates})")
    options.add_argument(
        "--token-shift",
        type=float,
        help="share of features that a branch takes from the position before, 0 for a plain GPT "
        f"(default {SETTINGS['modula'].token_shift:g})",
    )
    options.add_argument(
        "--tokens",
        choices=["characters", "bytepairs"],
        default="characters",
        help="bytepairs learns a vocabulary of 4,096 on the text (default %(default)s)",
    )
    options.add_argument(
        "--compile",
        metavar="BACKEND",
        default="",
        help="compile the forward and the backward pass, by inductor say, which needs a C++ "
        "compiler (default: not)",
    )
    return options.parse_args(given)


def corpus_of(options: argparse.Namespace) -> Corpus:
    if options.tokens == "characters":
        return load(options.data)
    import byte_pairs

    return byte_pairs.load(options.data)


def changed(settings: Settings, options: argparse.Namespace) -> Settings:
    """Return the settings with those of the command line that are given."""
    given = {"lr": options.lr, "token_shift": options.token_shift}
    if settings.optimizer in MODULA:
        given["momentum"] = options.momentum
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    options = parse(arguments)
    settings = changed(SETTINGS[options.optimizer], options)
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / "checkpoint.pt"

    torch.manual_seed(options.seed)
    corpus = corpus_of(options)
    model = network(
        corpus.size,
        settings,
        width=options.width,
        heads=options.heads,
        blocks=options.blocks,
    ).to(options.device)
    forward: Callable[[Tensor], Tensor] = (
        torch.compile(model, backend=options.compile) if options.compile else model
    )
    momentum = Gradient({name: torch.zeros_like(weight) for name, weight in model.weights.items()})
    taken = optimizers(settings, model)
    losses: list[float] = []
    seconds = 0.0
    if options.resume:
        state = torch.load(checkpoint, map_location=options.device, weights_only=True)
        model.load_state_dict(state["model"])
        momentum = Gradient(state["momentum"])
        for optimizer, optimizer_state in zip(taken, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        losses, seconds = state["losses"], state["seconds"]

    def save() -> None:
        """Write the checkpoint whole or not at all."""
        state = {
            "model": model.state_dict(),
            "momentum": dict(momentum.items()),
            "optimizers": [optimizer.state_dict() for optimizer in taken],
            "losses": losses,
            "seconds": seconds,
        }
        unfinished = checkpoint.with_suffix(".tmp")
        torch.save(state, unfinished)
        os.replace(unfinished, checkpoint)

    last = (
        options.steps
        if options.stop_after is None
        else min(options.steps, len(losses) + options.stop_after)
    )
    tokens = options.batch * options.context
    print(
        f"{options.optimizer}: {sum(p.numel() for p in model.parameters()):,} weights, "
        f"{len(corpus.train):,} {corpus.unit}s of {options.data}"
    )
    bar = tqdm(range(len(losses), last), initial=len(losses), total=options.steps, unit="step")
    for step in bar:
        start = time.perf_counter()
        x, y = shuffled(corpus.train, options.batch, options.context, step, options.seed)
        logits = forward(x.to(options.device))
        loss = F.cross_entropy(logits.flatten(0, 1), y.to(options.device).flatten())
        lr = settings.lr * (1 - step / options.steps)

        if options.optimizer == "dualize":
            grad = model.gradient(loss)
            momentum += grad
            momentum *= settings.momentum
            ahead = grad + momentum  # Nesterov's look-ahead
            model.weights -= model.dualize(ahead, target_norm=lr, support=grad)
        else:
            torch_step(taken, loss, lr / settings.lr)

        losses.append(loss.item())
        seconds += time.perf_counter() - start
        bar.set_postfix(
            loss=f"{sum(losses[-50:]) / len(losses[-50:]):.3f}",
            tokens_per_s=f"{tokens * len(losses) / seconds:,.0f}",
            refresh=False,
        )
        if len(losses) % options.save_every == 0:
            save()
    bar.close()
    save()
    if last < options.steps:
        print(f"stopped at step {last} of {options.steps}; --resume continues from {checkpoint}")
        return {"step": last}

    validation_loss = evaluate(model, corpus.validation, options.context)
    result = {
        "validation_loss": validation_loss,
        "train_loss": sum(losses[-100:]) / len(losses[-100:]),
        "seconds": seconds,
        "lr": settings.lr,
    }
    print(
        f"validation loss {validation_loss:.4f} nats a {corpus.unit}, on all "
        f"{len(corpus.validation):,} {corpus.unit}s of the last tenth"
    )
    print(f"{seconds:.1f} s of training, {tokens * options.steps / seconds:,.0f} tokens/s")
    print(
        "-" * 80
        + "\n"
        + sample(model, corpus, options.context, length=400, seed=options.seed)
        + "\n"
        + "-" * 80
    )
    (options.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    plot(
        losses,
        validation_loss,
        options.out / "loss.png",
        title=f"{options.optimizer}, peak learning rate {settings.lr:g}",
    )
    print(f"curve, numbers and checkpoint in {options.out}/")
    return result


def torch_step(optimizers: list[torch.optim.Optimizer], loss: Tensor, decay: float) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call] # torch does not annotate it
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = decay * group.setdefault("initial_lr", group["lr"])
        optimizer.step()


@torch.no_grad()
def evaluate(model: nn.Module, ids: Tensor, context: int) -> float:
    """Return the mean loss over all of `ids`, cut into windows."""
    device = next(model.parameters()).device
    x, y = windows(ids.to(device), context)
    total = 0.0
    for inputs, targets in zip(torch.split(x, 256), torch.split(y, 256), strict=True):
        total += F.cross_entropy(
            model(inputs).flatten(0, 1), targets.flatten(), reduction="sum"
        ).item()
    return total / x.numel()


@torch.no_grad()
def sample(model: GPT, corpus: Corpus, context: int, *, length: int, seed: int) -> str:
    """Return text that the model writes after the first characters of the validation split."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    ids = corpus.validation[:16].to(device)
    for _ in range(length):
        probabilities = model(ids[None, -context:])[0, -1].softmax(dim=-1)
        ids = torch.cat((ids, torch.multinomial(probabilities, 1, generator=generator)))
    return corpus.decode(ids.tolist())


def plot(losses: list[float], validation_loss: float, path: Path, title: str) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    smooth = torch.tensor(losses).unfold(0, min(50, len(losses)), 1).mean(dim=-1)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(losses, color="tab:blue", alpha=0.2, linewidth=0.5, label="training, each batch")
    axes.plot(
        range(len(losses) - len(smooth), len(losses)),
        smooth,
        color="tab:blue",
        label="training, mean of 50",
    )
    axes.axhline(
        validation_loss,
        color="tab:orange",
        linestyle="--",
        label=f"validation at the end: {validation_loss:.3f}",
    )
    axes.set(xlabel="step", ylabel="loss (nats)", title=title)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
