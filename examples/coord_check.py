"""Measure how the change of activations in the first steps depends on the width.

    python examples/coord_check.py                                # a plain GPT
    python examples/coord_check.py --family resnet                # or vit, gpt2, llama
    python examples/coord_check.py --family my_models:make        # any other: see below

If one learning rate is to serve every width, a few steps must change the activations of each layer
by as much in a wide network as in a narrow one. The check trains a network at several widths, at
one rate, by modula (lifted) and by AdamW, and compares the root mean square of the change of each
module's output. Exponents of the width near 0 are wanted. Leaves coord_check.png in --out.

Initial weights are rescaled to norm 1 for both: a scale that is the same at every width, such as
GPT-2's 0.02, would make the activations themselves grow. `--own-weights` leaves them as they are.

`my_models:make` is a function of the width in the file my_models.py. It returns a module, a batch
of inputs, and a function from the module's output to the loss.

Source: Yang et al. 2022 (arXiv:2203.03466), section D.1, which calls it a coordinate check.
"""

from __future__ import annotations

import argparse
import importlib
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import torch
import torch.nn.functional as F
from plain_gpt import PlainGPT
from plain_vision import ResNet18, ViT
from torch import Tensor, nn
from tqdm import tqdm

from modula import Network, SteepestDescent, lift

OPTIMIZERS = ("lifted", "adamw")
CLASSES, CONTEXT = 32, 32


@dataclass(frozen=True)
class Sample:
    """A network of one width with a batch.

    Args:
        model: the network.
        inputs: of its call.
        loss: of its output.
    """

    model: nn.Module
    inputs: Tensor
    loss: Callable[[Any], Tensor]


def tokens() -> tuple[Tensor, Callable[[Any], Tensor]]:
    """Return random tokens, and the loss of predicting from each of them a random other."""
    ids, following = torch.randint(CLASSES, (2, 4, CONTEXT))
    return ids, lambda logits: F.cross_entropy(logits.flatten(0, 1), following.flatten())


def pictures() -> tuple[Tensor, Callable[[Any], Tensor]]:
    """Return random images, and the loss of predicting random classes."""
    labels = torch.randint(CLASSES, (16,))
    return torch.randn(16, 3, 16, 16), lambda logits: F.cross_entropy(logits, labels)


def plain_gpt(width: int) -> Sample:
    model = PlainGPT(CLASSES, context=CONTEXT, width=width, heads=4, blocks=2)
    return Sample(model, *tokens())


def resnet(width: int) -> Sample:
    return Sample(ResNet18(CLASSES, channels=3, width=max(1, width // 8)), *pictures())


def vit(width: int) -> Sample:
    model = ViT(CLASSES, channels=3, size=16, patch=4, width=width, heads=4, blocks=2)
    return Sample(model, *pictures())


def gpt2(width: int) -> Sample:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=CLASSES,
        n_embd=width,
        n_layer=2,
        n_head=4,
        n_positions=CONTEXT,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        tie_word_embeddings=False,
    )
    ids, loss = tokens()
    return Sample(GPT2LMHeadModel(config), ids, lambda output: loss(output.logits))


def llama(width: int) -> Sample:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=CLASSES,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        use_cache=False,
    )
    ids, loss = tokens()
    return Sample(LlamaForCausalLM(config), ids, lambda output: loss(output.logits))


FAMILIES: Mapping[str, Callable[[int], Sample]] = {
    "gpt": plain_gpt,
    "resnet": resnet,
    "vit": vit,
    "gpt2": gpt2,
    "llama": llama,
}


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--family",
        default="gpt",
        help=f'one of {", ".join(FAMILIES)}, or "file:function" (default %(default)s)',
    )
    parser.add_argument(
        "--widths",
        nargs="+",
        type=int,
        default=[32, 64, 128, 256],
        help="multiples of 8 (default %(default)s)",
    )
    parser.add_argument("--steps", type=int, default=4, help="training steps (default %(default)s)")
    parser.add_argument("--lr", type=float, default=0.1, help="of modula (default %(default)s)")
    parser.add_argument(
        "--adamw-lr", type=float, default=4e-3, help="of AdamW (default %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=2, help="repetitions (default %(default)s)")
    parser.add_argument(
        "--own-weights", action="store_true", help="begin with the model's own initial weights"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/coord_check"),
        help="folder of the picture (default %(default)s)",
    )
    return parser.parse_args(given)


Changes = dict[str, dict[int, float]]
"""The root mean square of the change of an output at each width, by the path of the module."""


def main(given: Sequence[str] | None = None) -> dict[str, Changes]:
    """Measure, print the exponents, and return the changes for each optimizer."""
    options = parse(given)
    make = family(options.family)
    rates = {"lifted": options.lr, "adamw": options.adamw_lr}
    found: dict[str, Changes] = {name: {} for name in OPTIMIZERS}
    trials = [(name, width) for name in OPTIMIZERS for width in options.widths]
    for name, width in tqdm(trials, unit="network"):
        runs = [changes(make, name, width, options, seed) for seed in range(options.seeds)]
        for path in runs[0]:
            mean = statistics.fmean(run[path] for run in runs)
            found[name].setdefault(path, {})[width] = mean
    print(table(found))
    options.out.mkdir(parents=True, exist_ok=True)
    plot(found, options.out / "coord_check.png", rates, options.steps)
    print(f"picture in {options.out}/")
    return found


def family(name: str) -> Callable[[int], Sample]:
    """Return the function that makes the networks of a family.

    Raises:
        SystemExit: it is neither one of `FAMILIES` nor a function in a file that can be imported.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    file, _, function = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        make = getattr(importlib.import_module(file), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise SystemExit(
            f'--family is one of {", ".join(FAMILIES)}, or "file:function", such as '
            f'"my_models:make" for the function make in my_models.py; got {name!r} ({error})'
        ) from None
    return lambda width: Sample(*make(width))


def changes(
    make: Callable[[int], Sample],
    optimizer: str,
    width: int,
    options: argparse.Namespace,
    seed: int,
) -> dict[str, float]:
    """Train, and return the root mean square of the change of each module's output."""
    torch.manual_seed(seed)
    sample = make(width)
    net = lift(sample.model, sample.inputs)
    if not options.own_weights:
        rescale(net)
    before = outputs(sample)
    chosen: torch.optim.Optimizer = (
        torch.optim.AdamW(sample.model.parameters(), options.adamw_lr, weight_decay=0.0)
        if optimizer == "adamw"
        else SteepestDescent(net, options.lr)
    )
    for _ in range(options.steps):
        loss = sample.loss(sample.model(sample.inputs))
        chosen.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch does not annotate it
        chosen.step()
    after = outputs(sample)
    return {path: rms(after[path] - output) for path, output in before.items()}


@torch.no_grad()
def rescale(net: Network) -> None:
    """Divide each weight by its norm, unless it is zero."""
    for weight in net.graph().weights.values():
        norm = weight.geometry.norm(weight.tensor[None])
        weight.tensor.div_(torch.where(norm > 0, norm, 1.0))


@torch.no_grad()
def outputs(sample: Sample) -> dict[str, Tensor]:
    """Return the output of each module that has weights of its own and returns a tensor."""
    found: dict[str, Tensor] = {}

    def keep(path: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, _: object, output: object) -> None:
            if isinstance(output, Tensor):
                found[path] = output.detach().clone()

        return hook

    handles = [
        module.register_forward_hook(keep(path))
        for path, module in sample.model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    sample.model(sample.inputs)
    for handle in handles:
        handle.remove()
    return found


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def exponent(change: Mapping[int, float]) -> float:
    """Return the slope of the change over the width, both in logarithms."""
    points = [(math.log(width), math.log(max(size, 1e-30))) for width, size in change.items()]
    if len(points) < 2:
        return math.nan
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def table(found: Mapping[str, Changes]) -> str:
    """Return the exponents of each module, and the largest in magnitude."""
    lines = [
        "| module | change, lifted | exponent | change, AdamW | exponent |",
        "| --- | --- | --- | --- | --- |",
    ]
    for path in found["lifted"]:
        cells = [path]
        for name in OPTIMIZERS:
            change = found[name][path]
            sizes = [f"{size:.3g}" for size in change.values()]
            cells += [f"{sizes[0]} to {sizes[-1]}", f"{exponent(change):.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    worst = {
        name: max((exponent(change) for change in found[name].values()), key=abs)
        for name in OPTIMIZERS
    }
    shown = ", ".join(f"{name} {value:.2f}" for name, value in worst.items())
    return "\n".join([*lines, "", f"largest exponents of the width: {shown}"])


def plot(found: Mapping[str, Changes], path: Path, rates: Mapping[str, float], steps: int) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    for name, place in zip(OPTIMIZERS, axes, strict=True):
        for module, change in found[name].items():
            place.plot([*change], [*change.values()], marker=".", linewidth=0.8, label=module)
        place.set_xscale("log", base=2)
        place.set_yscale("log")
        place.set(title=f"{name}, rate {rates[name]:g}", xlabel="width")
    axes[0].set_ylabel(f"change of the output after {steps} steps, RMS")
    if len(found["lifted"]) <= 12:
        axes[1].legend(fontsize="x-small")
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
