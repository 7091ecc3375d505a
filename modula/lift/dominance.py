"""Norms on one weight of which one is nowhere smaller than another, which it then stands for."""

from __future__ import annotations

from collections.abc import Sequence

from modula.geometry import BallVectors, Geometry, Spectral, Transposed, Vectors
from modula.norms import RMS, Linf


def largest(geometries: Sequence[Geometry], shape: tuple[int, ...]) -> list[Geometry]:
    """Return the norms whose maximum is that of all, without those that another bounds.

    Args:
        geometries: of weights of that shape, different ones.
        shape: of the weight.

    Example:
        >>> from modula import RMS
        >>> from modula.geometry import Spectral, Transposed
        >>> from modula.lift.dominance import largest
        >>> forth, back = Spectral(RMS, RMS), Transposed(Spectral(RMS, RMS))
        >>> largest([forth, back], (8, 2)) == [back]  # √(8/2)·σ is above √(2/8)·σ
        True
    """
    kept: list[Geometry] = []
    for one in geometries:
        if not any(_bounds(other, one, shape) for other in kept):
            kept = [other for other in kept if not _bounds(one, other, shape)]
            kept.append(one)
    return kept


def _bounds(large: Geometry, small: Geometry, shape: tuple[int, ...]) -> bool:
    """Whether the first norm is nowhere smaller than the second."""
    scales = _multiple_of_spectral(large, shape), _multiple_of_spectral(small, shape)
    if scales[0] is not None and scales[1] is not None:
        return scales[0] >= scales[1]
    if isinstance(large, Vectors) and isinstance(small, Vectors):
        if large.vector_norm is Linf:  # the largest entry of all, whatever the axis
            return small.vector_norm in (RMS, Linf)
        same = large.vector_norm is small.vector_norm and large.axis == small.axis
        return same and not isinstance(large, BallVectors)
    return False


def _multiple_of_spectral(geometry: Geometry, shape: tuple[int, ...]) -> float | None:
    """The factor of σ_max in a norm that is a multiple of it."""
    if type(geometry) is Spectral:
        return 1 / geometry.radius((shape[0], shape[1]))
    if type(geometry) is Transposed and type(geometry.block) is Spectral:
        return 1 / geometry.block.radius((shape[1], shape[0]))
    return None
