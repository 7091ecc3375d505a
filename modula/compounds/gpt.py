"""`GPT`: a decoder-only transformer."""

from __future__ import annotations

from modula.algebra.core import Composition, Elementwise, Module
from modula.atoms import Embed, Linear
from modula.bonds import RMSNorm
from modula.bonds.attention import ROPE_BASE
from modula.compounds.attention import Attention, Projection, QueryKey
from modula.compounds.transformer import FeedForward, TransformerBlock
from modula.norms import RMS, OneHot


class GPT(Composition[OneHot, RMS]):
    """A transformer from token ids [batch, position] to logits [batch, position, vocab_size].

    It consists of an embedding, `num_blocks` blocks of attention and MLP, RMSNorm and a Linear
    head. Each of the L = 2·num_blocks branches begins with RMSNorm and is averaged with its input,
    (1 − 1/L)·x + (1/L)·branch(x), so that the sensitivity does not depend on the depth.

    Sensitivity |final_scale| for an `attention_scale` of at most 1, radius |final_scale|:
    conditional, as RMSNorm and attention are; with the default activation an estimate, since the
    bound of SquaredReLU holds for entries of at most 1 and some are larger.

    Args:
        vocab_size: the number of tokens.
        d_embed: the width of the stream.
        num_heads: of attention.
        num_blocks: the number of blocks, each of attention and an MLP; at least 1.
        expansion: the width of the MLP's hidden layer over `d_embed`.
        attention_mass: the mass of attention in all blocks together; the embedding and the head
            have 1 each.
        mlp_mass: the mass of the MLPs in all blocks together.
        attention_scale: multiplies the scores of attention.
        final_scale: multiplies the logits.
        rope_base: of the rotary positions; see `Attention`.
        activation: of the MLPs, an elementwise bond; None takes SquaredReLU.
        num_kv_heads, window, query_key, projection: of attention; see `Attention`.
        embedding: from ids to the stream, with the positions that are added there; None takes
            Embed(d_embed, vocab_size). For learned positions take 0.5 * Embed(d_embed, vocab_size)
            + 0.5 * (Embed(d_embed, context) @ Enumerate()) and query_key=Identity(), which leaves
            out rotary ones.
        norm: at the beginning of each branch, of which the others have copies; None takes
            RMSNorm(). Take TokenShift() @ RMSNorm() to give each position features of the one
            before.

    Raises:
        ValueError: a count or width below 1, d_embed that does not split into the heads, or a
            negative mass.
        CompositionError: an embedding of another width.

    Example:
        >>> import torch
        >>> from modula import GPT
        >>> model = GPT(65, d_embed=32, num_heads=4, num_blocks=2)
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 65])
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        d_embed: int,
        num_heads: int,
        num_blocks: int,
        expansion: int = 4,
        attention_mass: float = 2.0,
        mlp_mass: float = 3.0,
        attention_scale: float = 1.0,
        final_scale: float = 1.0,
        rope_base: float = ROPE_BASE,
        activation: Elementwise | None = None,
        num_kv_heads: int | None = None,
        window: int | None = None,
        query_key: QueryKey | None = None,
        projection: Projection | None = None,
        embedding: Module[OneHot, RMS] | None = None,
        norm: Module[RMS, RMS] | None = None,
    ) -> None:
        if num_blocks < 1:
            raise ValueError(f"GPT has at least 1 block, got num_blocks={num_blocks}")
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
        mlp = FeedForward(d_embed, expansion, activation).tare(mlp_mass / num_blocks)
        block = TransformerBlock(attention, mlp, num_branches=2 * num_blocks, norm=norm)
        head = final_scale * (Linear(vocab_size, d_embed) @ RMSNorm())
        stream = Embed(d_embed, vocab_size) if embedding is None else embedding
        super().__init__(head @ block**num_blocks @ stream)
        self.arguments: str = (
            f"{vocab_size}, d_embed={d_embed}, num_heads={num_heads}, num_blocks={num_blocks}"
        )

    def extra_repr(self) -> str:
        return self.arguments
