"""Odd polynomial iterations: X ← a·X + b·(XXᵀ)X + c·(XXᵀ)²X, which moves every singular value and
no singular vector.

This is the iteration in full precision, the matrices' own; `rounded_iteration` has the one in 16
bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from modula.polar.minimax import OddQuintic
from modula.polar.products import add_to_diagonal, gram, polynomial
from modula.scaling import one_if_zero, working_dtype


def iterate(
    X: Tensor,
    polynomials: Sequence[OddQuintic],
    corrected: int = 0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Scale the singular values of each matrix into [0, 1], then apply odd polynomials to them, one
    after another.

    Args:
        X: matrices [batch, m, n] with m ≤ n, entries at most 1 in magnitude. A matrix of zeros
            stays one.
        polynomials: each must map [0, 1] near to it.
        corrected: how many polynomials before the last (the first is not among them) are applied as
            a correction that is computed in `dtype`. What that rounds, the last one brings back.

    Returns:
        [batch, m, n].
    """
    R = gram(X)
    S = gram(R)
    bound = squared_bound(S)
    X, R, S = X / bound.sqrt(), R.div_(bound), S.div_(bound.square())
    a, b, c = polynomials[0]
    P = add_to_diagonal(S.mul_(c).add_(R, alpha=b), a)
    if is_wide(X):
        return _through_gram(X, R, P, polynomials)
    X = torch.bmm(P, X)
    last = len(polynomials) - 1
    for step, coefficients in enumerate(polynomials[1:], 1):
        rough = dtype if last - corrected <= step < last else None
        X = (
            torch.bmm(multiplier(X, [coefficients]), X)
            if rough is None
            else _corrected(X, coefficients, rough)
        )
    return X


def squared_bound(S: Tensor) -> Tensor:
    """(Σσ⁸)^¼ ≥ σ_max² of each matrix X, from S = (XXᵀ)², as [batch, 1, 1] in float32 at least; 1
    for a matrix of zeros.

    ‖X‖_F² = Σσ² bounds σ_max² as well. The higher power is closer to it, and it comes from a
    product that the first polynomial needs anyway. For a square Gaussian matrix of width 768 it
    bounds σ_max to a factor of 1.6, where ‖X‖_F is 14 times as large.
    """
    return length(S).sqrt()


def length(S: Tensor) -> Tensor:
    """‖S‖_F of each matrix as [batch, 1, 1] in float32 at least; 1 for a matrix of zeros."""
    return one_if_zero(torch.linalg.matrix_norm(S, keepdim=True)).to(working_dtype(S.dtype))


def is_wide(X: Tensor) -> bool:
    """Whether it is cheaper to iterate on XXᵀ, at 4 products m×m×m a step, than on X, at two m×m×n
    and one m×m×m.
    """
    return X.shape[-1] >= 2 * X.shape[-2]


def multiplier(X: Tensor, polynomials: Sequence[OddQuintic]) -> Tensor:
    """Q such that Q·X is what the polynomials make of X."""
    R = gram(X)
    first, *others = polynomials
    return composed(R, polynomial(R.clone() if others else R, *first), others)


def composed(R: Tensor, P: Tensor, polynomials: Sequence[OddQuintic]) -> Tensor:
    """Q such that Q·X is what the polynomials make of P·X, where P is a polynomial of R = XXᵀ,
    which is overwritten.

    R ← P·R·P and Q ← P·Q with P = a + b·R + c·R², so that no product is larger than R.

    Source: Zhang et al. 2026, *Gram Newton–Schulz*.
    """
    Q = P
    for number, coefficients in enumerate(polynomials, 1):
        R = torch.bmm(P, torch.bmm(R, P))
        P = polynomial(R.clone() if number < len(polynomials) else R, *coefficients)
        Q = torch.bmm(P, Q)
    return Q


def _through_gram(X: Tensor, R: Tensor, P: Tensor, polynomials: Sequence[OddQuintic]) -> Tensor:
    """All polynomials, from R = XXᵀ and what the first is of it.

    Rounding leaves eigenvalues of R uncertain by eps, and each polynomial multiplies the small ones
    by a²; X is formed, and R computed afresh, before that amounts to more than a tenth.
    """
    first, *others = _legs(polynomials, limit=math.sqrt(0.1 / torch.finfo(X.dtype).eps))
    X = torch.bmm(composed(R, P, first[1:]), X)
    for leg in others:
        X = torch.bmm(multiplier(X, leg), X)
    return X


def _corrected(X: Tensor, coefficients: OddQuintic, dtype: torch.dtype) -> Tensor:
    """p(1)·X + K·X, where K = (b + 2c)·D + c·D² with D = XXᵀ − I. Where singular values are near 1,
    K is small, and so is its rounding.
    """
    a, b, c = coefficients
    D = add_to_diagonal(gram(X), -1).to(dtype)
    K = torch.baddbmm(D, D, D, beta=b + 2 * c, alpha=c)
    correction = torch.bmm(K, X.to(dtype))
    return torch.add(correction.to(X.dtype), X, alpha=a + b + c)


def _legs(polynomials: Sequence[OddQuintic], limit: float) -> Iterator[Sequence[OddQuintic]]:
    """Split the polynomials so that in no leg of several the product of the slopes at zero exceeds
    the limit.
    """
    start, growth = 0, 1.0
    for i, (a, _, _) in enumerate(polynomials):
        growth *= a
        if growth > limit and i > start:
            yield polynomials[start:i]
            start, growth = i, a
    if start < len(polynomials):
        yield polynomials[start:]
