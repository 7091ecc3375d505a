"""Heads that share the table of an embedding: `TiedHead`, and `tie` for a Linear."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from modula.algebra.core import Atom
from modula.atoms.embed import Embed
from modula.atoms.linear import Linear
from modula.checks import Claim
from modula.geometry import Vectors
from modula.norms import RMS, Linf


class TiedHead(Atom[RMS, Linf]):
    """x ↦ W·x/d for the table W of an embedding, [num_embed, d]: one logit for each id.

    Divided by the width, the table as a map RMS → Linf has the norm that it has as an embedding,
    the largest RMS of a row, since |w·x|/d ≤ RMS(w)·RMS(x). So the duality map of both uses
    together is exact: each row's own.

    Sensitivity 1, radius R: proved, by Cauchy–Schwarz. Logits are at most 1 where norms are;
    multiply the head by a scale to let the softmax be confident.

    Args:
        table: the embedding, whose weight and mass the head shares.

    Raises:
        TypeError: not an Embed.

    Example:
        >>> import torch
        >>> from modula import Embed, Linear, RMSNorm, TiedHead
        >>> table = Embed(16, 65)
        >>> model = 8.0 * TiedHead(table) @ RMSNorm() @ Linear(16, 16) @ table
        >>> model(torch.tensor([3, 1, 4])).shape, len(model.weights)
        (torch.Size([3, 65]), 2)

    Source: Press & Wolf 2017 (arXiv:1608.05859), for the tying.
    """

    claim: Claim = "proved"

    def __init__(self, table: Embed) -> None:
        if not isinstance(table, Embed):
            raise TypeError(
                f"TiedHead shares the table of an Embed, got {type(table).__name__}: give the atom "
                "whose weight is [num_embed, d]"
            )
        num_embed, d_embed = table.weight.shape
        super().__init__(
            (num_embed, d_embed),
            Vectors(RMS),
            fan_out=num_embed,
            fan_in=d_embed,
            mass=table.mass,
            device="meta",  # replaced by the table
        )
        self.weight: nn.Parameter = table.weight

    def forward(self, x: Tensor) -> Tensor:
        self.check_width(x)
        return F.linear(x, self.weight) / self.weight.shape[1]

    def extra_repr(self) -> str:
        num_embed, d_embed = self.weight.shape
        return f"{num_embed}, {d_embed}"


def tie(head: Linear[RMS, RMS], table: Embed) -> Linear[RMS, RMS]:
    """Give a head the weight and the mass of an embedding, and return the head.

    The weight is then measured by the larger of the norms of its two uses, and dualized by a point
    of both unit balls (`modula.geometry.Intersection`). `TiedHead`, whose two uses have one norm,
    is exact.

    Args:
        head: from the width of the embedding to its number of ids.
        table: the embedding.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> from modula import Embed, Linear, RMSNorm, tie
        >>> table = Embed(16, 65)
        >>> model = tie(Linear(65, 16), table) @ RMSNorm() @ table
        >>> len(model.weights)
        1
    """
    if head.weight.shape != table.weight.shape:
        raise ValueError(
            f"{head!r} and {table!r} cannot share a weight: a head of [{table.extra_repr()}] takes "
            f"fan_out={table.weight.shape[0]} and fan_in={table.weight.shape[1]}"
        )
    head.weight = table.weight
    head.mass = table.mass  # pyright: ignore[reportAttributeAccessIssue]
    return head
