"""The blocks of transformers, and the MLPs in them."""

from __future__ import annotations

from modula.algebra.core import Composition, Elementwise, Module
from modula.algebra.parallel import Parallel
from modula.atoms import Linear
from modula.bonds import Keep, RMSNorm, Select, SquaredReLU
from modula.compounds.residual import averaged, residual
from modula.norms import RMS, Mask


class FeedForward(Composition[RMS, RMS]):
    """The MLP of a transformer block: Linear, an activation scaled to sensitivity 1, Linear.

    Sensitivity 1: proved, if that of the activation is.

    Args:
        d_embed: the width.
        expansion: the width of the hidden layer over `d_embed`.
        activation: an elementwise bond; None takes SquaredReLU.

    Raises:
        ValueError: a width below 1.

    Example:
        >>> from modula import FeedForward, ReLU
        >>> FeedForward(8, activation=ReLU())
        FeedForward(8, 4)
    """

    def __init__(
        self, d_embed: int, expansion: int = 4, activation: Elementwise | None = None
    ) -> None:
        hidden = expansion * d_embed
        bond = SquaredReLU() if activation is None else activation
        super().__init__(
            Linear(d_embed, hidden) @ (bond / bond.sensitivity) @ Linear(hidden, d_embed)
        )
        self.arguments: str = f"{d_embed}, {expansion}"

    def extra_repr(self) -> str:
        return self.arguments


class TransformerBlock(Composition[RMS, RMS]):
    """Attention and an MLP, each a residual branch that begins with a normalisation.

    The branches are averaged with their inputs, as by `residual`, so that blocks whose attention
    and MLP have sensitivity 1 have it too. A network of n blocks has 2·n branches.

    Args:
        attention: a map of the stream, such as `Attention(d_embed, num_heads)`.
        mlp: a map of the stream that treats each position by itself, such as `FeedForward`.
        num_branches: the number of residual branches of the whole network.
        norm: at the beginning of each branch, of which the second has a copy; None takes RMSNorm().

    Raises:
        ValueError: fewer than one branch.

    Example:
        >>> from modula import Attention, FeedForward, TransformerBlock
        >>> block = TransformerBlock(Attention(64, 4, window=32), FeedForward(64), num_branches=8)
        >>> round((block**4).sensitivity, 6)
        1.0
    """

    def __init__(
        self,
        attention: Module[RMS, RMS],
        mlp: Module[RMS, RMS],
        *,
        num_branches: int,
        norm: Module[RMS, RMS] | None = None,
    ) -> None:
        first = RMSNorm() if norm is None else norm
        super().__init__(
            residual(mlp @ first**1, num_branches) @ residual(attention @ first, num_branches)
        )


class MaskedTransformerBlock(Composition[tuple[RMS, Mask], tuple[RMS, Mask]]):
    """(stream, mask) ↦ (stream after attention under the mask and an MLP, the same mask).

    It is a `TransformerBlock` whose attention takes a mask. Blocks compose, and a network begins
    with `Parallel(embedding, PaddingMask())` and ends after `Select(0, RMS, Mask)`.

    Args:
        attention: from (stream, mask) to the stream, such as `MaskedAttention`.
        mlp, num_branches, norm: as for `TransformerBlock`.

    Raises:
        ValueError: fewer than one branch.

    Example:
        >>> import torch
        >>> from modula import RMS, Embed, FeedForward, Linear, Mask, MaskedAttention
        >>> from modula import MaskedTransformerBlock, PaddingMask, Parallel, Select
        >>> block = MaskedTransformerBlock(MaskedAttention(8, 2), FeedForward(8), num_branches=4)
        >>> stream = block**2 @ Parallel(Embed(8, 30), PaddingMask())
        >>> encoder = Linear(30, 8) @ Select(0, RMS, Mask) @ stream
        >>> real = torch.tensor([[True, True, False], [True, True, True]])
        >>> encoder((torch.tensor([[3, 1, 0], [2, 7, 5]]), real)).shape
        torch.Size([2, 3, 30])
    """

    def __init__(
        self,
        attention: Module[tuple[RMS, Mask], RMS],
        mlp: Module[RMS, RMS],
        *,
        num_branches: int,
        norm: Module[RMS, RMS] | None = None,
    ) -> None:
        first = RMSNorm() if norm is None else norm
        stream, mask = Select(0, RMS, Mask), Select(1, RMS, Mask)
        attends = attention @ Parallel(first, Keep(Mask))
        super().__init__(
            Parallel(residual(mlp @ first**1, num_branches), Keep(Mask))
            @ (averaged(stream, attends, num_branches), mask)
        )
