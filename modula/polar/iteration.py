"""Odd polynomial iterations: X ← a·X + b·(XXᵀ)X + c·(XXᵀ)²X.

They change every singular value and no singular vector. This module iterates in full precision, the
precision of the matrices; `rounded_iteration` does so in 16 bits.
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
    """Scale the singular values of each matrix into [0, 1], then apply odd polynomials in turn.

    Args:
        X: matrices [batch, m, n] with m ≤ n, entries at most 1 in magnitude. A matrix of zeros
            stays one.
        polynomials: each must map [0, 1] into an interval near it.
        corrected: the number of polynomials before the last, not counting the first, that are
            applied as a correction computed in `dtype`. The last one undoes its rounding errors.
        dtype: the 16-bit format of corrections.

    Returns:
        [batch, m, n].
    """
    R = gram(X)
    S = gram(R)
    bound = squared_bound(S)
    X, R, S = X / bound.sqrt(), R.div_(bound), S.div_(bound.square())
    a, b, c = polynomials[0]
    P = add_to_diagonal(S.mul_(c).add_(R, alpha=b), a)
    if is_cheaper_through_gram(X):
        return _through_gram(X, R, P, polynomials)
    X = torch.bmm(P, X)
    last = len(polynomials) - 1
    for step, coefficients in enumerate(polynomials[1:], 1):
        rough = dtype if last - corrected <= step < last else None
        X = (
            torch.bmm(multiplier(X, [coefficients]), X)
            if rough is None
            else corrected_step(X, coefficients, rough)
        )
    return X


def squared_bound(S: Tensor) -> Tensor:
    """Return the bound (Σσ⁸)^¼ ≥ σ_max² of each matrix X, from S = (XXᵀ)².

    ‖X‖_F² = Σσ² bounds σ_max² as well. The higher power is closer to it, and it comes from a
    product that the first polynomial needs anyway. For a square Gaussian matrix of width 768 it
    bounds σ_max to a factor of 1.6, where ‖X‖_F is 14 times as large.

    Returns:
        [batch, 1, 1] in float32 at least; 1 for a matrix of zeros.
    """
    return frobenius_norm(S).sqrt()


def frobenius_norm(S: Tensor) -> Tensor:
    """Return ‖S‖_F of each matrix, [batch, 1, 1] in float32 at least; 1 for a matrix of zeros."""
    return one_if_zero(torch.linalg.matrix_norm(S, keepdim=True)).to(working_dtype(S.dtype))


def is_cheaper_through_gram(X: Tensor) -> bool:
    """Return whether it is cheaper to iterate on XXᵀ than on X.

    A step costs 4 products m×m×m on XXᵀ, and two m×m×n and one m×m×m on X.
    """
    return X.shape[-1] >= 2 * X.shape[-2]


def multiplier(X: Tensor, polynomials: Sequence[OddQuintic]) -> Tensor:
    """Return the matrix Q for which Q·X is the result of applying the polynomials to X."""
    R = gram(X)
    first, *others = polynomials
    return composed(R, polynomial(R.clone() if others else R, *first), others)


def composed(R: Tensor, P: Tensor, polynomials: Sequence[OddQuintic]) -> Tensor:
    """Return the matrix Q for which Q·X is the result of applying the polynomials to P·X.

    Here P is a polynomial of R = XXᵀ, and R is overwritten. Each polynomial takes R ← P·R·P and
    Q ← P·Q with P = a + b·R + c·R², so that no product is larger than R.

    Source: Zhang et al. 2026, *Gram Newton–Schulz*.
    """
    Q = P
    for number, coefficients in enumerate(polynomials, 1):
        R = torch.bmm(P, torch.bmm(R, P))
        P = polynomial(R.clone() if number < len(polynomials) else R, *coefficients)
        Q = torch.bmm(P, Q)
    return Q


def _through_gram(X: Tensor, R: Tensor, P: Tensor, polynomials: Sequence[OddQuintic]) -> Tensor:
    """Apply all polynomials to X, given R = XXᵀ and P, the first polynomial of R.

    Rounding leaves eigenvalues of R uncertain by eps, and each polynomial multiplies the small ones
    by a². X is formed, and R computed anew, before the uncertainty exceeds a tenth.
    """
    first, *others = _stages(polynomials, limit=math.sqrt(0.1 / torch.finfo(X.dtype).eps))
    X = torch.bmm(composed(R, P, first[1:]), X)
    for stage in others:
        X = torch.bmm(multiplier(X, stage), X)
    return X


def corrected_step(X: Tensor, coefficients: OddQuintic, dtype: torch.dtype) -> Tensor:
    """Apply one polynomial as p(1)·X + K·X, with the product K·X computed in `dtype`.

    K = (b + 2c)·D + c·D² with D = XXᵀ − I. Where singular values are near 1, K is small, and so are
    its rounding errors.
    """
    a, b, c = coefficients
    D = add_to_diagonal(gram(X), -1).to(dtype)
    K = torch.baddbmm(D, D, D, beta=b + 2 * c, alpha=c)
    correction = torch.bmm(K, X.to(dtype))
    return torch.add(correction.to(X.dtype), X, alpha=a + b + c)


def _stages(polynomials: Sequence[OddQuintic], limit: float) -> Iterator[Sequence[OddQuintic]]:
    """Divide the polynomials into stages whose slopes at zero multiply to at most `limit`.

    A single polynomial of a larger slope is a stage of its own.
    """
    start, growth = 0, 1.0
    for i, (a, _, _) in enumerate(polynomials):
        growth *= a
        if growth > limit and i > start:
            yield polynomials[start:i]
            start, growth = i, a
    if start < len(polynomials):
        yield polynomials[start:]
