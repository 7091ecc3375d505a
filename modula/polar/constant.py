"""Functions that `torch.compile` runs once, while it traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def constant(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function, whose result `torch.compile` takes as a constant.

    Args:
        function: of numbers and text alone.

    Example:
        >>> from modula.polar.constant import constant
        >>> constant(lambda x: x + 1)(2)
        3
    """
    marked: Callable[P, R] = torch.compiler.assume_constant_result(function)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return marked
