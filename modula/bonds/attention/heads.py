"""Heads: how vectors are split into them, merged, normalised, and shared between queries."""

from __future__ import annotations

from typing import ClassVar

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

from modula.algebra.core import Bond
from modula.bonds.base import SameSpace
from modula.checks import Acts, Claim
from modula.errors import MismatchError
from modula.graph import Radius, total_radius
from modula.norms import RMS, HeadRMS
from modula.spaces import AnySpace, Product, Signature, Space, meet


class SplitIntoHeads(Bond[RMS, HeadRMS]):
    """[batch, position, num_heads·d_head] -> [batch, num_heads, position, d_head].

    Sensitivity 1, radius R: an estimate. They hold for vectors (and changes of them) whose mean
    square is spread evenly over the heads, as it is on average. The norm of a vector with entries
    in one head alone grows by √num_heads, which bounds every case. `HeadLinear` maps to heads with
    a bound that is proved.

    Args:
        num_heads: the number of heads; it must divide the width.

    Raises:
        ValueError: fewer than one head.
    """

    sensitivity: float = 1.0
    claim: Claim = "estimate"
    acts: ClassVar[Acts] = "split_heads"

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1:
            raise ValueError(f"SplitIntoHeads takes at least 1 head, got {num_heads}")
        self.num_heads = num_heads

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        whole, head = super().unify(domain, codomain)
        if isinstance(whole, Space) and whole.width is not None:
            if whole.width % self.num_heads:
                raise MismatchError(
                    f"a width of {whole.width} does not split into {self.num_heads} heads"
                )
            return whole, meet(head, Space(HeadRMS, whole.width // self.num_heads))
        if isinstance(head, Space) and head.width is not None:
            return Space(RMS, head.width * self.num_heads), head
        return whole, head

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]  # an estimate, as the sensitivity

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(
            x, "... position (head d_head) -> ... head position d_head", head=self.num_heads
        )

    def extra_repr(self) -> str:
        return str(self.num_heads)


class MergeHeads(Bond[HeadRMS, RMS]):
    """[batch, num_heads, position, d_head] -> [batch, position, num_heads·d_head].

    Sensitivity 1, radius R: proved, since the mean square over all heads is at most the largest of
    a head.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"
    acts: ClassVar[Acts] = "merge_heads"

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(x, "... head position d_head -> ... position (head d_head)")


class SplitQKV(Bond[HeadRMS, tuple[HeadRMS, HeadRMS, HeadRMS]]):
    """Heads of one fused map ↦ (query, key, value), split along the axis of heads.

    After `HeadLinear(num_heads + 2·num_kv_heads, d_head, fan_in, mass=3)` it gives the queries,
    keys and values of three maps whose weights are stacked in one tensor in this order. Updates are
    those of the three maps, each of mass 1.

    Sensitivity 3, radius (R, R, R): proved, since the norm of a tuple is the sum of its parts'
    norms, and each of them is at most that of all heads.

    Args:
        num_heads: of the query.
        num_kv_heads: of key and of value each; None takes `num_heads`.

    Raises:
        ValueError: a number below 1; when called, an input with another number of heads.

    Example:
        >>> import torch
        >>> from modula import HeadLinear, SplitQKV
        >>> fused = SplitQKV(4, 2) @ HeadLinear(8, 16, 64, mass=3)
        >>> [list(part.shape) for part in fused(torch.randn(1, 5, 64))]
        [[1, 4, 5, 16], [1, 2, 5, 16], [1, 2, 5, 16]]
    """

    sensitivity: float = 3.0
    claim: Claim = "proved"
    acts: ClassVar[Acts] = "mixes_heads"

    def __init__(self, num_heads: int, num_kv_heads: int | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads: int = num_heads if num_kv_heads is None else num_kv_heads
        if min(self.num_heads, self.num_kv_heads) < 1:
            raise ValueError(
                f"SplitQKV takes at least 1 head of each kind, got num_heads={num_heads}, "
                f"num_kv_heads={num_kv_heads}"
            )

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        head, split = super().unify(domain, codomain)
        for part in parts_of(split):
            head = meet(head, part)
        return head, Product((head,) * 3)

    def radius(self, *inputs: Radius) -> Radius:
        return (total_radius(inputs),) * 3

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sizes = [self.num_heads, self.num_kv_heads, self.num_kv_heads]
        if x.dim() < 3 or x.shape[-3] != sum(sizes):
            raise ValueError(
                f"{self!r} takes {sum(sizes)} heads on axis -3, {self.num_heads} of the query and "
                f"twice {self.num_kv_heads}; got a tensor of shape {list(x.shape)}"
            )
        query, key, value = torch.split(x, sizes, dim=-3)
        return query, key, value

    def extra_repr(self) -> str:
        shared = self.num_kv_heads != self.num_heads
        return f"{self.num_heads}" + (f", {self.num_kv_heads}" if shared else "")


class QKNorm(SameSpace[tuple[HeadRMS, HeadRMS], tuple[HeadRMS, HeadRMS]]):
    """(query, key) ↦ each divided by its RMS over d_head, without a gain.

    Logits are then at most `scale` in magnitude, whatever the weights are.

    Sensitivity 1, radius (1, 1): conditional on queries and keys of RMS at least 1, as for
    `RMSNorm` (the radius holds for all).

    Args:
        eps: added to the mean square; None takes the dtype's machine epsilon. Zero stays zero.

    Example:
        >>> import torch
        >>> from modula import QKNorm
        >>> query, _ = QKNorm()((torch.full((1, 1, 1, 4), 3.0), torch.ones(1, 1, 1, 4)))
        >>> query
        tensor([[[[1., 1., 1., 1.]]]])

    Source: Henry et al. 2020 (arXiv:2010.04245); Dehghani et al. 2023 (arXiv:2302.05442), section
    2.
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    def __init__(self, eps: float | None = None) -> None:
        super().__init__()
        self.eps = eps

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0, 1.0

    def forward(self, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        query, key = x
        return self._normalized(query), self._normalized(key)

    def _normalized(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=self.eps)

    def extra_repr(self) -> str:
        return "" if self.eps is None else f"eps={self.eps:g}"


class Ungroup(Bond[tuple[tuple[HeadRMS, HeadRMS], HeadRMS], tuple[HeadRMS, HeadRMS, HeadRMS]]):
    """((query, key), value) ↦ (query, key, value).

    It stands between `Rope`, which rotates the pair of query and key, and `FunctionalAttention`.

    Sensitivity 1, radius R: proved, since the norm of a tuple is the sum of its entries' norms
    however they are grouped.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        grouped, flat = super().unify(domain, codomain)
        pair, value = parts_of(grouped)
        parts = [meet(a, b) for a, b in zip((*parts_of(pair), value), parts_of(flat), strict=True)]
        return Product((Product((parts[0], parts[1])), parts[2])), Product(tuple(parts))

    def radius(self, *inputs: Radius) -> Radius:
        pair, value = radii_of(inputs[0], 2)
        return (*radii_of(pair, 2), value)

    def forward(self, x: tuple[tuple[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        (query, key), value = x
        return query, key, value


def shared_heads(x: Tensor, query: Tensor) -> Tensor:
    """Return keys or values with one head for each of the query's.

    Neighbouring heads of the query share one, as in grouped-query attention (Ainslie et al. 2023,
    arXiv:2305.13245). The norm is that of `x`, since it is the largest of a head.

    Args:
        x: [..., num_kv_heads, position, d_head].
        query: [..., num_heads, position, d_head].

    Raises:
        ValueError: the heads of the query cannot share those of `x` evenly.
    """
    heads, own = query.shape[-3], x.shape[-3]
    if heads == own:
        return x
    check_shared(heads, own)
    return repeat(
        x, "... head position d_head -> ... (head times) position d_head", times=heads // own
    )


def check_shared(heads: int, own: int) -> None:
    """Raise if `heads` heads of queries cannot share `own` heads of keys and values evenly.

    Raises:
        ValueError: names both numbers.
    """
    if own < 1 or heads % own:
        raise ValueError(
            f"{heads} heads of queries cannot share {own} heads of keys and values evenly: the "
            "number of heads is a multiple of that of the keys' heads"
        )


def parts_of(space: AnySpace) -> tuple[AnySpace, ...]:
    """Return the spaces of a tuple; none for another space."""
    return space.parts if isinstance(space, Product) else ()


def radii_of(radius: Radius, count: int) -> tuple[Radius, ...]:
    """Return one radius for each entry of a tuple, which is at most that of the whole."""
    return radius if isinstance(radius, tuple) else (radius,) * count
