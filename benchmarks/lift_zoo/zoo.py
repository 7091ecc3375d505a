"""`Example`: a model with the arguments of one call, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

VOCABULARY = 97


class Example(NamedTuple):
    """A model, and the arguments of one call of it."""

    model: nn.Module
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = {}


Build = Callable[[], Example]


def ids(batch: int = 2, length: int = 16) -> Tensor:
    """Return random token ids."""
    return torch.randint(3, VOCABULARY, (batch, length))


def images(size: int = 32, batch: int = 2) -> Tensor:
    """Return random images of three channels."""
    return torch.randn(batch, 3, size, size)
