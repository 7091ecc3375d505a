"""The pairs of norms for which the operator norm of a linear map has a known duality map."""

from __future__ import annotations

from collections.abc import Callable

from modula.errors import NormPairError
from modula.geometry.base import Geometry
from modula.geometry.convolution import Taps
from modula.geometry.spectral import Spectral
from modula.geometry.stacked import Stacked
from modula.geometry.vectors import Vectors
from modula.norms import L1, L2, RMS, ChannelRMS, Euclidean, HeadRMS, Linf, Norm, OneHot, VectorNorm

Pair = tuple[type[Norm], type[Norm]]

_PAIRS: dict[Pair, Callable[[], Geometry]] = {
    (RMS, RMS): lambda: Spectral(RMS, RMS),
    (L2, L2): lambda: Spectral(L2, L2),
    (ChannelRMS, ChannelRMS): Taps,
}


def register(domain: type[Norm], codomain: type[Norm], geometry: Geometry) -> None:
    """Add a pair of norms to those that `operator_geometry`, and with it `Linear`, knows.

    The geometry must bound the map: ‖W·x‖ ≤ ‖W‖·‖x‖. Check it with
    `modula.testing.check_geometry(geometry, shape, domain, codomain)`.

    Args:
        domain: the norm of the input of a linear map.
        codomain: the norm of its output.
        geometry: of its weight [d_out, d_in].

    Raises:
        TypeError: `domain` or `codomain` is not a norm type, or `geometry` is not a Geometry.
        ValueError: the pair is known already.

    Example:
        >>> from typing import final
        >>> from modula import Linear
        >>> from modula.geometry import Spectral, register
        >>> from modula.norms import Euclidean, VectorNorm
        >>> @final
        ... class HalfL2(Euclidean, VectorNorm):
        ...     @classmethod
        ...     def radius(cls, d: int) -> float:
        ...         return 2.0
        >>> register(HalfL2, HalfL2, Spectral(HalfL2, HalfL2))
        >>> Linear(3, 4, domain=HalfL2, codomain=HalfL2).geometry.radius((3, 4))
        1.0
    """
    for norm in (domain, codomain):
        if not (isinstance(norm, type) and issubclass(norm, Norm)):
            raise TypeError(f"register takes norm types, such as RMS; got {norm!r}")
    if not isinstance(geometry, Geometry):
        raise TypeError(f"register takes a Geometry, got {type(geometry).__name__}")
    known = _known_geometry(domain, codomain)
    if known is not None:
        raise ValueError(
            f"the pair {domain.__name__} → {codomain.__name__} has a geometry already: {known!r}"
        )
    _PAIRS[domain, codomain] = lambda: geometry


def operator_geometry(
    domain: type[Norm], codomain: type[Norm], *, num_heads: int | None = None
) -> Geometry:
    """Return the geometry of a weight that maps `domain` to `codomain`.

    Args:
        domain: the norm of the input.
        codomain: the norm of the output.
        num_heads: the number of heads, for RMS → HeadRMS alone.

    Returns:
        A geometry of weights [d_out, d_in], for images [d_out, d_in, k_h, k_w], for heads
        [num_heads·d_head, d_in].

    Raises:
        NormPairError: no duality map is known for the pair; the error gives the reason.
        ValueError: `num_heads` is below 1, or given for another pair.

    Example:
        >>> import torch
        >>> from modula import RMS, Linf
        >>> from modula.geometry import operator_geometry
        >>> operator_geometry(RMS, Linf).norm(torch.tensor([[3.0, 4.0]]))
        tensor(7.0711)
    """
    if num_heads is not None:
        return _of_heads(domain, codomain, num_heads)
    if (domain, codomain) in _PAIRS:
        return _PAIRS[domain, codomain]()
    if domain in (L1, OneHot) and issubclass(codomain, VectorNorm):
        return Vectors(codomain, axis=-2)
    if codomain is Linf and issubclass(domain, VectorNorm):
        return Vectors(_dual(domain), axis=-1)
    raise NormPairError(
        f"no duality map is known for a linear map {domain.__name__} → {codomain.__name__}: "
        f"{_reason(domain, codomain)}"
    )


def _of_heads(domain: type[Norm], codomain: type[Norm], num_heads: int) -> Geometry:
    """The largest of the heads' norms, as HeadRMS is the largest RMS of a head."""
    if (domain, codomain) != (RMS, HeadRMS):
        raise ValueError(
            f"num_heads belongs to a map RMS → HeadRMS, not {domain.__name__} → "
            f"{codomain.__name__}; got num_heads={num_heads}"
        )
    if num_heads < 1:
        raise ValueError(f"a map RMS → HeadRMS has at least 1 head, got num_heads={num_heads}")
    return Stacked(Spectral(RMS, RMS), num_heads)


def _known_geometry(domain: type[Norm], codomain: type[Norm]) -> Geometry | None:
    try:
        return operator_geometry(
            domain, codomain, num_heads=1 if (domain, codomain) == (RMS, HeadRMS) else None
        )
    except NormPairError:
        return None


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
    if (domain, codomain) == (RMS, HeadRMS):
        return (
            "it consists of one block of rows for each head; give num_heads, or use "
            "HeadLinear(num_heads, d_head, fan_in)"
        )
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
