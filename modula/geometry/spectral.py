"""Weights that consist of matrices, whose singular values the duality map sets to one value.

Source: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined] # torch documents it there

from modula.geometry.base import Geometry, Matrices
from modula.norms import Euclidean
from modula.polar import MethodLike, NewtonSchulz, PolarExpress, orthogonalize
from modula.scaling import split_scale, working_dtype

SQUARINGS = 40
"""After so many a ratio of eigenvalues of 1 + 1e-12 is resolved."""

STEPS_TO_CONVERGENCE = 60
"""Newton–Schulz steps that lift singular values of 1e-16 to 1."""


class Orthogonal(Geometry):
    """Weights that consist of matrices, all of whose singular values are `radius` in the dual.

    A subclass defines `matrices`, `from_matrices`, `radius`, the two norms and `sample`. If it
    overrides `dualize`, a network calls that and does not batch its matrices with those of others.
    """

    @abstractmethod
    def radius(self, shape: tuple[int, ...]) -> float:
        """Return the nonzero singular values of the dual of a gradient of that shape."""

    @abstractmethod
    def matrices(self, weight: Tensor) -> Tensor:
        """Return the matrices of each weight: [..., *shape] -> [..., count, d_out, d_in]."""

    @abstractmethod
    def from_matrices(self, matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Reassemble the weights: [..., count, d_out, d_in] -> [..., *shape]."""

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        shape = tuple(gradient.shape[-self.axes :])
        factors = orthogonalize(self.matrices(gradient), method=method)
        return self.from_matrices(factors * self.radius(shape), shape)

    def project(self, weight: Tensor) -> Tensor:
        return self.dualize(weight, method=PolarExpress(accuracy="high"))

    def orthogonal_parts(self, gradient: Tensor) -> Matrices | None:
        if type(self).dualize is not Orthogonal.dualize:
            return None
        shape = tuple(gradient.shape[-self.axes :])
        return Matrices([self.matrices(gradient)], [self.radius(shape)])

    def from_orthogonal_parts(self, factors: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        return self.from_matrices(factors[0], shape)


@dataclass(frozen=True)
class Spectral(Orthogonal):
    """Matrices [d_out, d_in] between Euclidean norms.

    With the radius r(d) of a norm's unit ball (√d for RMS, 1 for L2), ‖W‖ = r(d_in)/r(d_out)·σ_max,
    and the dual of G = UΣVᵀ is r(d_out)/r(d_in)·UVᵀ.

    Args:
        domain: the norm of the input.
        codomain: the norm of the output.

    Example:
        >>> import torch
        >>> from modula import RMS
        >>> from modula.geometry import Spectral
        >>> Spectral(RMS, RMS).norm(torch.ones(1, 2, 8))  # σ_max = 4
        tensor([8.])
    """

    domain: type[Euclidean]
    codomain: type[Euclidean]
    axes = 2

    def radius(self, shape: tuple[int, ...]) -> float:
        d_out, d_in = shape
        return self.codomain.radius(d_out) / self.domain.radius(d_in)

    def matrices(self, weight: Tensor) -> Tensor:
        return weight.unsqueeze(-3)

    def from_matrices(self, matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
        return matrices.squeeze(-3)

    def norm(self, weight: Tensor) -> Tensor:
        return _measured(weight, _largest_singular_value, 1 / self._radius_of(weight))

    def dual_norm(self, gradient: Tensor) -> Tensor:
        return _measured(gradient, _nuclear_norm, self._radius_of(gradient))

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        weight = torch.empty(shape, device=device, dtype=torch.float32)
        return torch.nn.init.orthogonal_(weight, generator=generator) * self.radius(shape)

    def _radius_of(self, weight: Tensor) -> float:
        return self.radius(tuple(weight.shape[-2:]))


def _measured(matrix: Tensor, size: Callable[[Tensor], Tensor], factor: float) -> Tensor:
    """factor·size of each matrix of a batch; NaN for a matrix that is not finite.

    The scale of a matrix is multiplied last, so that nothing overflows on the way. Entries below
    eps² of the largest, which no sum of squares notices, are set to zero: LAPACK returns NaN for
    some matrices with entries whose squares underflow.
    """
    direction, scale = split_scale(matrix.to(working_dtype(matrix.dtype)), dim=(-2, -1))
    eps = torch.finfo(direction.dtype).eps
    finite = direction.isfinite().all(dim=-1).all(dim=-1)
    visible = F.hardshrink(torch.where(finite[..., None, None], direction, 0), eps**2)
    measured = size(visible) * factor
    return torch.where(finite, measured * scale[..., 0, 0], torch.nan)


def _largest_singular_value(matrix: Tensor) -> Tensor:
    """σ_max of each matrix of a batch, by the smaller Gram matrix."""
    is_tall = matrix.shape[-2] >= matrix.shape[-1]
    gram = matrix.mT @ matrix if is_tall else matrix @ matrix.mT
    return _largest_eigenvalue(gram).clamp(min=0).sqrt()


def _largest_eigenvalue(gram: Tensor) -> Tensor:
    """λ_max of each positive semidefinite matrix of a batch.

    LAPACK fails to converge on some matrices of rank one. Then λ_max is the limit of
    ‖A^k‖_F^(1/k), in float64 over k = 2^40 by squaring, which cannot fail.
    """
    try:
        eigenvalues: Tensor = torch.linalg.eigvalsh(gram)
        return eigenvalues[..., -1:].sum(dim=-1)  # 0 for matrices without rows
    except LinAlgError:
        power, log_largest = gram.double(), torch.zeros(gram.shape[:-2], device=gram.device)
        for k in range(SQUARINGS):
            length = torch.linalg.matrix_norm(power)
            log_largest = log_largest + length.log() / 2**k
            power = power / torch.where(length == 0, 1, length)[..., None, None]
            power = power @ power
        return log_largest.exp().to(gram.dtype)


def _nuclear_norm(matrix: Tensor) -> Tensor:
    """Σσ of each matrix of a batch: the pairing with UVᵀ where LAPACK fails to converge."""
    try:
        total: Tensor = torch.linalg.svdvals(matrix).sum(dim=-1)
        return total
    except LinAlgError:
        wide = matrix.double()
        factor = orthogonalize(wide, NewtonSchulz(steps=STEPS_TO_CONVERGENCE))
        return (wide * factor).sum(dim=(-2, -1)).to(matrix.dtype)
