"""Products of a matrix with its own transpose, which are symmetric, and polynomials of them."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_IN_HALVES = 512
"""The rows from which on the blocks of a Gram matrix on a CPU are so large that leaving one of four out saves time."""


def gram(X: Tensor) -> Tensor:
    """XXᵀ for each matrix of a batch: [batch, m, n] -> [batch, m, m]; of large matrices on a CPU in halves.

    In low precision, where products are fast, copying the blocks would cost more than halves save. There a single matrix is taken out of
    its batch: in a batch of one a CPU takes longer to multiply it by its transpose (`benchmarks.lost`).
    """
    if _is_worth_halving(X):
        return gram_in_halves(X)
    return torch.mm(X[0], X[0].mT).unsqueeze(0) if len(X) == 1 else torch.bmm(X, X.mT)


def gram_in_halves(X: Tensor) -> Tensor:
    """XXᵀ from an upper and a lower half of X: of the two blocks that are each other's transposes only one is computed."""
    m = X.shape[-2]
    half = m // 2
    upper, lower = X[:, :half], X[:, half:]
    R = X.new_empty(X.shape[0], m, m)
    R[:, :half, :half] = upper @ upper.mT
    R[:, half:, half:] = lower @ lower.mT
    mixed = upper @ lower.mT
    R[:, :half, half:] = mixed
    R[:, half:, :half] = mixed.mT
    return R


def even_part(R: Tensor, b: float, c: float) -> Tensor:
    """b·R + c·R² for symmetric R."""
    if not c:
        return b * R
    if _is_worth_halving(R):
        return gram(R).mul_(c).add_(R, alpha=b)
    return torch.baddbmm(R, R, R, beta=b, alpha=c)


def polynomial(R: Tensor, a: float, b: float, c: float) -> Tensor:
    """a + b·R + c·R² for symmetric R."""
    return add_to_diagonal(even_part(R, b, c), a)


def add_to_diagonal(P: Tensor, a: float | Tensor) -> Tensor:
    """P + a·I, in place."""
    P.diagonal(dim1=-2, dim2=-1).add_(a)
    return P


def _is_worth_halving(X: Tensor) -> bool:
    return X.device.type == "cpu" and X.shape[-2] >= SMALLEST_IN_HALVES and X.dtype in (torch.float32, torch.float64)
