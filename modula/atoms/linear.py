"""`Linear`: a matrix as a map between two normed spaces."""

from __future__ import annotations

from typing import ClassVar, TypeVar, overload

from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from modula.algebra.core import Atom, AtomOptions
from modula.checks import Acts, Claim
from modula.errors import NormPairError
from modula.geometry import operator_geometry
from modula.norms import L1, L2, RMS, ChannelRMS, Linf, Norm, OneHot, VectorNorm

X = TypeVar("X", bound=Norm)
Y = TypeVar("Y", bound=Norm)
V = TypeVar("V", bound=VectorNorm)

_INSTEAD: dict[type[Norm], str] = {OneHot: "Embed for ids", ChannelRMS: "Conv2D for images"}


class Linear(Atom[X, Y]):
    """x ↦ W·x for W of shape [fan_out, fan_in], measured by its operator norm.

    Sensitivity 1, radius R: proved, for every pair of norms, by the definition of the operator
    norm.

    Args:
        fan_out: the width of the output.
        fan_in: the width of the input.
        domain: the norm type of the input.
        codomain: the norm type of the output. Pairs with a duality map: RMS → RMS, L2 → L2, L1 →
            any, any → Linf, and those that `modula.geometry.register` has added.
        mass: m ≥ 0; the weight's part of a step is m over the mass of the network.
        device, dtype: of the weight.

    Raises:
        NormPairError: the pair of norms has no duality map.
        ValueError: a width below 1, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import Linear
        >>> layer = Linear(10, 256)
        >>> layer(torch.randn(32, 256)).shape
        torch.Size([32, 10])

    Source: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4.1.
    """

    claim: Claim = "proved"
    acts: ClassVar[Acts] = "matrix"

    @overload
    def __init__(
        self: Linear[RMS, RMS],
        fan_out: int,
        fan_in: int,
        *,
        domain: type[RMS] = ...,
        codomain: type[RMS] = ...,
        **options: Unpack[AtomOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Linear[L2, L2],
        fan_out: int,
        fan_in: int,
        *,
        domain: type[L2],
        codomain: type[L2],
        **options: Unpack[AtomOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Linear[L1, RMS],
        fan_out: int,
        fan_in: int,
        *,
        domain: type[L1],
        codomain: type[RMS] = ...,
        **options: Unpack[AtomOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Linear[L1, V],
        fan_out: int,
        fan_in: int,
        *,
        domain: type[L1],
        codomain: type[V],
        **options: Unpack[AtomOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Linear[RMS, Linf],
        fan_out: int,
        fan_in: int,
        *,
        domain: type[RMS] = ...,
        codomain: type[Linf],
        **options: Unpack[AtomOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Linear[V, Linf],
        fan_out: int,
        fan_in: int,
        *,
        domain: type[V],
        codomain: type[Linf],
        **options: Unpack[AtomOptions],
    ) -> None: ...
    def __init__(
        self,
        fan_out: int,
        fan_in: int,
        *,
        domain: type[Norm] = RMS,
        codomain: type[Norm] = RMS,
        **options: Unpack[AtomOptions],
    ) -> None:
        if "bias" in options:
            raise TypeError(
                f"a Linear is one matrix and has no bias: Affine({fan_out}, {fan_in}) is the "
                f"composition Bias({fan_out}) @ Linear({fan_out}, {fan_in})"
            )
        for norm in (domain, codomain):
            if not (isinstance(norm, type) and issubclass(norm, Norm)):
                raise TypeError(
                    f"domain and codomain of a Linear are norm types, such as RMS; got {norm!r}"
                )
        geometry = operator_geometry(domain, codomain)
        if not (issubclass(domain, VectorNorm) and issubclass(codomain, VectorNorm)):
            raise NormPairError(
                f"Linear maps feature vectors, not {domain.__name__} → {codomain.__name__}: use "
                f"{_INSTEAD[domain]}"
            )
        self._norms_written = (
            ""
            if domain is codomain is RMS
            else f", domain={domain.__name__}, codomain={codomain.__name__}"
        )
        super().__init__(
            (fan_out, fan_in),
            geometry,
            fan_out=fan_out,
            fan_in=fan_in,
            domain=domain,
            codomain=codomain,
            **options,
        )

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        return F.linear(x, self.weight)

    def extra_repr(self) -> str:
        fan_out, fan_in = self.weight.shape
        return f"{fan_out}, {fan_in}{self._norms_written}"
