"""The operations of attention, one by one and in one fused call.

Scores are scaled by 1/d_head and not by 1/√d_head, so that queries and keys of RMS 1 give scores of
magnitude at most 1 at every width (Large et al. 2024, arXiv:2405.14813, appendix B.3; Yang et al.
2022, arXiv:2203.03466).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from modula.algebra.core import Bond
from modula.bonds.base import SameSpace
from modula.checks import Acts, Claim
from modula.errors import MismatchError
from modula.graph import Radius, total_radius
from modula.norms import L1, RMS, HeadRMS, Linf
from modula.scaling import working_dtype
from modula.spaces import AnySpace, Product, Signature, Space, meet

ROPE_BASE = 10_000.0
"""The base of rotary positions in Su et al. 2021."""


class SplitIntoHeads(Bond[RMS, HeadRMS]):
    """[batch, position, num_heads·d_head] -> [batch, num_heads, position, d_head].

    Sensitivity 1, radius R: conditional on vectors (and changes of them) whose mean square is
    spread evenly over the heads. The norm of a vector with entries in one head alone grows by
    √num_heads, which bounds every case.

    Args:
        num_heads: the number of heads; it must divide the width.

    Raises:
        ValueError: fewer than one head.
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"
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
        return inputs[0]  # under the condition of its sensitivity

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


class Rope(SameSpace[tuple[HeadRMS, HeadRMS], tuple[HeadRMS, HeadRMS]]):
    """Rotary position embedding of a (query, key) pair, each [batch, head, position, d_head].

    Entry i and entry i + d_head/2 are rotated together by position·base^(−2i/d_head), so that
    scores depend on positions through their difference only.

    Sensitivity 1, radius R: proved, since every vector is rotated.

    Args:
        d_head: the width of a head, even.
        base: a bound on the wavelengths, in units of 2π positions.

    Raises:
        ValueError: d_head is odd or below 2, or the base is not positive and finite.

    Source: Su et al. 2021 (arXiv:2104.09864), equation 34.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def __init__(self, d_head: int, base: float = ROPE_BASE) -> None:
        super().__init__()
        if d_head < 2 or d_head % 2:
            raise ValueError(
                f"Rope rotates pairs of entries and takes an even d_head, got {d_head}"
            )
        if not (math.isfinite(base) and base > 0):
            raise ValueError(
                f"Rope takes a base > 0, the longest wavelength over 2π positions, got {base}"
            )
        self.d_head = d_head
        self.base = base
        head = Space(HeadRMS, d_head)
        self.declared_signature: Signature = (Product((head, head)), Product((head, head)))

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]  # a rotation keeps every norm

    def forward(self, x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        query, key = x
        cos, sin = self._rotation(query.shape[-2], query)
        return _rotate(query, cos, sin), _rotate(key, cos, sin)

    def extra_repr(self) -> str:
        return f"{self.d_head}" + ("" if self.base == ROPE_BASE else f", base={self.base:g}")

    def _rotation(self, positions: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The cosines and sines of all angles, [position, d_head / 2]."""
        dtype = working_dtype(like.dtype)
        exponents = torch.arange(0, self.d_head, 2, device=like.device, dtype=dtype) / self.d_head
        angles = torch.outer(
            torch.arange(positions, device=like.device, dtype=dtype), self.base**-exponents
        )
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class AttentionQK(Bond[tuple[HeadRMS, HeadRMS], Linf]):
    """(query, key) ↦ scores query·key/d_head, [batch, head, position, position].

    Sensitivity 1, radius R_query·R_key: conditional on queries and keys of RMS at most 1 (the
    radius holds for all). By Cauchy–Schwarz a score is at most RMS(q)·RMS(k), and it changes by at
    most RMS(Δq)·RMS(k) + RMS(q)·RMS(Δk).
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        pair, scores = super().unify(domain, codomain)
        query, key = _parts(pair)
        head = meet(query, key)
        return Product((head, head)), scores

    def radius(self, *inputs: Radius) -> Radius:
        query, key = _radii(inputs[0], 2)
        return query * key

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        query, key = x
        return query @ key.mT / query.shape[-1]


class CausalMask(SameSpace[Linf, Linf]):
    """Scores with −∞ wherever a key comes after its query: [..., query, key] -> the same.

    Sensitivity 1, radius R: proved, since the mask keeps a score or makes it constant. The radius
    is that of the scores that are kept; `Softmax` takes a score of −∞ to 0.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        future = torch.ones(x.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        return x.masked_fill(future, -torch.inf)


class Softmax(Bond[Linf, L1]):
    """Softmax of scale·x over the last axis.

    Sensitivity |scale|, radius 1: proved. With p the output, the derivative diag(p) − ppᵀ maps the
    unit ball of Linf into that of L1, and ‖p‖₁ = 1.

    Args:
        scale: the inverse temperature, finite and not 0.

    Raises:
        ValueError: the scale is 0 or not finite.
    """

    claim: Claim = "proved"

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.sensitivity: float = abs(scale)

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.scale * x, dim=-1)

    def extra_repr(self) -> str:
        return "" if self.scale == 1.0 else f"scale={self.scale:g}"


class ApplyAttentionScores(Bond[tuple[HeadRMS, L1], HeadRMS]):
    """(value, scores) ↦ scores @ value: the mean of the values, weighted for each query.

    Sensitivity 1, radius R_value·R_scores: conditional on values of RMS at most 1 and scores of ℓ1
    norm at most 1 (the radius holds for all). The output changes by at most ‖scores‖₁ times the
    largest RMS(Δv) plus ‖Δscores‖₁ times the largest RMS(v).
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        pair, output = super().unify(domain, codomain)
        value, scores = _parts(pair)
        head = meet(value, output)
        return Product((head, scores)), head

    def radius(self, *inputs: Radius) -> Radius:
        value, scores = _radii(inputs[0], 2)
        return value * scores

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        value, scores = x
        return scores @ value


class FunctionalAttention(Bond[tuple[HeadRMS, HeadRMS, HeadRMS], HeadRMS]):
    """(query, key, value) ↦ attention in one fused call.

    It computes AttentionQK, CausalMask, Softmax and ApplyAttentionScores.

    Sensitivity max(1, |scale|), radius R_value: conditional on queries, keys and values of RMS at
    most 1, as the four together (the radius holds for all).

    Args:
        causal: whether a position attends only to itself and to those before it.
        scale: the inverse temperature, which multiplies query·key/d_head; finite and not 0.

    Raises:
        ValueError: the scale is 0 or not finite.

    Source: Large et al. 2024 (arXiv:2405.14813), appendix B.3.
    """

    claim: Claim = "conditional"

    def __init__(self, causal: bool = True, scale: float = 1.0) -> None:
        super().__init__()
        self.causal = causal
        self.scale = scale
        self.sensitivity: float = max(1.0, abs(scale)) if math.isfinite(scale) and scale else 0.0

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        triple, output = super().unify(domain, codomain)
        query, key, value = _parts(triple)
        head, output = meet(query, key), meet(value, output)
        return Product((head, head, output)), output

    def radius(self, *inputs: Radius) -> Radius:
        return _radii(inputs[0], 3)[2]  # the output is a mean of values

    def forward(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        query, key, value = x
        # Some of torch's kernels take a negative scale for none with a causal mask.
        signed = query if self.scale > 0 else -query
        return F.scaled_dot_product_attention(
            signed, key, value, is_causal=self.causal, scale=abs(self.scale) / query.shape[-1]
        )

    def extra_repr(self) -> str:
        causal = [] if self.causal else ["causal=False"]
        scale = [] if self.scale == 1.0 else [f"scale={self.scale:g}"]
        return ", ".join(causal + scale)


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
        pair, value = _parts(grouped)
        parts = [meet(a, b) for a, b in zip((*_parts(pair), value), _parts(flat), strict=True)]
        return Product((Product((parts[0], parts[1])), parts[2])), Product(tuple(parts))

    def radius(self, *inputs: Radius) -> Radius:
        pair, value = _parts_of(inputs[0], 2)
        return (*_parts_of(pair, 2), value)

    def forward(self, x: tuple[tuple[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        (query, key), value = x
        return query, key, value


def _parts(space: AnySpace) -> tuple[AnySpace, ...]:
    return space.parts if isinstance(space, Product) else ()


def _parts_of(radius: Radius, count: int) -> tuple[Radius, ...]:
    """One radius for each entry of a tuple, which is at most that of the whole."""
    return radius if isinstance(radius, tuple) else (radius,) * count


def _radii(radius: Radius, count: int) -> list[float]:
    return [total_radius(part) for part in _parts_of(radius, count)]
