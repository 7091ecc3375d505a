"""Products of a matrix with its own transpose, which are symmetric, and polynomials of them."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_IN_HALVES = 512
"""The rows from which on the blocks of a Gram matrix on a CPU are so large that leaving one of four
out saves time."""


def gram(X: Tensor) -> Tensor:
    """XXᵀ for each matrix of a batch: [batch, m, n] -> [batch, m, m]; of large matrices on a CPU in
    halves.

    In low precision, where products are fast, copying the blocks would cost more than halves save.
    There a single matrix is taken out of its batch: in a batch of one a CPU takes longer to
    multiply it by its transpose (`benchmarks.rejected_ideas`).
    """
    if _is_worth_halving(X):
        return gram_in_halves(X)
    return torch.mm(X[0], X[0].mT).unsqueeze(0) if len(X) == 1 else torch.bmm(X, X.mT)


def gram_in_halves(X: Tensor) -> Tensor:
    """XXᵀ from an upper and a lower half of X: of the two blocks that are each other's transposes
    only one is computed.
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
    """a + b·R + c·R² for symmetric R, which is overwritten.

    Where it is positive for all R, it is computed as c·(R + b/2c)² + (a − b²/4c): what is added
    stands on the diagonal alone, and R is not read again after the product. Both terms are positive
    then, and nothing cancels.
    """
    if not c:
        return add_to_diagonal(R.mul_(b), a)
    if b**2 > 4 * a * c:
        return add_to_diagonal(_square(R, c).add_(R, alpha=b), a)
    vertex = b / (2 * c)
    return add_to_diagonal(_square(add_to_diagonal(R, vertex), c), a - c * vertex**2)


def _square(R: Tensor, scale: float) -> Tensor:
    """scale·R² for symmetric R."""
    if _is_worth_halving(R):
        return gram_in_halves(R).mul_(scale)
    return torch.baddbmm(R, R, R, beta=0, alpha=scale)


def add_to_diagonal(P: Tensor, a: float | Tensor) -> Tensor:
    """P + a·I, in place."""
    P.diagonal(dim1=-2, dim2=-1).add_(a)
    return P


def _is_worth_halving(X: Tensor) -> bool:
    return (
        X.device.type == "cpu"
        and X.shape[-2] >= SMALLEST_IN_HALVES
        and X.dtype in (torch.float32, torch.float64)
    )
