"""Norm types: classes that stand for the norm of a space of activations.

A norm type is a class that is never instantiated. Statically it is a type argument
(`Module[RMS, RMS]`); at run time its class methods compute. Axes in front of the measured one
(batch, position, pixel) are aggregated by the maximum, so that a bound on a map of single vectors
holds for whole activations. Concrete norms are final: two spaces are the same if their norm types
are the same class, and a subclass would be another space.

Each norm comes with its duality map, `dualize(g) = argmax over ‖t‖ = 1 of <g, t>`, vector by
vector. Where the maximiser is not unique, modula takes the one that is zero wherever `g` is.
"""

from __future__ import annotations

import math
from typing import ClassVar, final

import torch
from torch import Tensor

from modula.scaling import largest, split_scale


class Norm:
    """The base class of all norm types. Subclass `VectorNorm` for a norm of your own."""

    @classmethod
    def measure(cls, x: Tensor) -> Tensor:
        """Return the norm of a whole activation, as a scalar tensor."""
        raise NotImplementedError(
            f"{cls.__name__} does not define how it measures an activation: define "
            f"{cls.__name__}.measure"
        )


@final
class OneHot(Norm):
    """Integer ids that stand for one-hot vectors, each of ℓ1 norm 1: tokens, positions."""

    @classmethod
    def measure(cls, x: Tensor) -> Tensor:
        """Return 1 for all ids: a one-hot vector has ℓ1 norm 1."""
        return torch.ones((), device=x.device)


@final
class Mask(Norm):
    """Booleans that say which keys a query attends to. They are not measured: their norm is 0."""

    @classmethod
    def measure(cls, x: Tensor) -> Tensor:
        """Return 0 for all masks, which have no changes to measure."""
        return torch.zeros((), device=x.device)


class Dense(Norm):
    """A norm of real vectors, with its duality map.

    `axis` is the axis of an activation along which its vectors extend.

    Example:
        >>> import torch
        >>> from modula import RMS
        >>> RMS.norm(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([3.5355, 0.0000])
    """

    axis: ClassVar[int] = -1

    @classmethod
    def norm(cls, x: Tensor) -> Tensor:
        """Return the norm of every vector on the last axis: [..., d] -> [...]."""
        raise NotImplementedError(
            f"{cls.__name__} has no norm: define {cls.__name__}.norm on the last axis"
        )

    @classmethod
    def dualize(cls, g: Tensor) -> Tensor:
        """Return argmax over ‖t‖ = 1 of <g, t> on the last axis: [..., d] -> [..., d].

        It is zero where `g` is.
        """
        raise NotImplementedError(
            f"{cls.__name__} has no duality map: define {cls.__name__}.dualize on the last axis"
        )

    @classmethod
    def dual_norm(cls, g: Tensor) -> Tensor:
        """Return max over ‖t‖ = 1 of <g, t> on the last axis: [..., d] -> [...]."""
        return (g * cls.dualize(g)).sum(dim=-1)

    @classmethod
    def measure(cls, x: Tensor) -> Tensor:
        """Return the largest norm among the vectors of an activation, as a scalar tensor.

        It is 0 for an activation without vectors, as those of an empty batch.
        """
        return largest(cls.norm(x.movedim(cls.axis, -1)))


class VectorNorm(Dense):
    """A norm of feature vectors on the last axis, between which a `Linear` maps.

    To add a norm, subclass `VectorNorm` and define `norm` and `dualize`. Define `dual`, the norm
    type of the dual space, if a `Linear` is to map from this norm into `Linf`.
    """

    dual: ClassVar[type[VectorNorm]]


class Euclidean(Dense):
    """A multiple of the ℓ2 norm: ‖x‖₂ / radius(d) for vectors of dimension d."""

    @classmethod
    def radius(cls, d: int) -> float:
        """Return the ℓ2 norm of the vectors of norm 1 in dimension `d`."""
        raise NotImplementedError(f"{cls.__name__} has no radius: define {cls.__name__}.radius")

    @classmethod
    def norm(cls, x: Tensor) -> Tensor:
        direction, scale = split_scale(x, dim=-1)
        length: Tensor = torch.linalg.vector_norm(direction, dim=-1)
        return length / cls.radius(x.shape[-1]) * scale.squeeze(-1)

    @classmethod
    def dualize(cls, g: Tensor) -> Tensor:
        direction, _ = split_scale(g, dim=-1)
        length = torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
        return direction * (cls.radius(g.shape[-1]) / torch.where(length == 0, 1, length))

    @classmethod
    def dual_norm(cls, g: Tensor) -> Tensor:
        direction, scale = split_scale(g, dim=-1)
        length: Tensor = torch.linalg.vector_norm(direction, dim=-1)
        return length * cls.radius(g.shape[-1]) * scale.squeeze(-1)


@final
class L2(Euclidean, VectorNorm):
    """The Euclidean length of the last axis."""

    @classmethod
    def radius(cls, d: int) -> float:
        return 1.0


@final
class RMS(Euclidean, VectorNorm):
    """The root mean square of the last axis, ‖x‖₂/√d.

    It is 1 at every width for vectors whose entries have magnitude 1.
    """

    @classmethod
    def radius(cls, d: int) -> float:
        return math.sqrt(max(d, 1))


@final
class DualRMS(Euclidean, VectorNorm):
    """The dual of RMS, √d·‖x‖₂, which measures the rows of a map from RMS to Linf."""

    @classmethod
    def radius(cls, d: int) -> float:
        return 1.0 / math.sqrt(max(d, 1))


@final
class HeadRMS(Euclidean):
    """RMS over the last axis of attention heads, [batch, head, position, d_head]."""

    @classmethod
    def radius(cls, d: int) -> float:
        return RMS.radius(d)


@final
class ChannelRMS(Euclidean):
    """RMS over the channel axis of [batch, channel, *pixels]: sequences, images, volumes."""

    axis: ClassVar[int] = 1

    @classmethod
    def radius(cls, d: int) -> float:
        return RMS.radius(d)


@final
class L1(VectorNorm):
    """The sum of magnitudes over the last axis."""

    @classmethod
    def norm(cls, x: Tensor) -> Tensor:
        return x.abs().sum(dim=-1)

    @classmethod
    def dualize(cls, g: Tensor) -> Tensor:
        if not g.numel():
            return torch.zeros_like(g)
        position = g.abs().argmax(dim=-1, keepdim=True)
        return torch.zeros_like(g).scatter(-1, position, _sign(g.gather(-1, position)))


@final
class Linf(VectorNorm):
    """The largest magnitude on the last axis."""

    @classmethod
    def norm(cls, x: Tensor) -> Tensor:
        return largest(x.abs(), dim=-1)

    @classmethod
    def dualize(cls, g: Tensor) -> Tensor:
        return _sign(g)


def _sign(g: Tensor) -> Tensor:
    """The sign of finite entries and NaN for others: torch.sign(inf) would hide an error."""
    return torch.where(g.isfinite(), g.sign(), torch.nan)


L2.dual = L2
RMS.dual = DualRMS
DualRMS.dual = RMS
L1.dual = Linf
Linf.dual = L1
