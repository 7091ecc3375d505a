"""The blocks of transformers, and the MLPs in them."""

from __future__ import annotations

from modula.algebra.core import Composition, Elementwise, Module
from modula.atoms import Linear
from modula.bonds import RMSNorm, SquaredReLU
from modula.compounds.residual import residual
from modula.norms import RMS


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
    """Attention and an MLP, each a residual branch that begins with RMSNorm.

    The branches are averaged with their inputs, as by `residual`, so that blocks whose attention
    and MLP have sensitivity 1 have it too. A network of n blocks has 2·n branches.

    Args:
        attention: a map of the stream, such as `Attention(d_embed, num_heads)`.
        mlp: a map of the stream that treats each position by itself, such as `FeedForward`.
        num_branches: the number of residual branches of the whole network.

    Raises:
        ValueError: fewer than one branch.

    Example:
        >>> from modula import Attention, FeedForward, TransformerBlock
        >>> block = TransformerBlock(Attention(64, 4, window=32), FeedForward(64), num_branches=8)
        >>> round((block**4).sensitivity, 6)
        1.0
    """

    def __init__(
        self, attention: Module[RMS, RMS], mlp: Module[RMS, RMS], *, num_branches: int
    ) -> None:
        super().__init__(
            residual(mlp @ RMSNorm(), num_branches) @ residual(attention @ RMSNorm(), num_branches)
        )
