"""The convex residual connection, with which the sensitivity does not grow with depth."""

from __future__ import annotations

from typing import TypeVar

from modula.algebra.core import Identity, Module, SpaceType
from modula.norms import RMS, ChannelRMS

S = TypeVar("S", RMS, ChannelRMS)
X = TypeVar("X", bound=SpaceType)
Y = TypeVar("Y", bound=SpaceType)


def residual(
    block: Module[S, S], num_branches: int, shortcut: Module[S, S] | None = None
) -> Module[S, S]:
    """Return the average (1 − 1/L)·x + (1/L)·block(x), one of L residual branches in a row.

    The two factors sum to 1, so that blocks of sensitivity 1 compose to a network of sensitivity 1
    at every depth.

    Args:
        block: a map from a space to itself, or with a shortcut to another width.
        num_branches: L, the number of such branches that the network has in a row. For L = 1 the
            block itself is returned.
        shortcut: a map of x that takes its place, where the block goes to another width; None for
            x itself.

    Raises:
        ValueError: `num_branches` < 1.

    Example:
        >>> from modula import Linear, ReLU, residual
        >>> block = ReLU() @ Linear(8, 8)
        >>> round((residual(block, 4) ** 4).sensitivity, 6)
        1.0

    Source: Large et al. 2024 (arXiv:2405.14813), proposition 4.
    """
    check_branches(num_branches)
    if shortcut is not None:
        return averaged(shortcut, block, num_branches)
    if num_branches == 1:
        return block
    return (1 - 1 / num_branches) * Identity() + (1 / num_branches) * block


def averaged(stream: Module[X, Y], block: Module[X, Y], num_branches: int) -> Module[X, Y]:
    """Return the average of `residual` for a block that reads more than the stream.

    Args:
        stream: the map to the stream, such as Select(0, RMS, Mask).
        block: a map from the same input to a change of the stream.
        num_branches: L, as for `residual`.

    Raises:
        ValueError: `num_branches` < 1.

    Example:
        >>> from modula import RMS, Add, Linear, Parallel, Select
        >>> from modula.compounds.residual import averaged
        >>> conditioned = Add() @ Parallel(Linear(8, 8), Linear(8, 4))
        >>> averaged(Select(0, RMS, RMS), conditioned, 4).sensitivity
        1.0
    """
    check_branches(num_branches)
    if num_branches == 1:
        return block
    return (1 - 1 / num_branches) * stream + (1 / num_branches) * block


def check_branches(num_branches: int) -> None:
    """Raise if a network has no residual branch.

    Raises:
        ValueError: `num_branches` < 1.
    """
    if num_branches < 1:
        raise ValueError(
            f"a network has at least 1 residual branch, got num_branches={num_branches}"
        )
