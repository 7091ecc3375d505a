"""`Transposed` and `Flattened`: weights that are measured in another arrangement than stored."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modula.geometry.base import Geometry, Matrices
from modula.polar import MethodLike


class Rearranged(Geometry):
    """Weights that `block` measures after their axes are rearranged.

    A subclass defines `arranged`, `stored` and `arranged_shape`. Norm, dual norm and duality map
    are those of the rearranged weight.
    """

    block: Geometry

    @abstractmethod
    def arranged(self, weight: Tensor) -> Tensor:
        """Return the weights as `block` takes them: [..., *shape] -> [..., *arranged_shape]."""

    @abstractmethod
    def stored(self, arranged: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the weights as they are stored, the inverse of `arranged`."""

    @abstractmethod
    def arranged_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one weight as `block` takes it."""

    def norm(self, weight: Tensor) -> Tensor:
        return self.block.norm(self.arranged(weight))

    def dual_norm(self, gradient: Tensor) -> Tensor:
        return self.block.dual_norm(self.arranged(gradient))

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        dual = self.block.dualize(self.arranged(gradient), method)
        return self.stored(dual, self._shape(gradient))

    def part_sizes(self, gradient: Tensor) -> Tensor | None:
        arranged = self.arranged(gradient)
        sizes = self.block.part_sizes(arranged)
        return (
            None if sizes is None else self.stored(sizes.expand_as(arranged), self._shape(gradient))
        )

    def project(self, weight: Tensor) -> Tensor:
        return self.stored(self.block.project(self.arranged(weight)), self._shape(weight))

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        return self.stored(self.block.sample(self.arranged_shape(shape), generator, device), shape)

    def orthogonal_parts(self, gradient: Tensor) -> Matrices | None:
        if type(self).dualize is not Rearranged.dualize:
            return None
        return self.block.orthogonal_parts(self.arranged(gradient))

    def from_orthogonal_parts(self, factors: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        arranged = self.block.from_orthogonal_parts(factors, self.arranged_shape(shape))
        return self.stored(arranged, shape)

    def _shape(self, weight: Tensor) -> tuple[int, ...]:
        return tuple(weight.shape[weight.dim() - self.axes :])


@dataclass(frozen=True)
class Transposed(Rearranged):
    """Weights that are stored as [d_in, d_out, …] where `block` takes [d_out, d_in, …].

    Such are the matrices of `x @ W`, and the kernels of transposed convolutions.

    Args:
        block: the geometry of the weight with its first two axes exchanged.

    Example:
        >>> import torch
        >>> from modula import RMS
        >>> from modula.geometry import Spectral, Transposed
        >>> Transposed(Spectral(RMS, RMS)).norm(torch.ones(1, 8, 2))  # from RMS(8) to RMS(2)
        tensor([8.])
    """

    block: Geometry

    @property
    def axes(self) -> int:  # type: ignore[override] # follows from the block's
        return self.block.axes

    def arranged(self, weight: Tensor) -> Tensor:
        return weight.transpose(-self.axes, 1 - self.axes)

    def stored(self, arranged: Tensor, shape: tuple[int, ...]) -> Tensor:
        return arranged.transpose(-self.axes, 1 - self.axes).contiguous()

    def arranged_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[1], shape[0], *shape[2:])


@dataclass(frozen=True)
class Flattened(Rearranged):
    """Weights several of whose neighbouring axes are one axis of `block`.

    Such are the kernels of convolutions whose patches do not overlap, which are one matrix
    [d_out, d_in·pixels], and projections to or from heads [d, heads, d_head].

    Args:
        block: the geometry of the weight with these axes flattened into one.
        start: the first of them.
        count: their number, at least 1.

    Example:
        >>> import torch
        >>> from modula import RMS
        >>> from modula.geometry import Flattened, Spectral
        >>> patches = Flattened(Spectral(RMS, RMS), start=1, count=3)
        >>> patches.norm(torch.ones(1, 2, 2, 2, 2))  # a matrix [2, 8] of ones
        tensor([8.])
    """

    block: Geometry
    start: int
    count: int

    @property
    def axes(self) -> int:  # type: ignore[override] # follows from the block's
        return self.block.axes + self.count - 1

    def arranged(self, weight: Tensor) -> Tensor:
        first = self.start - self.axes
        return weight.flatten(first, first + self.count - 1)

    def stored(self, arranged: Tensor, shape: tuple[int, ...]) -> Tensor:
        inside = shape[self.start : self.start + self.count]
        return torch.unflatten(arranged, self.start - self.block.axes, inside)

    def arranged_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        inside = math.prod(shape[self.start : self.start + self.count])
        return (*shape[: self.start], inside, *shape[self.start + self.count :])


@dataclass(frozen=True)
class Reshaped(Rearranged):
    """Weights that `block` measures in another shape, and with their axes in another order.

    Such are matrices that a network keeps as one vector of entries, and those whose rows it reads
    as [group, d_out].

    Args:
        block: the geometry of the weight after both.
        axes: the number of axes of the weight as it is stored.
        shape: that it is given first.
        order: the axes of that shape, in the order in which `block` takes them; None keeps theirs.

    Raises:
        ValueError: the order does not name each axis of the shape once.

    Example:
        >>> import torch
        >>> from modula import RMS
        >>> from modula.geometry import Reshaped, Spectral
        >>> Reshaped(Spectral(RMS, RMS), 1, (2, 8)).norm(torch.ones(1, 16))
        tensor([8.])
    """

    block: Geometry
    axes: int
    shape: tuple[int, ...]
    order: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if sorted(self._order()) != list(range(len(self.shape))):
            raise ValueError(
                f"Reshaped takes each of the {len(self.shape)} axes of {list(self.shape)} once, "
                f"got order={self.order}"
            )

    def arranged(self, weight: Tensor) -> Tensor:
        batch = weight.shape[: weight.dim() - self.axes]
        before = range(len(batch))
        after = [len(batch) + k for k in self._order()]
        return weight.reshape(*batch, *self.shape).permute(*before, *after)

    def stored(self, arranged: Tensor, shape: tuple[int, ...]) -> Tensor:
        count = len(self.shape)
        batch = arranged.shape[: arranged.dim() - count]
        order = self._order()
        back = [len(batch) + order.index(k) for k in range(count)]
        return arranged.permute(*range(len(batch)), *back).reshape((*batch, *shape))

    def arranged_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple([self.shape[k] for k in self._order()])

    def _order(self) -> tuple[int, ...]:
        return tuple(range(len(self.shape))) if self.order is None else self.order
