"""`Geometry`: the interface of a norm on weights of one layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modula.polar import MethodLike


@dataclass(frozen=True)
class Matrices:
    """The matrices whose orthogonal factors are the dual of a batch of gradients.

    Args:
        matrices: one tensor [batch, count, d_out, d_in] for each shape of a matrix.
        radii: one factor for each tensor, by which its orthogonal factors are multiplied.
    """

    matrices: Sequence[Tensor]
    radii: Sequence[float]


class Geometry(ABC):
    """A norm on weights of one layout. `axes` is the number of axes of one weight.

    All methods take batches: the first axis of their argument counts weights. A subclass defines
    `axes`, `norm`, `dual_norm`, `dualize`, `project` and `sample`, and must be hashable, since
    weights of equal geometry and shape are dualized in one batch; a frozen dataclass is. It may
    define `vector_axis` or `orthogonal_parts` to be dualized faster, and must define `part_sizes`
    if the dual of a weight consists of several duals. Check it with
    `modula.testing.check_geometry`.
    """

    __slots__ = ()  # a subclass stores `axes`, if it stores it, and may make it read-only

    axes: int

    @abstractmethod
    def norm(self, weight: Tensor) -> Tensor:
        """Return the norm of each weight of a batch: [batch, *shape] -> [batch]."""

    @abstractmethod
    def dual_norm(self, gradient: Tensor) -> Tensor:
        """Return max over ‖t‖ = 1 of <g, t> for each g of a batch: [batch, *shape] -> [batch]."""

    @abstractmethod
    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        """Return the argmax over ‖t‖ = 1 of <g, t> for each g: [batch, *shape] -> the same.

        Args:
            gradient: a batch of gradients.
            method: one of `modula.polar`; None takes its default. Geometries without
                orthogonalisation ignore it.
        """

    @abstractmethod
    def project(self, weight: Tensor) -> Tensor:
        """Project each weight of a batch onto its natural constraint set."""

    @abstractmethod
    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        """Return a random weight of norm 1, as float32 on `device`."""

    @property
    def vector_axis(self) -> int | None:
        """The axis of the vectors of which a weight consists, or None.

        If the dual of a weight consists of the duals of its vectors along this axis, its norm is
        their largest norm and its dual norm the sum of their dual norms, then a weight that is
        sharded along other axes is dualized shard by shard. For None, the default, each weight is
        gathered before it is dualized.
        """
        return None

    def part_sizes(self, gradient: Tensor) -> Tensor | None:
        """Return the largest magnitude in each part that `dualize` treats by itself, or None.

        A part, such as a row of a table or an expert, that the step's gradient does not touch comes
        to rest beside others that are touched. For None, the default, a weight is one part.

        Args:
            gradient: a batch of gradients, [batch, *shape].

        Returns:
            [batch, *shape], with the axes along which parts extend kept at length 1.
        """
        return None

    def orthogonal_parts(self, gradient: Tensor) -> Matrices | None:
        """Return the matrices whose orthogonal factors are the dual of a gradient, or None.

        A network orthogonalises the matrices of all its weights together, in one batch for each
        shape. For None, the default, it calls `dualize`.

        Args:
            gradient: a batch of gradients, [batch, *shape].
        """
        return None

    def from_orthogonal_parts(self, factors: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Return the duals from their matrices, the inverse of `orthogonal_parts`.

        Args:
            factors: one tensor for each of `Matrices.matrices`, of its shape.
            shape: of one weight.

        Returns:
            A batch of weights, [batch, *shape].
        """
        raise NotImplementedError(
            f"{type(self).__name__} defines orthogonal_parts and not its inverse: define "
            f"{type(self).__name__}.from_orthogonal_parts"
        )
