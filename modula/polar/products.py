"""Products of a matrix with its own transpose, which are symmetric, and polynomials of them."""

from __future__ import annotations

import torch
from torch import Tensor

MIN_ROWS_IN_HALVES = 512
"""The fewest rows for which a CPU computes a Gram matrix in halves.

From so many on, its blocks are so large that leaving out one of four saves time."""


def gram(X: Tensor) -> Tensor:
    """Return XXᵀ of each matrix of a batch: [batch, m, n] -> [batch, m, m].

    A CPU computes it in halves if X is large. In low precision, where products are fast, copying
    the blocks would cost more than halves save. There a single matrix is taken out of its batch: in
    a batch of one a CPU takes longer to multiply it by its transpose
    (`benchmarks.rejected_ideas`).
    """
    if _is_worth_halving(X):
        return gram_in_halves(X)
    return torch.mm(X[0], X[0].mT).unsqueeze(0) if len(X) == 1 else torch.bmm(X, X.mT)


def gram_in_halves(X: Tensor) -> Tensor:
    """Return XXᵀ, computed from the upper and the lower half of the rows of X.

    Two of its four blocks are each other's transposes, and only one of these is computed.
    """
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


def polynomial(R: Tensor, a: float, b: float, c: float) -> Tensor:
    """Return a + b·R + c·R² of symmetric R, which is overwritten.

    Where the polynomial is positive for all R, it is computed as c·(R + b/2c)² + (a − b²/4c). Both
    sums then change the diagonal alone, and R is not read again after the product. Both terms are
    positive, and nothing cancels.
    """
    if not c:
        return add_to_diagonal(R.mul_(b), a)
    if b**2 > 4 * a * c:
        return add_to_diagonal(_square(R, c).add_(R, alpha=b), a)
    vertex = b / (2 * c)
    return add_to_diagonal(_square(add_to_diagonal(R, vertex), c), a - c * vertex**2)


def add_to_diagonal(P: Tensor, a: float | Tensor) -> Tensor:
    """Add a·I to P in place, and return it."""
    P.diagonal(dim1=-2, dim2=-1).add_(a)
    return P


def _square(R: Tensor, scale: float) -> Tensor:
    """Return scale·R² of symmetric R."""
    if _is_worth_halving(R):
        return gram_in_halves(R).mul_(scale)
    return torch.baddbmm(R, R, R, beta=0, alpha=scale)


def _is_worth_halving(X: Tensor) -> bool:
    return (
        X.device.type == "cpu"
        and X.shape[-2] >= MIN_ROWS_IN_HALVES
        and X.dtype in (torch.float32, torch.float64)
    )
