"""The convex residual connection, which keeps a deep network well-normed."""

from __future__ import annotations

from typing import TypeVar

from modula.algebra.core import Identity, Module
from modula.norms import RMS, ChannelRMS

S = TypeVar("S", RMS, ChannelRMS)


def residual(block: Module[S, S], num_branches: int) -> Module[S, S]:
    """One of `num_branches` residual branches in a row, (1 − 1/L)·x + (1/L)·block(x).

    The weights sum to 1, so that a block of sensitivity 1 leaves a sensitivity of 1 however many
    are stacked.

    Args:
        block: from a space to itself.
        num_branches: L, how many such branches the network has in a row. With one there is nothing
            to average with, and the block stands alone.

    Raises:
        ValueError: `num_branches` < 1.

    Source: Large et al. 2024 (arXiv:2405.14813), proposition 4.
    """
    if num_branches < 1:
        raise ValueError(
            f"a network has at least 1 residual branch, got num_branches={num_branches}"
        )
    if num_branches == 1:
        return block
    return (1 - 1 / num_branches) * Identity() + (1 / num_branches) * block
