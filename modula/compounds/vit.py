"""`ViT`: a transformer that classifies images."""

from __future__ import annotations

from typing import Literal, TypeAlias

from modula.algebra.core import Composition, Elementwise, Identity, Module
from modula.algebra.pixels import per_axis
from modula.atoms import ClassToken, Linear, PositionTable
from modula.bonds import Mean, Patchify, RMSNorm, TakePosition
from modula.compounds.attention import Attention
from modula.compounds.transformer import FeedForward, TransformerBlock
from modula.norms import RMS, ChannelRMS

Pooling: TypeAlias = Literal["mean", "class"]
"""The vector from which an image is classified: the mean over patches, or that of a class token."""


class ViT(Composition[ChannelRMS, RMS]):
    """A transformer from images [batch, channel, height, width] to logits [batch, fan_out].

    It consists of a Linear map of patches, averaged with learned positions, `num_blocks` blocks of
    attention and MLP, RMSNorm, the mean over patches (or the vector of a class token) and a Linear
    head. Attention sees all patches, and no positions but the learned ones.

    Sensitivity |final_scale|/2, radius |final_scale|: conditional as attention and RMSNorm are;
    with the default activation an estimate, as for `GPT`.

    Args:
        fan_out: the width of the output, such as the number of classes.
        in_channels: of the images.
        image_size: the height and the width of an image, as a number or a tuple.
        patch_size: those of a patch, which divide them.
        d_embed: the width of the stream.
        num_heads: of attention.
        num_blocks: the number of blocks, each of attention and an MLP; at least 1.
        expansion: the width of the MLP's hidden layer over `d_embed`.
        pooling: "mean" over patches, or "class" for a class token before them.
        activation: of the MLPs, an elementwise bond; None takes SquaredReLU.
        attention_mass: the mass of attention in all blocks together; the map of patches and the
            head have 1 each.
        mlp_mass: the mass of the MLPs in all blocks together.
        position_mass: the mass of the positions, and of the class token if there is one.
        final_scale: multiplies the logits.

    Raises:
        ValueError: a count or width below 1, patches that do not divide an image, d_embed that does
            not split into the heads, no such pooling, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import ViT
        >>> model = ViT(10, 1, image_size=28, patch_size=7, d_embed=32, num_heads=4, num_blocks=2)
        >>> model(torch.randn(8, 1, 28, 28)).shape
        torch.Size([8, 10])

    Source: Dosovitskiy et al. 2021 (arXiv:2010.11929), section 3.1.
    """

    def __init__(
        self,
        fan_out: int,
        in_channels: int,
        *,
        image_size: int | tuple[int, int],
        patch_size: int | tuple[int, int],
        d_embed: int,
        num_heads: int,
        num_blocks: int,
        expansion: int = 4,
        pooling: Pooling = "mean",
        activation: Elementwise | None = None,
        attention_mass: float = 2.0,
        mlp_mass: float = 3.0,
        position_mass: float = 0.1,
        final_scale: float = 1.0,
    ) -> None:
        if num_blocks < 1 or pooling not in ("mean", "class"):
            raise ValueError(
                "ViT has at least 1 block, and pools by 'mean' or 'class'; got "
                f"num_blocks={num_blocks}, pooling={pooling!r}"
            )
        height, width = per_axis("ViT", 2, "image_size", image_size)
        rows, columns = per_axis("ViT", 2, "patch_size", patch_size)
        if height % rows or width % columns:
            raise ValueError(
                f"ViT divides an image into whole patches; got image_size={image_size}, "
                f"patch_size={patch_size}"
            )
        count = (height // rows) * (width // columns)
        attention = Attention(d_embed, num_heads, causal=False, query_key=Identity()).tare(
            attention_mass / num_blocks
        )
        mlp = FeedForward(d_embed, expansion, activation).tare(mlp_mass / num_blocks)
        blocks = TransformerBlock(attention, mlp, num_branches=2 * num_blocks) ** num_blocks
        patches = Linear(d_embed, in_channels * rows * columns) @ Patchify((rows, columns))
        if pooling == "class":
            tokens = ClassToken(d_embed, mass=position_mass) @ patches
            pooled: Module[RMS, RMS] = TakePosition(0) @ RMSNorm()
        else:
            tokens, pooled = patches, Mean() @ RMSNorm()
        table = PositionTable(d_embed, count + (pooling == "class"), mass=position_mass)
        embedded = 0.5 * (table @ tokens)
        super().__init__(final_scale * (Linear(fan_out, d_embed) @ pooled @ blocks @ embedded))
        self.arguments: str = (
            f"{fan_out}, {in_channels}, image_size={image_size}, patch_size={patch_size}, "
            f"d_embed={d_embed}, num_heads={num_heads}, num_blocks={num_blocks}, "
            f"pooling={pooling!r}"
        )

    def extra_repr(self) -> str:
        return self.arguments
