"""The 8×8 digits that come with scikit-learn, split into training and test."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor


def load(test: int = 360) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images [n, 1, 8, 8] with entries from −1 to 1 and labels, for training; the same for test."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    return images[test:], labels[test:], images[:test], labels[:test]
