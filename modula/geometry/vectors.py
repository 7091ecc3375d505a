"""`Vectors` and `BallVectors`: weights that consist of vectors along one axis.

Source: Pethick et al. 2025 (arXiv:2502.07529), table 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modula.geometry.base import Geometry
from modula.geometry.parts import magnitudes
from modula.norms import Dense, Linf
from modula.polar import MethodLike
from modula.scaling import largest, split_scale, working_dtype


@dataclass(frozen=True)
class Vectors(Geometry):
    """Weights whose norm is the largest norm of their vectors along one axis.

    The vectors are rows, columns, or a single one. The dual norm is the sum of the vectors' dual
    norms; the duality map treats each vector by itself.

    Args:
        vector_norm: of one vector.
        axes: the number of axes of a weight.
        axis: the axis of a weight along which its vectors extend.

    Raises:
        ValueError: the weight has no such axis.

    Example:
        >>> import torch
        >>> from modula import L2
        >>> from modula.geometry import Vectors
        >>> rows = Vectors(L2)
        >>> weight = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
        >>> rows.norm(weight), rows.dual_norm(weight)
        (tensor([5.]), tensor([6.]))
    """

    vector_norm: type[Dense]
    axes: int = 2
    axis: int = -1

    def __post_init__(self) -> None:
        if not -self.axes <= self.axis < self.axes:
            raise ValueError(
                f"Vectors have an axis among the weight's {self.axes}, got axis={self.axis}"
            )
        # Counted from the end, where it stays when weights are batched.
        object.__setattr__(self, "axis", self.axis % self.axes - self.axes)

    def norm(self, weight: Tensor) -> Tensor:
        sizes = self.vector_norm.norm(self._vectors_last(weight))
        return largest(self._over_vectors(sizes), dim=-1)

    def dual_norm(self, gradient: Tensor) -> Tensor:
        return self._over_vectors(self.vector_norm.dual_norm(self._vectors_last(gradient))).sum(
            dim=-1
        )

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        return self.vector_norm.dualize(gradient.movedim(self.axis, -1)).movedim(-1, self.axis)

    def project(self, weight: Tensor) -> Tensor:
        return self._of_norm_one(weight)

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        weight = torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
        return self._of_norm_one(weight)

    @property
    def vector_axis(self) -> int | None:
        own = type(self)
        treats_vectors_alone = (
            own.dualize is Vectors.dualize
            and own.norm is Vectors.norm
            and own.dual_norm is Vectors.dual_norm
        )
        return self.axis if treats_vectors_alone else None

    def part_sizes(self, gradient: Tensor) -> Tensor | None:
        if self.vector_norm is Linf:  # whose dual consists of the signs of single entries
            return gradient.abs().to(working_dtype(gradient.dtype))
        return magnitudes(gradient, (self.axis,))

    def _of_norm_one(self, weight: Tensor) -> Tensor:
        """The weights with each vector rescaled to norm 1; zero stays zero."""
        direction, _ = split_scale(weight, dim=self.axis)
        length = self.vector_norm.norm(direction.movedim(self.axis, -1)).unsqueeze(self.axis)
        return direction / torch.where(length == 0, 1, length)

    def _vectors_last(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.axis, -1).to(working_dtype(weight.dtype))

    def _over_vectors(self, values: Tensor) -> Tensor:
        return (
            values.flatten(start_dim=values.dim() - (self.axes - 1))
            if self.axes > 1
            else values.unsqueeze(-1)
        )


@dataclass(frozen=True)
class BallVectors(Vectors):
    """`Vectors` that are projected onto the unit ball, as biases and gains are.

    `Vectors` rescales each vector to norm 1; a bias or a gain may be smaller.
    """

    def project(self, weight: Tensor) -> Tensor:
        length = self.vector_norm.norm(weight.movedim(self.axis, -1)).unsqueeze(self.axis)
        return torch.where(length > 1, super().project(weight), weight)
