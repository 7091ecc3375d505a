"""`Llama`: a decoder-only transformer with grouped queries, a gated MLP, and gains."""

from __future__ import annotations

from modula.algebra.core import Composition
from modula.atoms import Embed, Gain, Linear
from modula.bonds import RMSNorm
from modula.bonds.attention import ROPE_BASE
from modula.compounds.attention import Attention, Projection, QueryKey
from modula.compounds.mlp import SwiGLU
from modula.compounds.transformer import TransformerBlock
from modula.norms import RMS, OneHot

MULTIPLE = 8
"""The width of the hidden layer is a multiple of this by default."""


class Llama(Composition[OneHot, RMS]):
    """A transformer from token ids [batch, position] to logits [batch, position, vocab_size].

    It differs from `GPT` in its MLP, which is `SwiGLU`, in a gain after each RMSNorm, and in that
    queries share heads of keys and values. As there, each branch is averaged with its input.

    Sensitivity |final_scale| for an `attention_scale` of at most 1, radius |final_scale|: an
    estimate, as `SplitIntoHeads` is and `Gate` for entries above 1.

    Args:
        vocab_size: the number of tokens.
        d_embed: the width of the stream.
        num_heads: of the queries.
        num_blocks: the number of blocks, each of attention and an MLP; at least 1.
        num_kv_heads: of keys and values, shared by the queries; None takes num_heads.
        hidden: the width of the MLP; None takes 8/3·d_embed, rounded up to a multiple of 8.
        attention_mass, mlp_mass, gain_mass: the masses of attention, MLPs and gains in all blocks
            together; the embedding and the head have 1 each.
        attention_scale: multiplies the scores of attention.
        final_scale: multiplies the logits.
        rope_base, window, query_key, projection: of attention; see `Attention`.

    Raises:
        ValueError: a count or width below 1, d_embed that does not split into the heads, heads that
            do not share those of keys and values evenly, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import Llama
        >>> model = Llama(65, d_embed=32, num_heads=4, num_blocks=2, num_kv_heads=2)
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 65])

    Source: Touvron et al. 2023 (arXiv:2307.09288), section 2.2.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        d_embed: int,
        num_heads: int,
        num_blocks: int,
        num_kv_heads: int | None = None,
        hidden: int | None = None,
        attention_mass: float = 2.0,
        mlp_mass: float = 3.0,
        gain_mass: float = 0.1,
        attention_scale: float = 1.0,
        final_scale: float = 1.0,
        rope_base: float = ROPE_BASE,
        window: int | None = None,
        query_key: QueryKey | None = None,
        projection: Projection | None = None,
    ) -> None:
        if num_blocks < 1:
            raise ValueError(f"Llama has at least 1 block, got num_blocks={num_blocks}")
        attention = Attention(
            d_embed,
            num_heads,
            num_kv_heads=num_kv_heads,
            window=window,
            scale=attention_scale,
            rope_base=rope_base,
            query_key=query_key,
            projection=projection,
        ).tare(attention_mass / num_blocks)
        width = -(-8 * d_embed // (3 * MULTIPLE)) * MULTIPLE if hidden is None else hidden
        mlp = SwiGLU(d_embed, d_embed, width=width).tare(mlp_mass / num_blocks)
        norm = Gain(d_embed, mass=gain_mass / (2 * num_blocks + 1)) @ RMSNorm()
        blocks = TransformerBlock(attention, mlp, num_branches=2 * num_blocks, norm=norm)
        head = final_scale * (Linear(vocab_size, d_embed) @ norm**1)
        super().__init__(head @ blocks**num_blocks @ Embed(d_embed, vocab_size))
        self.arguments: str = (
            f"{vocab_size}, d_embed={d_embed}, num_heads={num_heads}, num_blocks={num_blocks}"
        )

    def extra_repr(self) -> str:
        return self.arguments
