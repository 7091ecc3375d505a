"""A GPT as it is usually written in torch, and the same size of GPT as a network of modula's."""

from __future__ import annotations

import math

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from modula import GPT, Network, lift

KINDS = ("modula", "plain")
"""The GPTs that `build` makes."""


class Block(nn.Module):
    """Causal attention and an MLP, each after a LayerNorm, times `scale`, added to its input."""

    def __init__(self, width: int, heads: int, scale: float = 1.0) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale
        self.norm_1 = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = [
            rearrange(part, "batch position (head d) -> batch head position d", head=self.heads)
            for part in self.queries_keys_values(self.norm_1(x)).chunk(3, dim=-1)
        ]
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        merged = rearrange(attended, "batch head position d -> batch position (head d)")
        x = x + self.scale * self.projection(merged)
        out: Tensor = x + self.scale * self.down(F.gelu(self.up(self.norm_2(x))))
        return out


class PlainGPT(nn.Module):
    """A GPT of `nn.Linear` with biases, LayerNorm, GELU and learned positions.

    Initial weights are normal of standard deviation 0.02, those that write into the residual stream
    divided by √(2·blocks), and biases 0, as in GPT-2.

    Args:
        vocabulary: number of tokens.
        context: largest number of positions.
        width: number of features.
        heads: attention heads, which divide the width.
        blocks: number of blocks.
        tied: whether the table of tokens is also the head.
        scale: of each branch, before it is added to the residual stream.

    Example:
        >>> model = PlainGPT(65, context=64, width=128, heads=4, blocks=4)
        >>> model(torch.randint(65, (2, 64))).shape
        torch.Size([2, 64, 65])

    Source: Radford et al. 2019, *Language models are unsupervised multitask learners*.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        context: int,
        width: int,
        heads: int,
        blocks: int,
        tied: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads, scale) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                writes = name.endswith(("projection.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * blocks) if writes else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits [batch, position, vocabulary] for ids [batch, position]."""
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def build(
    kind: str, vocabulary: int, *, context: int, width: int, heads: int, blocks: int
) -> GPT | PlainGPT:
    """Return a GPT of one of `KINDS`."""
    if kind == "modula":
        return GPT(vocabulary, d_embed=width, num_heads=heads, num_blocks=blocks)
    return PlainGPT(vocabulary, context=context, width=width, heads=heads, blocks=blocks)


def network_of(model: nn.Module, ids: Tensor) -> Network:
    """Return the model itself if it is a network, and else the model lifted on these inputs."""
    return model if isinstance(model, Network) else lift(model, ids)
