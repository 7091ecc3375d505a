"""Bonds that tie their two ends together, and bonds made from a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from modula.any_module import Ends
from modula.module import Bond, SpaceType
from modula.norms import Norm
from modula.spaces import AnySpace, Space, meet

X = TypeVar("X", bound=SpaceType)
Y = TypeVar("Y", bound=SpaceType)
P = TypeVar("P", bound=Norm)
Q = TypeVar("Q", bound=Norm)


class SameSpace(Bond[X, Y]):
    """A bond from one space to itself, whose output is as wide as its input."""

    def narrow(self, domain: AnySpace, codomain: AnySpace) -> Ends:
        own, _ = self._declared
        space = meet(meet(own, domain), codomain)
        return space, space


class FunctionBond(Bond[P, Q]):
    """A bond around a function.

    Args:
        function: tensor to tensor, without weights.
        domain, codomain: the norm types of its two ends.
        sensitivity: a bound on how much it stretches a change of its input, measured in these
            norms.

    Raises:
        ValueError: a sensitivity that is not positive.

    Example:
        >>> import torch
        >>> from modula import RMS, FunctionBond, Linear
        >>> sine = FunctionBond(torch.sin, domain=RMS, codomain=RMS, sensitivity=1.0)
        >>> (Linear(10, 256) @ sine @ Linear(256, 784)).sensitivity
        1.0
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        *,
        domain: type[P],
        codomain: type[Q],
        sensitivity: float = 1.0,
    ) -> None:
        super().__init__()
        self.function = function
        self._ends = (Space(domain), Space(codomain))
        self.sensitivity = sensitivity

    def narrow(self, domain: AnySpace, codomain: AnySpace) -> Ends:
        return meet(self._ends[0], domain), meet(self._ends[1], codomain)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return getattr(self.__dict__.get("function"), "__name__", "…")
