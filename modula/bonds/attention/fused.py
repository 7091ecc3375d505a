"""Attention in one fused call of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from modula.algebra.core import Bond, SpaceType
from modula.bonds.attention.heads import check_shared, parts_of, radii_of
from modula.bonds.attention.masks import check_mask, check_window, visible
from modula.bonds.attention.scores import AttentionQK
from modula.bonds.incremental import Positions
from modula.checks import Claim
from modula.graph import Radius, total_radius
from modula.norms import HeadRMS, Mask
from modula.spaces import AnySpace, Product, Signature, meet

X = TypeVar("X", bound=SpaceType)
Y = TypeVar("Y", bound=SpaceType)


@dataclass
class KeysAndValues:
    """The keys and the values of the positions so far, as many as later queries attend to."""

    keys: Positions
    values: Positions

    def append(self, x: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return new queries, with the keys and the values of all positions that are kept."""
        query, key, value = x
        return query, self.keys.append(key), self.values.append(value)


class FusedAttention(Bond[X, Y]):
    """What attention in one fused call has in common, with a mask as an input and without.

    Args:
        causal: whether a position attends only to itself and to those before it.
        scale: the inverse temperature, which multiplies query·key/d_head; finite and not 0.
        window: keys at this distance from the query, or farther, are left out; None for none.

    Raises:
        ValueError: the scale is 0 or not finite, or the window below 1.
    """

    claim: Claim = "conditional"

    def __init__(
        self, causal: bool = True, scale: float = 1.0, *, window: int | None = None
    ) -> None:
        super().__init__()
        check_window(type(self).__name__, window)
        self.causal = causal
        self.scale = scale
        self.window = window
        self.sensitivity: float = max(1.0, abs(scale)) if math.isfinite(scale) and scale else 0.0

    def start(self) -> KeysAndValues:
        if not self.causal:
            raise ValueError(
                f"{self!r} attends to later positions, and its output is not known before them: a "
                "sequence is continued by causal attention"
            )
        most = None if self.window is None else self.window - 1
        return KeysAndValues(Positions(most), Positions(most))

    def seen(self, query: Tensor, key: Tensor) -> Tensor:
        """Return which keys a query may attend to by its position, as booleans [query, key]."""
        return visible(
            query.shape[-2],
            key.shape[-2],
            causal=self.causal,
            window=self.window,
            device=query.device,
        )

    def logits_of(self, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
        """Return scale·query·key/d_head, [batch, head, query, key], −∞ where the mask is False."""
        logits = self.scale * AttentionQK()((query, key))
        return logits.masked_fill(~mask, -math.inf)

    def bound_of_logits(self, triple: Radius) -> float:
        """Return a bound on the logits, by those on query, key and value."""
        query, key, _ = map(total_radius, radii_of(triple, 3))
        return abs(self.scale) * query * key

    def extra_repr(self) -> str:
        causal = [] if self.causal else ["causal=False"]
        scale = [] if self.scale == 1.0 else [f"scale={self.scale:g}"]
        window = [] if self.window is None else [f"window={self.window}"]
        return ", ".join(causal + scale + window)


class FunctionalAttention(FusedAttention[tuple[HeadRMS, HeadRMS, HeadRMS], HeadRMS]):
    """(query, key, value) ↦ attention in one fused call.

    It computes AttentionQK, CausalMask, Softmax and ApplyAttentionScores. Key and value may have
    fewer heads than the query, of which neighbouring ones then share one, and, without `causal`,
    another number of positions. With it, the queries are at the last of the keys' positions.

    Sensitivity max(1, |scale|), radius R_value: conditional on queries, keys and values of RMS at
    most 1, as the four together (the radius holds for all).

    Args:
        causal: whether a position attends only to itself and to those before it.
        scale: the inverse temperature, which multiplies query·key/d_head; finite and not 0.
        window: keys at this distance from the query, or farther, are left out; None for none.

    Raises:
        ValueError: the scale is 0 or not finite, or the window below 1.

    Source: Large et al. 2024 (arXiv:2405.14813), appendix B.3.
    """

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        return _triple_and_output(*super().unify(domain, codomain))

    def radius(self, *inputs: Radius) -> Radius:
        return radii_of(inputs[0], 3)[2]  # the output is a mean of values

    def forward(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        query, key, value = x
        queries, keys = query.shape[-2], key.shape[-2]
        if self.window is None and self.causal and queries == keys:
            return attend(query, key, value, self.scale, is_causal=True)
        if self.window is None and (not self.causal or queries == 1):
            return attend(query, key, value, self.scale)
        return attend(query, key, value, self.scale, mask=self.seen(query, key))

    def resume(
        self, x: tuple[Tensor, Tensor, Tensor], state: KeysAndValues
    ) -> tuple[Tensor, KeysAndValues]:
        return self(state.append(x)), state

    def logits(self, x: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return the arguments of the softmax, [batch, head, query, key]; −∞ for hidden keys."""
        query, key, _ = x
        return self.logits_of(query, key, self.seen(query, key))

    def logit_bound(self, *inputs: Radius) -> float:
        """Return a bound on the logits, by those on query and key."""
        return self.bound_of_logits(inputs[0])


class MaskedFunctionalAttention(
    FusedAttention[tuple[tuple[HeadRMS, HeadRMS, HeadRMS], Mask], HeadRMS]
):
    """((query, key, value), mask) ↦ attention to the keys at which the mask is True.

    The mask broadcasts against scores [batch, head, query, key]. With `causal` or a window, a query
    attends to the keys that these show too. The output is 0 for a query that attends to no key. All
    else is as in `FunctionalAttention`.

    Sensitivity max(1, |scale|), radius R_value: conditional on queries, keys and values of RMS at
    most 1 (the radius holds for all).

    Args:
        causal: whether a position attends only to itself and to those before it.
        scale: the inverse temperature, which multiplies query·key/d_head; finite and not 0.
        window: keys at this distance from the query, or farther, are left out; None for none.

    Raises:
        ValueError: the scale is 0 or not finite, or the window below 1; when called, a mask of
            another shape or dtype.
    """

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        entries, output = super().unify(domain, codomain)
        triple, mask = parts_of(entries)
        triple, output = _triple_and_output(triple, output)
        return Product((triple, mask)), output

    def radius(self, *inputs: Radius) -> Radius:
        return radii_of(radii_of(inputs[0], 2)[0], 3)[2]  # the output is a mean of values

    def forward(self, x: tuple[tuple[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        (query, key, value), mask = x
        check_mask(self, mask, (*query.shape[:-1], key.shape[-2]))
        if self.causal or self.window is not None:
            mask = mask & self.seen(query, key)
        return attend(query, key, value, self.scale, mask=mask)

    def resume(
        self, x: tuple[tuple[Tensor, Tensor, Tensor], Tensor], state: KeysAndValues
    ) -> tuple[Tensor, KeysAndValues]:
        triple, mask = x
        query, key, value = state.append(triple)
        return self(((query, key, value), mask[..., -key.shape[-2] :])), state

    def logits(self, x: tuple[tuple[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """Return the arguments of the softmax, [batch, head, query, key]; −∞ for hidden keys."""
        (query, key, _), mask = x
        return self.logits_of(query, key, mask & self.seen(query, key))

    def logit_bound(self, *inputs: Radius) -> float:
        """Return a bound on the logits, by those on query and key."""
        return self.bound_of_logits(radii_of(inputs[0], 2)[0])


def _triple_and_output(triple: AnySpace, output: AnySpace) -> Signature:
    """The spaces of (query, key, value) and of the output, whose width is that of the value."""
    query, key, value = parts_of(triple)
    head, output = meet(query, key), meet(value, output)
    return Product((head, head, output)), output


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    """Return attention on torch's fused kernel, and 0 for queries that attend to no key.

    Args:
        query: [batch, head, query, d_head].
        key, value: [batch, head, key, d_head], of as many heads or a fraction of them.
        scale: multiplies query·key/d_head.
        mask: booleans that broadcast against [batch, head, query, key].
        is_causal: whether keys after the query are left out, for as many queries as keys.
    """
    check_shared(query.shape[-3], key.shape[-3])
    # Some of torch's kernels take a negative scale for none with a causal mask.
    signed = query if scale > 0 else -query
    grouped = query.shape[-3] != key.shape[-3]
    scale = abs(scale) / query.shape[-1]
    if grouped and mask is None and not is_causal:
        return _folded(signed, key, value, scale)
    if mask is None:
        return F.scaled_dot_product_attention(
            signed, key, value, is_causal=is_causal, scale=scale, enable_gqa=grouped
        )
    attends = mask.any(dim=-1, keepdim=True)
    output = F.scaled_dot_product_attention(
        signed, key, value, attn_mask=mask | ~attends, scale=scale, enable_gqa=grouped
    )
    return output.masked_fill(~attends, 0)


def _folded(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention without a mask, of all heads that share keys as queries of one head.

    The fused kernel reads keys and values once for each head of the query, and here once for each
    of their own: 1.5 times as fast for one query of 8 heads and 2,049 keys of 4, on a CPU.
    """
    heads, own = query.shape[-3], key.shape[-3]
    shared = torch.unflatten(query, -3, (own, heads // own)).flatten(-3, -2)
    output = F.scaled_dot_product_attention(shared, key, value, scale=scale)
    return torch.unflatten(output, -2, (heads // own, query.shape[-2])).flatten(-4, -3)
