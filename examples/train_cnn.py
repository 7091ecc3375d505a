"""Train a residual convolutional network to read digits, in the loop of hello_world.py.

python examples/train_cnn.py
"""

from __future__ import annotations

import argparse

import digits
import torch
import torch.nn.functional as F
from tqdm import tqdm

from modula import ResCNN


def main(steps: int = 200, lr: float = 8.0, width: int = 32, num_blocks: int = 3) -> float:
    torch.manual_seed(0)
    images, labels, test_images, test_labels = digits.load()

    model = 10 * ResCNN(10, 1, width=width, num_blocks=num_blocks)
    print(model)

    bar = tqdm(range(steps), unit="step")
    for step in bar:
        chosen = torch.randint(len(images), (64,))
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        grad = model.gradient(loss)
        model.weights -= lr * (1 - step / steps) * model.dualize(grad)
        bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)

    with torch.no_grad():
        accuracy = (model(test_images).argmax(dim=-1) == test_labels).float().mean().item()
    print(f"test accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--steps", type=int, default=200, help="training steps (default %(default)s)"
    )
    parser.add_argument(
        "--lr",
        type=float,
        default=8.0,
        help="norm of the first step; falls to zero in a line (default %(default)s)",
    )
    parser.add_argument(
        "--width", type=int, default=32, help="number of channels (default %(default)s)"
    )
    parser.add_argument(
        "--num-blocks", type=int, default=3, help="residual blocks (default %(default)s)"
    )
    main(**vars(parser.parse_args()))
