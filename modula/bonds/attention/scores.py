"""Attention in single operations: scores, softmax, and the mean of the values."""

from __future__ import annotations

import torch
from torch import Tensor

from modula.algebra.core import Bond
from modula.bonds.attention.heads import parts_of, radii_of, shared_heads
from modula.bonds.incremental import Positions
from modula.checks import Claim
from modula.graph import Radius, total_radius
from modula.norms import L1, HeadRMS, Linf
from modula.spaces import AnySpace, Product, Signature, meet


class AttentionQK(Bond[tuple[HeadRMS, HeadRMS], Linf]):
    """(query, key) ↦ scores query·key/d_head, [batch, head, query, key].

    The key may have fewer heads than the query, of which neighbouring ones then share one.

    Sensitivity 1, radius R_query·R_key: conditional on queries and keys of RMS at most 1 (the
    radius holds for all). By Cauchy–Schwarz a score is at most RMS(q)·RMS(k), and it changes by at
    most RMS(Δq)·RMS(k) + RMS(q)·RMS(Δk).
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        pair, scores = super().unify(domain, codomain)
        query, key = parts_of(pair)
        head = meet(query, key)
        return Product((head, head)), scores

    def radius(self, *inputs: Radius) -> Radius:
        query, key = map(total_radius, radii_of(inputs[0], 2))
        return query * key

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        query, key = x
        return query @ shared_heads(key, query).mT / query.shape[-1]

    def start(self) -> Positions:
        return Positions()

    def resume(self, x: tuple[Tensor, Tensor], state: Positions) -> tuple[Tensor, Positions]:
        query, key = x
        return self((query, state.append(key))), state


class Softmax(Bond[Linf, L1]):
    """Softmax of scale·x over the last axis; scores of −∞ are left out.

    Where all scores are −∞, the output is 0.

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
        logits = self.logits(x)
        empty = (logits == -torch.inf).all(dim=-1, keepdim=True)
        return torch.softmax(logits.masked_fill(empty, 0), dim=-1).masked_fill(empty, 0)

    def logits(self, x: Tensor) -> Tensor:
        """Return the arguments of the softmax; −∞ for scores that are left out."""
        return (self.scale * x).masked_fill(x == -torch.inf, -torch.inf)

    def logit_bound(self, *inputs: Radius) -> float:
        """Return a bound on the logits of the keys that are not left out, by those on the input."""
        return abs(self.scale) * total_radius(inputs)

    def extra_repr(self) -> str:
        return "" if self.scale == 1.0 else f"scale={self.scale:g}"


class ApplyAttentionScores(Bond[tuple[HeadRMS, L1], HeadRMS]):
    """(value, scores) ↦ scores @ value: the mean of the values, weighted for each query.

    The value may have fewer heads than the scores, of which neighbouring ones then share one.

    Sensitivity 1, radius R_value·R_scores: conditional on values of RMS at most 1 and scores of ℓ1
    norm at most 1 (the radius holds for all). The output changes by at most ‖scores‖₁ times the
    largest RMS(Δv) plus ‖Δscores‖₁ times the largest RMS(v).
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        pair, output = super().unify(domain, codomain)
        value, scores = parts_of(pair)
        head = meet(value, output)
        return Product((head, scores)), head

    def radius(self, *inputs: Radius) -> Radius:
        value, scores = map(total_radius, radii_of(inputs[0], 2))
        return value * scores

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        value, scores = x
        return scores @ shared_heads(value, scores)

    def start(self) -> Positions:
        return Positions()

    def resume(self, x: tuple[Tensor, Tensor], state: Positions) -> tuple[Tensor, Positions]:
        value, scores = x
        return self((state.append(value), scores)), state
