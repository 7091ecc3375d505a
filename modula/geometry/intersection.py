"""One weight under two norms, as an embedding that is also the head has.

The unit ball of max(‖W‖_A, ‖W‖_B) is the intersection of the two balls, and no closed form is known
for the point of it that pairs best with a gradient. Two points are proved to lie in it:

- the spectral dual UVᵀ with every row that is too long shortened: D·UVᵀ with a diagonal D ≤ 1 has
  no larger singular values;
- the rows' own duals R with the singular values that are too large clipped: R·M with ‖M‖ ≤ 1 has no
  longer rows.

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
from modula.scaling import working_dtype


@dataclass(frozen=True)
class Intersection(Geometry):
    """Matrices under a spectral norm and under the largest Euclidean norm of their rows at once.

    The norm is the larger of the two. The duality map is a point of the unit ball that is proved to
    lie in it and need not be the best one; the dual norm is what that point attains, at most the
    smaller of the two dual norms.

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
        g = gradient.to(working_dtype(gradient.dtype))
        return _pairing(g, self.dualize(g, "svd"))

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        candidates = self._shortened_rows(gradient, method), self._clipped(gradient, method)
        first, second = (_pairing(gradient, candidate) for candidate in candidates)
        return torch.where((first >= second)[..., None, None], *candidates)

    def project(self, weight: Tensor) -> Tensor:
        return self.dualize(weight, PolarExpress(accuracy="high"))

    def sample(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        weight = self.spectral.sample(shape, generator, device)
        return weight / self.norm(weight[None])

    def _shortened_rows(self, gradient: Tensor, method: MethodLike | None) -> Tensor:
        """The spectral dual, with every row of norm beyond 1 brought to norm 1."""
        dual = self.spectral.dualize(gradient, method)
        length = self.rows.vector_norm.norm(dual.to(working_dtype(dual.dtype)))
        return dual / length.clamp(min=1).unsqueeze(-1).to(dual.dtype)

    def _clipped(self, gradient: Tensor, method: MethodLike | None) -> Tensor:
        """The rows' duals, with singular values beyond the spectral ball brought onto it.

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
    """Return the norm of one weight that is used under several norms.

    Args:
        geometries: of its uses.

    Returns:
        The geometry itself where all are the same, the larger of both norms for a matrix between
        Euclidean norms that is also a table of Euclidean rows.

    Raises:
        NormPairError: no duality map is known for the larger of these norms.

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
        f"no duality map is known for the larger of the norms {' and '.join(map(repr, distinct))}"
    )


def _accurate(method: MethodLike | None) -> MethodLike:
    """The method for a sign function, which no error may blur: the default in high accuracy."""
    return PolarExpress(accuracy="high") if method is None else method


def _pairing(g: Tensor, t: Tensor) -> Tensor:
    dtype = working_dtype(g.dtype)
    return (g.to(dtype) * t.to(dtype)).sum(dim=(-2, -1))
