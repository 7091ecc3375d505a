"""The table of all pairs of norms that have a duality map in closed form."""

from __future__ import annotations

from modula.geometry.base import Geometry, NormPairError
from modula.geometry.convolution import Taps
from modula.geometry.spectral import Spectral
from modula.geometry.vectors import Vectors
from modula.norms import L1, L2, RMS, ChannelRMS, Euclidean, HeadRMS, Linf, Norm, OneHot, VectorNorm


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
