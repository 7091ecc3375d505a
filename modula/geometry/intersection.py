"""`Intersection`: one weight under two norms, as a table that is both embedding and head.

The unit ball of max(‖W‖_A, ‖W‖_B) is the intersection of the two unit balls. No closed form is
known for its point that pairs best with a gradient. Two of its points are

- the spectral dual UVᵀ, with every row of norm above 1 rescaled to norm 1: D·UVᵀ with a diagonal
  0 ≤ D ≤ 1 has no larger singular values;
- the duals R of the rows, with every singular value outside of the spectral ball clipped: R·M with
  σ_max(M) ≤ 1 has no longer rows.

`Intersection` takes the one that pairs better with the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modula.errors import NormPairError
from modula.geometry.base import Geometry
from modula.geometry.spectral import Spectral
from modula.geometry.vectors import Vectors
from modula.norms import Euclidean
from modula.polar import MethodLike, PolarExpress, orthogonalize
from modula.scaling import split_scale, working_dtype


@dataclass(frozen=True)
class Intersection(Geometry):
    """Matrices under the larger of a spectral norm and the largest Euclidean norm of their rows.

    The duality map gives a point of the unit ball, which is not always the one that pairs best with
    the gradient. The dual norm is the pairing with that point, a lower bound on the maximum, which
    is at most the smaller of the two dual norms.

    Args:
        spectral: the norm of the matrix as a map.
        rows: the norm of the matrix as a table of vectors along its last axis.

    Example:
        >>> import torch
        >>> from modula import RMS
        >>> from modula.geometry import Intersection, Spectral, Vectors
        >>> tied = Intersection(Spectral(RMS, RMS), Vectors(RMS))
        >>> gradient = torch.randn(1, 65, 8)
        >>> float(tied.norm(tied.dualize(gradient, "svd"))) <= 1.0001
        True
    """

    spectral: Spectral
    rows: Vectors
    axes = 2

    def norm(self, weight: Tensor) -> Tensor:
        return torch.maximum(self.spectral.norm(weight), self.rows.norm(weight))

    def dual_norm(self, gradient: Tensor) -> Tensor:
        g, scale = split_scale(gradient.to(working_dtype(gradient.dtype)), dim=(-2, -1))
        return _pairing(g, self.dualize(g, "svd")) * scale[..., 0, 0]

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        direction, _ = split_scale(gradient, dim=(-2, -1))
        candidates = self._shortened_rows(direction, method), self._clipped(direction, method)
        first, second = (_pairing(direction, candidate) for candidate in candidates)
        return torch.where((first >= second)[..., None, None], *candidates)

    def part_sizes(self, gradient: Tensor) -> Tensor | None:
        return self.rows.part_sizes(gradient)

    def project(self, weight: Tensor) -> Tensor:
        near = self.dualize(weight, PolarExpress(accuracy="high"))
        excess = self.norm(near).clamp(min=1)[..., None, None]
        return near / excess.to(near.dtype)

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        weight = self.spectral.sample(shape, generator, device)
        return weight / self.norm(weight[None])

    def _shortened_rows(self, gradient: Tensor, method: MethodLike | None) -> Tensor:
        """The spectral dual, with every row of norm above 1 rescaled to norm 1."""
        dual = self.spectral.dualize(gradient, method)
        length = self.rows.vector_norm.norm(dual.to(working_dtype(dual.dtype)))
        return dual / length.clamp(min=1).unsqueeze(-1).to(dual.dtype)

    def _clipped(self, gradient: Tensor, method: MethodLike | None) -> Tensor:
        """The duals of the rows, with singular values clipped to the radius of the spectral ball.

        With R = UΣVᵀ in units of the ball's radius, min(Σ, 1) is RP + UVᵀ(I − P), where P projects
        onto the directions of RᵀR − I < 0: P = (I − sign(RᵀR − I))/2, and the sign of a symmetric
        matrix is its orthogonal factor.
        """
        radius = self.spectral.radius(tuple(gradient.shape[-2:]))
        R = self.rows.dualize(gradient) / radius
        is_tall = R.shape[-2] >= R.shape[-1]
        working = R.to(working_dtype(R.dtype))
        gram = working.mT @ working if is_tall else working @ working.mT
        eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        small = (eye - orthogonalize(gram - eye, _accurate(method))) / 2
        factor = orthogonalize(R, method).to(working.dtype)
        large = eye - small
        clipped = working @ small + factor @ large if is_tall else small @ working + large @ factor
        return (clipped * radius).to(gradient.dtype)


def intersection(geometries: Sequence[Geometry]) -> Geometry:
    """Return the geometry of the largest of several norms on one weight.

    Args:
        geometries: one for each use of the weight.

    Returns:
        The geometry itself if all are equal; an `Intersection` for a `Spectral` and a `Vectors` of
        Euclidean rows.

    Raises:
        NormPairError: no duality map is known for the largest of these norms.

    Example:
        >>> from modula import RMS
        >>> from modula.geometry import Spectral, Vectors, intersection
        >>> intersection([Vectors(RMS), Spectral(RMS, RMS)])
        Intersection(spectral=Spectral(domain=<class 'modula.norms.RMS'>, codomain=<class \
'modula.norms.RMS'>), rows=Vectors(vector_norm=<class 'modula.norms.RMS'>, axes=2, axis=-1))
    """
    distinct = list(dict.fromkeys(geometries))
    if len(distinct) == 1:
        return distinct[0]
    spectral = [one for one in distinct if type(one) is Spectral]
    rows = [
        one
        for one in distinct
        if type(one) is Vectors
        and one.axes == 2
        and one.axis in (-1, 1)
        and issubclass(one.vector_norm, Euclidean)
    ]
    if len(distinct) == 2 and spectral and rows:
        return Intersection(spectral[0], rows[0])
    raise NormPairError(
        f"no duality map is known for the largest of the norms {' and '.join(map(repr, distinct))}"
    )


def _accurate(method: MethodLike | None) -> MethodLike:
    """The method for the sign function of a matrix, which by default is computed accurately."""
    return PolarExpress(accuracy="high") if method is None else method


def _pairing(g: Tensor, t: Tensor) -> Tensor:
    dtype = working_dtype(g.dtype)
    return (g.to(dtype) * t.to(dtype)).sum(dim=(-2, -1))
