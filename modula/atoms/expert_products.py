"""Rows times the matrix of their expert, as one operation in a compiled graph.

How many rows an expert gets is known at run time alone, for which `torch.compile` would break the
graph. Inside of an operation of its own these numbers do not matter to the graph. In eager mode
`Experts` does without it, since such an operation has no forward-mode derivative.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional as F


class _Context(Protocol):
    """What a forward pass keeps for the backward pass."""

    saved_tensors: tuple[Tensor, Tensor, Tensor]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


def count_each(chosen: Tensor, num: int) -> Tensor:
    """Return how often each of the ids 0, …, num − 1 occurs: int64 [num].

    Args:
        chosen: int64 [row].
        num: the number of ids.
    """
    # bincount would do, but the compiler does not know the length of its result.
    return torch.zeros(num, dtype=torch.int64, device=chosen.device).scatter_add(
        0, chosen, torch.ones_like(chosen)
    )


def split_rows(rows: Tensor, counts: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of each expert.

    Args:
        rows: [row, d], those of one expert side by side, in the order of the experts.
        counts: int64 [num], the numbers of their rows.
    """
    return torch.split(rows, counts.tolist())


def multiply_rows(rows: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Return W_e·x for each row x and its expert e: [row, d_out].

    Args:
        rows, counts: as for `split_rows`.
        weight: [num, d_out, d_in].
    """
    sent = split_rows(rows, counts)
    return torch.cat([F.linear(x, W) for x, W in zip(sent, weight, strict=True)])


def multiply_rows_compiled(rows: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Return what `multiply_rows` does, as one operation, in the format of autocast if it is on."""
    device = rows.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        rows, weight = rows.to(dtype), weight.to(dtype)
    return cast("Tensor", _products(rows, weight, counts))


@torch.library.custom_op("modula::expert_products", mutates_args=())
def _products(rows: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    return multiply_rows(rows, weight, counts)


@torch.library.custom_op("modula::expert_outer_products", mutates_args=())
def _outer_products(left: Tensor, right: Tensor, counts: Tensor) -> Tensor:
    """Σ l·rᵀ over the rows of each expert: [num, d_left, d_right]."""
    pairs = zip(split_rows(left, counts), split_rows(right, counts), strict=True)
    return torch.stack([one.mT @ other for one, other in pairs])


@_products.register_fake
def _(rows: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[1])


@_outer_products.register_fake
def _(left: Tensor, right: Tensor, counts: Tensor) -> Tensor:
    return left.new_empty(counts.shape[0], left.shape[1], right.shape[1])


def _keep(ctx: _Context, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _products_backward(ctx: _Context, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    rows, weight, counts = ctx.saved_tensors
    return (
        cast("Tensor", _products(grad, weight.mT, counts)),
        cast("Tensor", _outer_products(grad, rows, counts)),
        None,
    )


def _outer_products_backward(ctx: _Context, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    left, right, counts = ctx.saved_tensors
    return (
        cast("Tensor", _products(right, grad, counts)),
        cast("Tensor", _products(left, grad.mT, counts)),
        None,
    )


_products.register_autograd(_products_backward, setup_context=_keep)
_outer_products.register_autograd(_outer_products_backward, setup_context=_keep)
