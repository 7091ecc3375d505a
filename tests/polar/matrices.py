"""Matrices with given singular values, and their distance from 1 after a method."""

import torch
from torch import Tensor

from tests.helpers import rand


def orthonormal(seed: int, count: int, m: int, rank: int) -> Tensor:
    """Matrices [count, m, rank] with orthonormal columns, in float64."""
    return torch.linalg.qr(rand(seed, count, m, rank)).Q


def with_singular_values(seed: int, values: Tensor, m: int, n: int, count: int = 1) -> Tensor:
    """Matrices [count, m, n] with the given singular values, [rank], in float64."""
    return (orthonormal(seed, count, m, len(values)) * values) @ orthonormal(
        seed + 1, count, n, len(values)
    ).mT


def falling(rank: int, smallest: float) -> Tensor:
    """Singular values that fall from 1 to `smallest`, each by the same factor."""
    return smallest ** torch.linspace(0, 1, rank, dtype=torch.float64)


def errors(G: Tensor, orthogonal: Tensor, above: float = 1e-3) -> Tensor:
    """Return |uᵢᵀ O vᵢ − 1| for all σᵢ > above·σ₁ of the matrices, in float64 on the CPU."""
    U, S, Vh = torch.linalg.svd(G.double().cpu(), full_matrices=False)
    lifted = ((U.mT @ orthogonal.double().cpu()) * Vh).sum(dim=-1)
    return (lifted - 1).abs()[above * S[..., :1] < S]


def largest(A: Tensor) -> float:
    """Return the largest singular value of the matrices, 0 if they are all empty.

    It is computed in float64 on the CPU.
    """
    A = A.double().cpu()
    gram = A.mT @ A if A.shape[-1] < A.shape[-2] else A @ A.mT
    return (
        torch.linalg.eigvalsh(gram)[..., -1:].clamp(min=0).sqrt().amax().item()
        if gram.numel()
        else 0.0
    )
