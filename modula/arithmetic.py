"""Duality is computed as written, whatever modes the caller's code runs in."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_DEVICES = ("cpu", "cuda", "xpu", "mps")


def as_written(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function, run without gradients and without autocast.

    Autocast would multiply matrices in 16 bits in the middle of an iteration that needs 32.

    Args:
        function: to be decorated.

    Example:
        >>> import torch
        >>> from modula.arithmetic import as_written
        >>> square = as_written(lambda x: x @ x)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     square(torch.eye(2)).dtype
        torch.float32
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                with torch.autocast(device, enabled=False):
                    return run(*args, **kwargs)
        with torch.no_grad():
            return function(*args, **kwargs)

    return run
