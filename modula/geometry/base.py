"""Norms on weights of one layout.

Every method is batched over the axes in front of the weight's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modula.polar import MethodLike


@dataclass(frozen=True)
class Matrices:
    """Matrices whose orthogonal factors make up a dual.

    Args:
        matrices: [..., count, d_out, d_in], one tensor for each shape.
        radii: by which the factors of each tensor are multiplied.
    """

    matrices: Sequence[Tensor]
    radii: Sequence[float]


class Geometry(ABC):
    """A norm on weights of one layout. `axes` is the number of axes that one weight has.

    Subclass it for an atom of your own, and check it with `modula.testing.check_geometry`. An
    instance must be hashable, since weights of equal geometry and shape are dualized in one batch;
    a frozen dataclass is.
    """

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
            method: one of `modula.polar`'s; None picks its default. Geometries that need no
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
        """The axis of a weight along which each vector is treated by itself, or None.

        A weight that is sharded along its other axes is then dualized shard by shard: its norm is
        the largest norm of a shard, its dual norm the sum of theirs. None, the default, has each
        weight gathered before it is dualized.
        """
        return None

    def orthogonal_parts(self, gradient: Tensor) -> Matrices | None:
        """Return the matrices whose orthogonal factors make up the dual, or None.

        Matrices of one shape are orthogonalised together, whichever weights they come from. None,
        the default, has `dualize` called.

        Args:
            gradient: a batch of gradients, [batch, *shape].
        """
        return None

    def from_orthogonal_parts(self, factors: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """Return the weights that `orthogonal_parts` has taken apart, [batch, *shape].

        Args:
            factors: one tensor for each of `Matrices.matrices`, shaped like it.
            shape: of one weight.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no weight apart")
