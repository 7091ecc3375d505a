"""`Concat`: several tensors side by side along their features or channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar, overload

import torch
from torch import Tensor

from modula.algebra.core import Bond
from modula.checks import Claim
from modula.errors import MismatchError
from modula.graph import Radius, total_radius
from modula.norms import RMS, ChannelRMS, Euclidean, HeadRMS
from modula.spaces import ANYTHING, AnySpace, Product, Signature, Space, meet

if TYPE_CHECKING:
    from modula.algebra.operators import (  # pyright: ignore[reportMissingModuleSource]
        ConcatOperators,
    )
else:
    S = TypeVar("S")
    ConcatOperators = Bond[tuple[S, ...], S]

M = TypeVar("M", bound=Euclidean)
N = TypeVar("N", bound=Euclidean)

MEANS: frozenset[type[Euclidean]] = frozenset({RMS, HeadRMS, ChannelRMS})
"""The norms that are a root mean square."""


class Concat(ConcatOperators[N]):
    """(x₁, …, x_k) ↦ their vectors side by side, of widths d₁, …, d_k, as one of width d = Σ dᵢ.

    The mean square of the output is the mean of the parts' mean squares, weighted by their widths:
    RMS(y)² = Σ (dᵢ/d)·RMS(xᵢ)².

    Sensitivity max √(dᵢ/d), radius √(Σ (dᵢ/d)·Rᵢ²): proved. Since ‖Δy‖ ≤ Σ √(dᵢ/d)·‖Δxᵢ‖ and the
    norm of a tuple is the sum of its parts' norms, the largest factor bounds the map. Without
    widths the bounds are 1 and max Rᵢ, which hold for all widths.

    Args:
        widths: dᵢ, one for each part; none takes parts of any number and width.
        norm: of the parts and of the output: RMS for features, ChannelRMS for images, HeadRMS.

    Raises:
        TypeError: another norm.
        ValueError: a width below 1.

    Example:
        >>> import torch
        >>> from modula import Concat, Identity, Linear
        >>> skip = Linear(2, 12) @ Concat(8, 4) @ (Identity(), Linear(4, 8))
        >>> skip(torch.randn(3, 8)).shape
        torch.Size([3, 2])
    """

    claim: Claim = "proved"

    @overload
    def __init__(self: Concat[RMS], *widths: int) -> None: ...
    @overload
    def __init__(self: Concat[M], *widths: int, norm: type[M]) -> None: ...
    def __init__(self, *widths: int, norm: type[Euclidean] = RMS) -> None:
        super().__init__()
        if norm not in MEANS:
            raise TypeError(
                f"Concat takes parts in RMS, HeadRMS or ChannelRMS, got norm={norm!r}: in other "
                "norms the parts would not be weighted by their widths"
            )
        if not all(isinstance(width, int) and width >= 1 for width in widths):
            raise ValueError(f"Concat takes widths of at least 1, got {widths}")
        self.widths: tuple[int, ...] = widths
        self.part_norm: type[Euclidean] = norm
        self.sensitivity: float = max(map(math.sqrt, self._fractions()), default=1.0)

    def _fractions(self) -> list[float]:
        """The shares dᵢ/d of the parts in the width of the output."""
        return [width / sum(self.widths) for width in self.widths]

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        output = meet(Space(self.part_norm, sum(self.widths) or None), codomain)
        if self.widths:
            own: AnySpace = Product(tuple([Space(self.part_norm, width) for width in self.widths]))
            return meet(own, domain), output
        if domain == ANYTHING:
            return domain, output
        if not isinstance(domain, Product):
            raise MismatchError(f"Concat takes a tuple, as in Concat() @ (f, g), not {domain}")
        parts = [meet(Space(self.part_norm), part) for part in domain.parts]
        return _with_the_last_width(parts, output)

    def radius(self, *inputs: Radius) -> Radius:
        (parts,) = inputs
        if not isinstance(parts, tuple):
            return parts  # a bound on the sum of all parts
        radii = list(map(total_radius, parts))
        if not self.widths:
            return max(radii)
        weighted = zip(self._fractions(), radii, strict=True)
        return math.sqrt(math.fsum([fraction * R * R for fraction, R in weighted]))

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        axis = self.part_norm.axis
        widths = tuple([part.shape[axis] for part in x])
        others = {tuple(part.movedim(axis, 0).shape[1:]) for part in x}
        if widths != (self.widths or widths) or len(others) > 1:
            raise ValueError(
                f"{self!r} joins tensors that differ in their width alone, on axis {axis}"
                f"{f', of widths {self.widths}' if self.widths else ''}; got shapes "
                f"{' and '.join(str(list(part.shape)) for part in x)}"
            )
        return torch.cat(x, dim=axis)

    def extra_repr(self) -> str:
        norm = [] if self.part_norm is RMS else [f"norm={self.part_norm.__name__}"]
        return ", ".join([*map(str, self.widths), *norm])


def _with_the_last_width(parts: list[AnySpace], output: AnySpace) -> Signature:
    """The spaces of a tuple and of its concatenation, with the one width that the others imply.

    Raises:
        MismatchError: the widths do not sum to that of the output.
    """
    widths = [_width(part) for part in parts]
    known = [width for width in widths if width is not None]
    whole = _width(output)
    if len(known) == len(parts):
        output = meet(output, _of_width(output, sum(known)))
    elif whole is not None and len(known) == len(parts) - 1:
        last = widths.index(None)
        parts[last] = meet(parts[last], _of_width(output, whole - sum(known)))
    return Product(tuple(parts)), output


def _width(space: AnySpace) -> int | None:
    return space.width if isinstance(space, Space) else None


def _of_width(space: AnySpace, width: int) -> AnySpace:
    if width < 1 or not isinstance(space, Space):
        raise MismatchError(f"the parts are together wider than {space}")
    return Space(space.norm, width)
