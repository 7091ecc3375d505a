"""Norms on weights: the operator norm that the two ends of a linear map induce, and its duality
map.

`operator_geometry(domain, codomain)` is the table of all pairs that have a duality map in closed
form. Every method is batched over the axes in front of the weight's own.

Sources: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4; Pethick et al. 2025
(arXiv:2502.07529), table 2, for the norms built from rows and columns.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from modula.norms import (
    L1,
    L2,
    RMS,
    ChannelRMS,
    Dense,
    Euclidean,
    HeadRMS,
    Linf,
    Norm,
    OneHot,
    VectorNorm,
)
from modula.polar import MethodLike, PolarExpress, orthogonalize
from modula.scaling import split_scale, working_dtype


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
    def draw(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        """A random weight of norm 1, as float32 on `device`."""


class Orthogonal(Geometry):
    """Weights made of matrices whose singular values the duality map sets to one value: `unit`·UVᵀ
    for each.

    Matrices of one shape, or of its transpose, are orthogonalised in one batch, whichever of these
    geometries and weights they come from.
    """

    @abstractmethod
    def unit(self, shape: tuple[int, ...]) -> float:
        """What the singular values of each matrix are, in the dual of a gradient of that shape."""

    @abstractmethod
    def matrices(self, weight: Tensor) -> Tensor:
        """The matrices of each weight, without a copy: [..., *shape] -> [..., count, d_out,
        d_in].
        """

    @abstractmethod
    def weight(self, matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
        """What `matrices` has taken apart: [..., count, d_out, d_in] -> [..., *shape]."""

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        shape = tuple(gradient.shape[-self.axes :])
        return self.weight(
            orthogonalize(self.matrices(gradient), method=method) * self.unit(shape), shape
        )

    def project(self, weight: Tensor) -> Tensor:
        return self.dualize(weight, method=PolarExpress(accuracy="high"))


@dataclass(frozen=True)
class Spectral(Orthogonal):
    """Matrices [d_out, d_in] between Euclidean norms.

    With r the radius of each end's unit ball (√d for RMS, 1 for L2), ‖W‖ = r(d_in)/r(d_out)·σ_max,
    and the duality map of G = UΣVᵀ is r(d_out)/r(d_in)·UVᵀ.
    """

    domain: type[Euclidean]
    codomain: type[Euclidean]
    axes = 2

    def unit(self, shape: tuple[int, ...]) -> float:
        d_out, d_in = shape
        return self.codomain.radius(d_out) / self.domain.radius(d_in)

    def matrices(self, weight: Tensor) -> Tensor:
        return weight.unsqueeze(-3)

    def weight(self, matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
        return matrices.squeeze(-3)

    def norm(self, weight: Tensor) -> Tensor:
        return _largest_singular_value(weight) / self.unit(tuple(weight.shape[-2:]))

    def dual_norm(self, gradient: Tensor) -> Tensor:
        return _sum_of_singular_values(gradient) * self.unit(tuple(gradient.shape[-2:]))

    def draw(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        weight = torch.empty(shape, device=device)
        return torch.nn.init.orthogonal_(weight, generator=generator) * self.unit(shape)


@dataclass(frozen=True)
class Vectors(Geometry):
    """Weights whose norm is the largest among their vectors along one axis: rows, columns, or a
    single vector.

    The dual norm is the sum of the vectors' dual norms; the duality map treats each vector by
    itself.
    """

    vector_norm: type[Dense]
    axes: int = 2
    axis: int = -1

    def norm(self, weight: Tensor) -> Tensor:
        return self._over_vectors(self.vector_norm.norm(self._upright(weight))).amax(dim=-1)

    def dual_norm(self, gradient: Tensor) -> Tensor:
        return self._over_vectors(self.vector_norm.dual_norm(self._upright(gradient))).sum(dim=-1)

    def dualize(self, gradient: Tensor, method: MethodLike | None = None) -> Tensor:
        return self.vector_norm.dualize(gradient.movedim(self.axis, -1)).movedim(-1, self.axis)

    def project(self, weight: Tensor) -> Tensor:
        direction, _ = split_scale(weight, dim=self.axis)
        length = self.vector_norm.norm(direction.movedim(self.axis, -1)).unsqueeze(self.axis)
        return direction / torch.where(length == 0, 1, length)

    def draw(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        return self.project(torch.randn(shape, generator=generator, device=device))

    def _upright(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.axis, -1).to(working_dtype(weight.dtype))

    def _over_vectors(self, values: Tensor) -> Tensor:
        return (
            values.flatten(start_dim=values.dim() - (self.axes - 1))
            if self.axes > 1
            else values.unsqueeze(-1)
        )


@dataclass(frozen=True)
class BallVectors(Vectors):
    """`Vectors` whose natural constraint set is the whole unit ball: a bias may be small, a gain
    may be weak.
    """

    def project(self, weight: Tensor) -> Tensor:
        length = self.vector_norm.norm(weight.movedim(self.axis, -1)).unsqueeze(self.axis)
        return torch.where(length > 1, super().project(weight), weight)


@dataclass(frozen=True)
class Taps(Orthogonal):
    """Convolution kernels [d_out, d_in, k_h, k_w]: k_h·k_w times the largest norm among the taps,
    each a matrix.
    """

    tap: Spectral = Spectral(RMS, RMS)
    axes = 4

    def unit(self, shape: tuple[int, ...]) -> float:
        d_out, d_in, k_h, k_w = shape
        return self.tap.unit((d_out, d_in)) / (k_h * k_w)

    def matrices(self, weight: Tensor) -> Tensor:
        return rearrange(weight, "... d_out d_in k_h k_w -> ... (k_h k_w) d_out d_in")

    def weight(self, matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
        return rearrange(
            matrices, "... (k_h k_w) d_out d_in -> ... d_out d_in k_h k_w", k_h=shape[2]
        ).contiguous()

    def norm(self, weight: Tensor) -> Tensor:
        return self.tap.norm(self.matrices(weight)).amax(dim=-1) * math.prod(weight.shape[-2:])

    def dual_norm(self, gradient: Tensor) -> Tensor:
        return self.tap.dual_norm(self.matrices(gradient)).sum(dim=-1) / math.prod(
            gradient.shape[-2:]
        )

    def draw(
        self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        d_out, d_in, k_h, k_w = shape
        taps = [self.tap.draw((d_out, d_in), generator, device) for _ in range(k_h * k_w)]
        return rearrange(taps, "(k_h k_w) d_out d_in -> d_out d_in k_h k_w", k_h=k_h) / (k_h * k_w)


def operator_geometry(domain: type[Norm], codomain: type[Norm]) -> Geometry:
    """The geometry of a weight [d_out, d_in] (for images [d_out, d_in, k_h, k_w]) that maps
    `domain` to `codomain`.

    Raises:
        NormPairError: the pair has no duality map in closed form, with the reason.

    Example:
        >>> import torch
        >>> from modula import RMS, Linf
        >>> from modula.geometry import operator_geometry
        >>> operator_geometry(RMS, Linf).norm(torch.tensor([[3.0, 4.0]]))
        tensor(7.0711)
    """
    if domain in (L1, OneHot) and issubclass(codomain, VectorNorm):
        return Vectors(codomain, axis=-2)
    if codomain is Linf and issubclass(domain, VectorNorm):
        return Vectors(_dual(domain), axis=-1)
    if domain is ChannelRMS and codomain is ChannelRMS:
        return Taps()
    if domain is RMS and codomain is RMS:
        return Spectral(RMS, RMS)
    if domain is L2 and codomain is L2:
        return Spectral(L2, L2)
    raise NormPairError(
        f"no duality map is known for a linear map {domain.__name__} → {codomain.__name__}: "
        f"{_reason(domain, codomain)}"
    )


def _dual(norm: type[VectorNorm]) -> type[VectorNorm]:
    if not hasattr(norm, "dual"):
        raise NormPairError(
            f"a map {norm.__name__} → Linf measures its rows in the dual of {norm.__name__}: "
            f"define {norm.__name__}.dual"
        )
    return norm.dual


def _reason(domain: type[Norm], codomain: type[Norm]) -> str:
    if codomain is OneHot:
        return "the outputs of a linear map are not one-hot vectors; give it a codomain such as RMS"
    if HeadRMS in (domain, codomain):
        return (
            "linear maps act on whole feature vectors; apply them before SplitIntoHeads or after "
            "MergeHeads, as RMS → RMS"
        )
    if ChannelRMS in (domain, codomain):
        return (
            "images are mapped by Conv2D (ChannelRMS → ChannelRMS), and become vectors through "
            "AvgPool or Flatten"
        )
    if issubclass(domain, Euclidean) and issubclass(codomain, Euclidean):
        return (
            f"it differs from {domain.__name__} → {domain.__name__} by a constant only; use the "
            "same norm at both ends"
        )
    return (
        "this operator norm has no maximiser in closed form (for Linf → L2 and its like it is "
        "NP-hard to compute); use RMS → RMS, L2 → L2, a domain of L1 or OneHot, or a codomain of "
        "Linf"
    )


def _largest_singular_value(matrix: Tensor) -> Tensor:
    """σ_max of each matrix of a batch, from the smaller Gram matrix; NaN where an entry is not
    finite.
    """
    direction, scale = split_scale(matrix.to(working_dtype(matrix.dtype)), dim=(-2, -1))
    direction, finite = _finite_matrices(direction)
    gram = (
        direction.mT @ direction
        if matrix.shape[-2] >= matrix.shape[-1]
        else direction @ direction.mT
    )
    largest = torch.linalg.eigvalsh(gram)[..., -1].clamp(min=0).sqrt() * scale[..., 0, 0]
    return torch.where(finite, largest, torch.nan)


def _sum_of_singular_values(matrix: Tensor) -> Tensor:
    """The nuclear norm of each matrix of a batch; NaN where an entry is not finite."""
    direction, scale = split_scale(matrix.to(working_dtype(matrix.dtype)), dim=(-2, -1))
    direction, finite = _finite_matrices(direction)
    total = torch.linalg.svdvals(direction).sum(dim=-1) * scale[..., 0, 0]
    return torch.where(finite, total, torch.nan)


def _finite_matrices(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The batch with every matrix that has a non-finite entry zeroed, and which matrices are
    finite.
    """
    finite = matrix.isfinite().all(dim=-1).all(dim=-1)
    return torch.where(finite[..., None, None], matrix, 0), finite
