"""Multi-head attention with rotary positions, fused and composed."""

from __future__ import annotations

from modula.algebra.core import Composition, Identity, Module
from modula.atoms import Linear
from modula.bonds import (
    ApplyAttentionScores,
    AttentionQK,
    CausalMask,
    FunctionalAttention,
    MergeHeads,
    Rope,
    Softmax,
    SplitIntoHeads,
    Ungroup,
)
from modula.bonds.attention import ROPE_BASE
from modula.norms import RMS, HeadRMS


class Attention(Composition[RMS, RMS]):
    """Multi-head self-attention on [batch, position, d_embed], on torch's fused kernel.

    Query, key and value are each a Linear. The output is a third of a Linear of the merged heads,
    since the three that read the input each count in the sensitivity.

    Sensitivity max(1, |scale|), radius R/3: conditional on queries, keys and values of RMS at most
    1 and on vectors spread evenly over the heads, as `FunctionalAttention` and `SplitIntoHeads`.

    Args:
        d_embed: the width.
        num_heads: the number of heads.
        d_head: the width of a head, even; None takes d_embed / num_heads.
        causal: whether a position attends only to itself and to those before it.
        scale: multiplies the scores, which are query·key/d_head.
        rope_base: of the rotary positions. The longest wavelength is near 2π·rope_base positions;
            take a larger base for contexts longer than that.

    Raises:
        ValueError: d_embed does not split into the heads, or d_head is odd.

    Example:
        >>> import torch
        >>> from modula import Attention
        >>> Attention(64, 4)(torch.randn(2, 16, 64)).shape
        torch.Size([2, 16, 64])

    Source: Large et al. 2024 (arXiv:2405.14813), appendix B.3.
    """

    def __init__(
        self,
        d_embed: int,
        num_heads: int,
        *,
        d_head: int | None = None,
        causal: bool = True,
        scale: float = 1.0,
        rope_base: float = ROPE_BASE,
    ) -> None:
        width = head_width(d_embed, num_heads, d_head)
        query, key, value = (_projection(num_heads, width, d_embed) for _ in range(3))
        heads = (
            FunctionalAttention(causal, scale)
            @ Ungroup()
            @ (Rope(width, rope_base) @ (query, key), value)
        )
        super().__init__((1 / 3) * (Linear(d_embed, num_heads * width) @ MergeHeads() @ heads))
        self.arguments: str = f"{d_embed}, {num_heads}"

    def extra_repr(self) -> str:
        return self.arguments


class ComposedAttention(Composition[RMS, RMS]):
    """`Attention` composed of single operations, so that scores can be observed or changed.

    It takes the same arguments and gives the same numbers, and stores all scores. The parameters
    come in the order value, query, key, output.

    Sensitivity (1 + 2·|scale|)/3, radius R/3: conditional as `Attention`. The scale multiplies the
    sensitivity of queries and keys alone.

    Args:
        d_embed, num_heads, d_head, causal, scale, rope_base: as for `Attention`.

    Raises:
        ValueError: d_embed does not split into the heads, or d_head is odd.
    """

    def __init__(
        self,
        d_embed: int,
        num_heads: int,
        *,
        d_head: int | None = None,
        causal: bool = True,
        scale: float = 1.0,
        rope_base: float = ROPE_BASE,
    ) -> None:
        width = head_width(d_embed, num_heads, d_head)
        query, key, value = (_projection(num_heads, width, d_embed) for _ in range(3))
        mask = CausalMask() if causal else Identity()
        scores = Softmax(scale) @ mask @ AttentionQK() @ Rope(width, rope_base) @ (query, key)
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


def _projection(num_heads: int, d_head: int, d_embed: int) -> Module[RMS, HeadRMS]:
    return SplitIntoHeads(num_heads) @ Linear(num_heads * d_head, d_embed)
