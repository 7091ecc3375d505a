"""What a module can compute with: a tensor."""

from __future__ import annotations

import torch
from torch import Tensor


def check_tensor(owner: object, value: object) -> None:
    """Raise if the input of a module is not a tensor that has a shape.

    Args:
        owner: the module, named in the error.
        value: any value.

    Raises:
        TypeError: names the module and the kind of the value.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{owner!r} takes a tensor, got {type(value).__name__}")
    if value.is_nested and value.layout is torch.strided:
        raise TypeError(
            f"{owner!r} takes a tensor that has a shape, got a nested tensor of layout "
            "torch.strided: pad it, as in value.to_padded_tensor(0)"
        )
