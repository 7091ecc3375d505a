"""Bonds that tie their two ends together, and bonds made from a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from modula.algebra.core import Bond, SpaceType
from modula.network import Signature
from modula.norms import Norm
from modula.spaces import AnySpace, Space, meet

X = TypeVar("X", bound=SpaceType)
Y = TypeVar("Y", bound=SpaceType)
P = TypeVar("P", bound=Norm)
Q = TypeVar("Q", bound=Norm)


class SameSpace(Bond[X, Y]):
    """A bond from one space to itself, whose output is as wide as its input."""

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
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
        self._signature = (Space(domain), Space(codomain))
        self.sensitivity = sensitivity

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        return meet(self._signature[0], domain), meet(self._signature[1], codomain)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return getattr(self.__dict__.get("function"), "__name__", "…")
