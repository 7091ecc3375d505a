"""The 8×8 digits that come with scikit-learn, split into training and test."""

from __future__ import annotations

import torch
from einops import rearrange
from sklearn.datasets import load_digits
from torch import Tensor


def load(test: int = 360) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images [n, 1, 8, 8] with entries from −1 to 1 and labels, for training; the same for test."""
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


def noisy(labels: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """The labels with a share of them replaced by random ones. The expected loss on them is that of
    label smoothing by the share.
    """
    random = torch.randint(10, labels.shape, generator=generator)
    return torch.where(torch.rand(labels.shape, generator=generator) < share, random, labels)
