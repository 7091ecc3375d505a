"""Norms on weights of one layout.

Every method is batched over the axes in front of the weight's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from modula.polar import MethodLike


class NormPairError(TypeError):
    """A pair of norm types between which no linear map has a duality map in closed form."""


class Geometry(ABC):
    """A norm on weights of one layout. `axes` is the number of axes that one weight has.

    Subclass it for an atom of your own. An instance must be hashable, since weights of equal
    geometry and shape are dualized in one batch; a frozen dataclass is.
    """

    axes: int

    @abstractmethod
    def norm(self, weight: Tensor) -> Tensor:
        """The norm of each weight of a batch: [batch, *shape] -> [batch]."""

    @abstractmethod
    def dual_norm(self, gradient: Tensor) -> Tensor:
        """max over ‖t‖ = 1 of <g, t> for each gradient of a batch: [batch, *shape] -> [batch]."""

    @abstractmethod
    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        """The argmax over ‖t‖ = 1 of <g, t> for each gradient of a batch: [batch, *shape] ->
        [batch, *shape].

        `method` is one of `modula.polar`'s; None picks its default. Geometries that need no
        orthogonalisation ignore it.
        """

    @abstractmethod
    def project(self, weight: Tensor) -> Tensor:
        """The point of the natural constraint set that each weight of a batch points at."""

    @abstractmethod
    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        """A random weight of norm 1, as float32 on `device`."""
