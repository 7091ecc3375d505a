"""Multi-head attention, fused and composed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from modula.algebra.core import Composition, Identity, Module, Transparent
from modula.atoms import Linear
from modula.bonds import (
    ApplyAttentionScores,
    AttentionQK,
    CausalMask,
    FunctionalAttention,
    MaskedFunctionalAttention,
    MergeHeads,
    Rope,
    Select,
    Softmax,
    SplitIntoHeads,
    Ungroup,
)
from modula.bonds.attention import ROPE_BASE
from modula.bonds.attention.heads import check_shared
from modula.norms import RMS, HeadRMS, Mask

QueryKey: TypeAlias = Module[tuple[HeadRMS, HeadRMS], tuple[HeadRMS, HeadRMS]] | Transparent
"""A map of the pair of query and key, before their scores."""

Projection: TypeAlias = Callable[[int, int, int], Module[RMS, HeadRMS]]
"""Makes a map to heads from num_heads, d_head and d_embed, as `HeadLinear` does."""


class Attention(Composition[RMS, RMS]):
    """Multi-head self-attention on [batch, position, d_embed], on torch's fused kernel.

    Query, key and value are each a projection to heads. The output is a third of a Linear of the
    merged heads, since the three that read the input each count in the sensitivity.

    Sensitivity max(1, |scale|), radius R/3: conditional on queries, keys and values of RMS at most
    1, which follows from ‖x‖ ≤ 1 and ‖w‖ ≤ 1 with `projection=HeadLinear`; with the default an
    estimate, as `SplitIntoHeads`.

    Args:
        d_embed: the width.
        num_heads: the number of heads.
        num_kv_heads: the number of heads of keys and values, each of which num_heads /
            num_kv_heads queries share; None takes num_heads, and 1 is multi-query attention.
        d_head: the width of a head, even; None takes d_embed / num_heads.
        causal: whether a position attends only to itself and to those before it.
        window: keys at this distance, or farther, are left out; None for none.
        scale: multiplies the scores, which are query·key/d_head.
        rope_base: of the rotary positions. The longest wavelength is near 2π·rope_base positions;
            take a larger base for contexts longer than that.
        query_key: a map of the pair of query and key; None takes Rope(d_head, rope_base). Take
            Identity() for no positions, and Rope(d_head) @ QKNorm() to bound the logits.
        projection: makes the maps to queries, keys and values from num_heads, d_head and d_embed.
            By default each is one matrix, split into heads; `HeadLinear` has one for each head.

    Raises:
        ValueError: d_embed does not split into the heads, the heads do not share those of keys and
            values evenly, d_head is odd, or the window below 1.

    Example:
        >>> import torch
        >>> from modula import Attention
        >>> Attention(64, 4)(torch.randn(2, 16, 64)).shape
        torch.Size([2, 16, 64])
        >>> grouped = Attention(64, 4, num_kv_heads=2, window=8)
        >>> [list(weight.shape) for weight in grouped.parameters()]
        [[64, 64], [32, 64], [32, 64], [64, 64]]

    Source: Large et al. 2024 (arXiv:2405.14813), appendix B.3; Ainslie et al. 2023
    (arXiv:2305.13245) for grouped queries.
    """

    def __init__(
        self,
        d_embed: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        d_head: int | None = None,
        causal: bool = True,
        window: int | None = None,
        scale: float = 1.0,
        rope_base: float = ROPE_BASE,
        query_key: QueryKey | None = None,
        projection: Projection | None = None,
    ) -> None:
        width = head_width(d_embed, num_heads, d_head)
        query, key, value = _projections(d_embed, num_heads, num_kv_heads, width, projection)
        pair = Rope(width, rope_base) if query_key is None else query_key
        heads = (
            FunctionalAttention(causal, scale, window=window)
            @ Ungroup()
            @ (pair @ (query, key), value)
        )
        super().__init__((1 / 3) * (Linear(d_embed, num_heads * width) @ MergeHeads() @ heads))
        self.arguments: str = f"{d_embed}, {num_heads}"

    def extra_repr(self) -> str:
        return self.arguments


class ComposedAttention(Composition[RMS, RMS]):
    """`Attention` composed of single operations, so that scores can be observed or changed.

    It takes the same arguments and gives the same numbers, and stores all scores. The parameters
    come in the order value, query, key, output.

    Sensitivity (1 + 2·|scale|)/3, radius R/3: conditional or an estimate, as `Attention`. The scale
    multiplies the sensitivity of queries and keys alone.

    Args:
        d_embed, num_heads, num_kv_heads, d_head, causal, window, scale, rope_base, query_key,
            projection: as for `Attention`; a window is taken with `causal` alone.

    Raises:
        ValueError: as for `Attention`, or a window without `causal`.
    """

    def __init__(
        self,
        d_embed: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        d_head: int | None = None,
        causal: bool = True,
        window: int | None = None,
        scale: float = 1.0,
        rope_base: float = ROPE_BASE,
        query_key: QueryKey | None = None,
        projection: Projection | None = None,
    ) -> None:
        if window is not None and not causal:
            raise ValueError(
                f"ComposedAttention takes a window with causal=True alone, got window={window}; "
                "Attention takes both"
            )
        width = head_width(d_embed, num_heads, d_head)
        query, key, value = _projections(d_embed, num_heads, num_kv_heads, width, projection)
        pair = Rope(width, rope_base) if query_key is None else query_key
        mask = CausalMask(window) if causal else Identity()
        scores = Softmax(scale) @ mask @ AttentionQK() @ pair @ (query, key)
        super().__init__(
            (1 / 3)
            * (
                Linear(d_embed, num_heads * width)
                @ MergeHeads()
                @ ApplyAttentionScores()
                @ (value, scores)
            )
        )
        self.arguments: str = f"{d_embed}, {num_heads}"

    def extra_repr(self) -> str:
        return self.arguments


class MaskedAttention(Composition[tuple[RMS, Mask], RMS]):
    """(x, mask) ↦ `Attention` in which a query attends only to keys at which the mask is True.

    The mask is a boolean tensor that broadcasts against scores [batch, head, query, key];
    `PaddingMask` makes one of the real positions [batch, position]. A query that attends to no key
    gets no values: its output is 0.

    Sensitivity max(1, |scale|), radius R/3: conditional or an estimate, as `Attention`.

    Args:
        d_embed, num_heads, num_kv_heads, d_head, window, scale, rope_base, query_key, projection:
            as for `Attention`.
        causal: whether a position attends only to itself and to those before it, besides the mask.

    Raises:
        ValueError: as for `Attention`; when called, a mask of another shape or dtype.

    Example:
        >>> import torch
        >>> from modula import MaskedAttention, PaddingMask
        >>> mask = PaddingMask()(torch.tensor([[True, True, False]]))
        >>> MaskedAttention(8, 2)((torch.randn(1, 3, 8), mask)).shape
        torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        d_embed: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        d_head: int | None = None,
        causal: bool = False,
        window: int | None = None,
        scale: float = 1.0,
        rope_base: float = ROPE_BASE,
        query_key: QueryKey | None = None,
        projection: Projection | None = None,
    ) -> None:
        width = head_width(d_embed, num_heads, d_head)
        query, key, value = _projections(d_embed, num_heads, num_kv_heads, width, projection)
        pair = Rope(width, rope_base) if query_key is None else query_key
        stream, mask = Select(0, RMS, Mask), Select(1, RMS, Mask)
        triple = Ungroup() @ (pair @ (query, key), value) @ stream
        heads = MaskedFunctionalAttention(causal, scale, window=window) @ (triple, mask)
        super().__init__((1 / 3) * (Linear(d_embed, num_heads * width) @ MergeHeads() @ heads))
        self.arguments: str = f"{d_embed}, {num_heads}"

    def extra_repr(self) -> str:
        return self.arguments


class CrossAttention(Composition[tuple[RMS, RMS], RMS]):
    """(x, memory) ↦ attention of the positions of x to those of a memory of any length.

    Queries are maps of x, [batch, position, d_embed], keys and values of the memory, [batch,
    position, d_memory]. There are no positions unless `query_key` gives them.

    Sensitivity max(1, |scale|), radius R/3: conditional or an estimate, as `Attention`.

    Args:
        d_embed: the width of x and of the output.
        num_heads: the number of heads.
        d_memory: the width of the memory; None takes d_embed.
        num_kv_heads, d_head, scale, query_key, projection: as for `Attention`.

    Raises:
        ValueError: d_embed does not split into the heads, or the heads do not share those of keys
            and values evenly.

    Example:
        >>> import torch
        >>> from modula import CrossAttention
        >>> x, memory = torch.randn(2, 5, 8), torch.randn(2, 9, 6)
        >>> CrossAttention(8, 2, d_memory=6)((x, memory)).shape
        torch.Size([2, 5, 8])

    Source: Vaswani et al. 2017 (arXiv:1706.03762), section 3.2.3.
    """

    def __init__(
        self,
        d_embed: int,
        num_heads: int,
        *,
        d_memory: int | None = None,
        num_kv_heads: int | None = None,
        d_head: int | None = None,
        scale: float = 1.0,
        query_key: QueryKey | None = None,
        projection: Projection | None = None,
    ) -> None:
        width = head_width(d_embed, num_heads, d_head)
        query, _, _ = _projections(d_embed, num_heads, num_kv_heads, width, projection)
        entering = d_embed if d_memory is None else d_memory
        _, key, value = _projections(entering, num_heads, num_kv_heads, width, projection)
        stream, memory = Select(0, RMS, RMS), Select(1, RMS, RMS)
        pair = Identity() if query_key is None else query_key
        heads = (
            FunctionalAttention(False, scale)
            @ Ungroup()
            @ (pair @ (query @ stream, key @ memory), value @ memory)
        )
        super().__init__((1 / 3) * (Linear(d_embed, num_heads * width) @ MergeHeads() @ heads))
        self.arguments: str = f"{d_embed}, {num_heads}"

    def extra_repr(self) -> str:
        return self.arguments


def split_linear(num_heads: int, d_head: int, d_embed: int) -> Module[RMS, HeadRMS]:
    """Return a map to heads by one matrix, whose output is split into them."""
    return SplitIntoHeads(num_heads) @ Linear(num_heads * d_head, d_embed)


def head_width(d_embed: int, num_heads: int, d_head: int | None) -> int:
    """Return the width of a head: `d_head`, or d_embed / num_heads if that is None.

    Raises:
        ValueError: fewer than one head, or `d_embed` does not split evenly.
    """
    if num_heads < 1:
        raise ValueError(f"attention takes at least 1 head, got num_heads={num_heads}")
    if d_head is None and d_embed % num_heads:
        raise ValueError(
            f"d_embed={d_embed} does not split into num_heads={num_heads} heads: change one of "
            "them, or give d_head"
        )
    return d_embed // num_heads if d_head is None else d_head


def _projections(
    d_embed: int,
    num_heads: int,
    num_kv_heads: int | None,
    d_head: int,
    projection: Projection | None,
) -> tuple[Module[RMS, HeadRMS], Module[RMS, HeadRMS], Module[RMS, HeadRMS]]:
    """The maps to queries, keys and values."""
    shared = num_heads if num_kv_heads is None else num_kv_heads
    check_shared(num_heads, shared)
    made = split_linear if projection is None else projection
    query, key, value = (made(heads, d_head, d_embed) for heads in (num_heads, shared, shared))
    return query, key, value
