"""Train an MLP to read digits, by dualized gradient descent: the smallest complete example.

python examples/hello_world.py
"""

from __future__ import annotations

import argparse

import digits
import torch
import torch.nn.functional as F
from tqdm import tqdm

from modula import Linear, ReLU


def main(steps: int = 300, lr: float = 0.5) -> float:
    torch.manual_seed(0)
    images, labels, test_images, test_labels = digits.load()

    model = 10 * (Linear(10, 256) @ ReLU() @ Linear(256, 256) @ ReLU() @ Linear(256, 64))
    print(model)

    bar = tqdm(range(steps), unit="step")
    for step in bar:
        chosen = torch.randint(len(images), (128,))
        loss = F.cross_entropy(model(images[chosen].flatten(1)), labels[chosen])
        grad = model.gradient(loss)
        model.weights -= lr * (1 - step / steps) * model.dualize(grad)
        bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)

    with torch.no_grad():
        right = model(test_images.flatten(1)).argmax(dim=-1) == test_labels
    accuracy = right.float().mean().item()
    print(f"test accuracy {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--steps", type=int, default=300, help="training steps (default %(default)s)"
    )
    parser.add_argument(
        "--lr",
        type=float,
        default=0.5,
        help="norm of the first step; falls to zero in a line (default %(default)s)",
    )
    main(**vars(parser.parse_args()))
