"""Train a ResNet or a ViT of torch's modules to classify images, lifted or by torch's optimizers.

    python examples/train_vision.py                        # a narrow ResNet-18 on Fashion-MNIST
    python examples/train_vision.py --model vit
    python examples/train_vision.py --optimizer adamw      # or sgd, for comparison
    python examples/train_vision.py --data FOLDER          # MNIST's files, or a folder a class
    # any model of torchvision or timm, on images enlarged to the size that it takes
    python examples/train_vision.py --model torchvision:resnet18 --size 64
    python examples/train_vision.py --model timm:vit_tiny_patch16_224 --size 224

The first two models are in `examples/plain_vision.py`. For the others `pip install torchvision` or
`pip install timm`. Fashion-MNIST is Debian's package dataset-fashion-mnist.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import repeat
from plain_vision import ResNet18, ViT
from torch import Tensor, nn
from tqdm import tqdm

from modula import SteepestDescent, lift

sys.path.insert(0, str(Path(__file__).parent / "families"))
from images import FASHION_MNIST, Images
from images import load as load_images

RATES = {"lifted": 0.2, "adamw": 4e-3, "sgd": 0.1}
WARMUP = {"lifted": 0.0, "adamw": 0.1, "sgd": 0.1}
"""The fraction of the steps in which the rate rises."""


@dataclass(frozen=True)
class Task:
    """Images to train on and to test on, and the model to train."""

    train: Images
    test: Images
    build: Callable[[], nn.Module]


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_task(parser)
    parser.add_argument(
        "--model",
        default="resnet",
        help='"resnet", "vit", "torchvision:NAME" or "timm:NAME" (default %(default)s)',
    )
    parser.add_argument(
        "--optimizer",
        choices=list(RATES),
        default="lifted",
        help="which optimizer trains the model (default %(default)s)",
    )
    parser.add_argument("--lr", type=float, help=f"peak learning rate; by default {RATES}")
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights and batches (default %(default)s)"
    )
    return parser.parse_args(given)


def add_task(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is trained on which images."""
    parser.add_argument(
        "--data", type=Path, default=FASHION_MNIST, help="folder of images (default %(default)s)"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=6000,
        help="number of images to train on, the first ones (default %(default)s)",
    )
    parser.add_argument(
        "--test",
        type=int,
        default=4000,
        help="number of images to test on, the first ones (default %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, default=200, help="training steps (default %(default)s)"
    )
    parser.add_argument(
        "--batch", type=int, default=32, help="images per step (default %(default)s)"
    )
    parser.add_argument(
        "--width", type=int, help="of the network (by default 8 channels, 48 features of the ViT)"
    )
    parser.add_argument(
        "--size", type=int, help="enlarge images to this height and width (default: as they are)"
    )


def main(given: Sequence[str] | None = None) -> float:
    """Train, and return the accuracy on the test images."""
    options = parse(given)
    lr = RATES[options.optimizer] if options.lr is None else options.lr
    accuracy = train(task(options.model, options), options.optimizer, lr, options, show=True)
    print(
        f"{options.model}, {options.optimizer}, learning rate {lr:g}: test accuracy {accuracy:.1%}"
    )
    return accuracy


def task(kind: str, options: argparse.Namespace) -> Task:
    """Return a model of one kind, and the images with as many channels as it takes."""
    library, _, name = kind.rpartition(":")
    train, test = load_images(options.data)
    train = prepared(train, options.images, options.size, colored=bool(library))
    test = prepared(test, options.test, options.size, colored=bool(library))
    classes = int(train.labels.max()) + 1
    channels, size = train.images.shape[1], train.images.shape[2]

    def build() -> nn.Module:
        if library:
            return foreign(library, name, classes)
        if kind == "resnet":
            return ResNet18(classes, channels=channels, width=options.width or 8)
        if kind == "vit":
            return ViT(
                classes,
                channels=channels,
                size=size,
                patch=4,
                width=options.width or 48,
                heads=4,
                blocks=3,
            )
        raise SystemExit(
            f'--model is "resnet", "vit", "torchvision:NAME" or "timm:NAME"; got {kind!r}'
        )

    return Task(train, test, build)


def prepared(images: Images, count: int, size: int | None, *, colored: bool) -> Images:
    """Return the first images, enlarged if a size is given, in three channels if `colored`."""
    pixels = images.images[:count]
    if size is not None:
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=False)
    if colored and pixels.shape[1] == 1:
        pixels = repeat(pixels, "n 1 height width -> n 3 height width")
    return Images(pixels, images.labels[:count])


def foreign(library: str, name: str, classes: int) -> nn.Module:
    """Return a model of torchvision or timm, from random weights."""
    makers = {"torchvision": "torchvision.models:get_model", "timm": "timm:create_model"}
    if library not in makers:
        raise SystemExit(f"models come from torchvision or timm; got {library!r}")
    module, _, function = makers[library].partition(":")
    try:
        create = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise SystemExit(
            f"{library}:{name} needs {library} ({error}): pip install {library}"
        ) from None
    model: nn.Module = create(name, num_classes=classes)
    return model


def train(
    task: Task, optimizer: str, lr: float, options: argparse.Namespace, *, show: bool
) -> float:
    """Train a fresh model, and return its accuracy on the test images."""
    torch.manual_seed(options.seed)
    batches = torch.Generator().manual_seed(options.seed)
    model = task.build()
    x, y = task.train.batch(options.batch, batches)
    chosen = made(optimizer, model, x, lr, show=show)
    bar = tqdm(range(options.steps), unit="step", disable=not show)
    for step in bar:
        loss = F.cross_entropy(model(x), y)
        chosen.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch does not annotate it
        for group in chosen.param_groups:
            group["lr"] = lr * schedule(step, options.steps, WARMUP[optimizer])
        chosen.step()
        bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
        x, y = task.train.batch(options.batch, batches)
    return accuracy(model, task.test)


def made(
    optimizer: str, model: nn.Module, example: Tensor, lr: float, *, show: bool
) -> torch.optim.Optimizer:
    if optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.99), weight_decay=0.05)
    if optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
    net = lift(model, example)
    if show:
        print(net)
    return SteepestDescent(net, lr, momentum=0.9)


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the rate of a step over the peak rate: a linear rise, then a linear fall to zero."""
    rising = (step + 1) / (warmup * steps) if warmup else 1.0
    return min(rising, (1 - step / steps) / (1 - warmup))


@torch.no_grad()
def accuracy(model: nn.Module, test: Images) -> float:
    model.eval()
    pairs = zip(torch.split(test.images, 500), torch.split(test.labels, 500), strict=True)
    right = sum(int((model(x).argmax(dim=-1) == y).sum()) for x, y in pairs)
    return right / len(test.labels)


if __name__ == "__main__":
    main()
