"""`Scalar`: multiplication by one learned number."""

from __future__ import annotations

from typing import ClassVar, TypeVar, overload

import torch
from torch import Tensor
from typing_extensions import Unpack

from modula.algebra.core import Atom, AtomOptions
from modula.checks import Acts, Claim
from modula.geometry import BallVectors
from modula.norms import RMS, Dense, Linf
from modula.spaces import AnySpace, Signature, meet

X = TypeVar("X", bound=Dense)
Y = TypeVar("Y", bound=Dense)
N = TypeVar("N", bound=Dense)


class Scalar(Atom[X, Y]):
    """x ↦ g·x for one number g, a weight of shape [1], measured by its magnitude.

    Sensitivity 1, radius R: proved, under every norm, since ‖g·x‖ = |g|·‖x‖. The number starts at
    one.

    Args:
        norm: the norm type of input and output, such as ChannelRMS for images.
        mass, device, dtype: as for every atom.

    Raises:
        TypeError: `norm` is not a norm of real vectors.
        ValueError: a negative mass.

    Example:
        >>> from modula import Linear, Scalar
        >>> (Scalar() @ Linear(4, 8)).mass
        2.0
    """

    claim: Claim = "proved"
    acts: ClassVar[Acts] = "otherwise"

    @overload
    def __init__(self: Scalar[RMS, RMS], **options: Unpack[AtomOptions]) -> None: ...
    @overload
    def __init__(self: Scalar[N, N], norm: type[N], **options: Unpack[AtomOptions]) -> None: ...
    def __init__(self, norm: type[Dense] = RMS, **options: Unpack[AtomOptions]) -> None:
        if not (isinstance(norm, type) and issubclass(norm, Dense)):
            raise TypeError(f"Scalar takes a norm of real vectors, such as RMS; got {norm!r}")
        super().__init__((1,), BallVectors(Linf, axes=1), domain=norm, codomain=norm, **options)
        self._written = "" if norm is RMS else norm.__name__

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Set the number to one."""
        self.weight.fill_(1.0)

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        space = meet(*super().unify(domain, codomain))
        return space, space

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x

    def extra_repr(self) -> str:
        return self._written
