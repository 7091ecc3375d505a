"""Load the 8×8 digits of scikit-learn, split into training and test."""

from __future__ import annotations

import torch
from einops import rearrange
from sklearn.datasets import load_digits
from torch import Tensor


def load(test: int = 360) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images [n, 1, 8, 8] in [−1, 1] and labels [n], for training and then for test."""
    pixels, targets = load_digits(return_X_y=True)
    images = (
        rearrange(
            torch.tensor(pixels, dtype=torch.float32),
            "n (height width) -> n 1 height width",
            height=8,
        )
        / 8
        - 1
    )
    labels = torch.tensor(targets)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    return images[test:], labels[test:], images[:test], labels[:test]


def noisy(labels: Tensor, fraction: float, generator: torch.Generator | None = None) -> Tensor:
    """Return labels of which a fraction is replaced by random ones.

    The expected loss on them is that of label smoothing by this fraction.
    """
    random = torch.randint(10, labels.shape, generator=generator)
    return torch.where(torch.rand(labels.shape, generator=generator) < fraction, random, labels)
