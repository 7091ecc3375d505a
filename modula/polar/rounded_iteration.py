"""The iteration in bfloat16 or float16, at the rate at which the hardware multiplies them, without
the noise that they usually bring.

Rounding a matrix to bfloat16 adds noise of 2⁻⁹ to it, also in directions that it does not touch,
and the polynomials lift these as they lift everything small: a hundredfold and more. Two
observations keep such directions dark.

1. Multiplying X by a matrix P = p(XXᵀ) that is somewhat wrong does not light them: what X maps to
   zero, P·X maps to zero. Only the rounding of X does. So the Gram products may be rough.
2. The rounding of X is known: X = X̂ + Δ, with Δ in the same format. Let X v = 0 and uᵀX = 0. Then
   X̂v = −Δv, and uᵀP = a·uᵀ with the slope a of the polynomial at zero, so that uᵀ(P·X̂ +
   a·Δ)v = 0. That is a matrix product with an addend, which costs no more than the product alone.

The result of that first step is rounded too, so that the slopes of the polynomials after it must
not multiply to too much: `late` says from which polynomial on this iteration can take over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from modula.polar.iteration import is_wide, length, multiplier, squared_bound
from modula.polar.minimax import OddQuintic
from modula.polar.products import add_to_diagonal, gram, polynomial
from modula.polar.rounding import split

GROWTH = 20.0
"""How much the polynomials after the first may multiply noise. Rounding to bfloat16 then leaves a
few hundredths."""


def late(polynomials: Sequence[OddQuintic]) -> int:
    """The first position such that the slopes at zero after it multiply to no more than GROWTH."""
    position, product = len(polynomials) - 1, 1.0
    while position and product * polynomials[position][0] <= GROWTH:
        product *= polynomials[position][0]
        position -= 1
    return position


def largest_entry(columns: int) -> float:
    """How large the entries of matrices may be so that no row is longer than 1. The formats hold
    the powers of such matrices.
    """
    return 1 / math.sqrt(columns)


def iterate_rounded(X: Tensor, polynomials: Sequence[OddQuintic], dtype: torch.dtype) -> Tensor:
    """What `iteration.iterate` does, with products in `dtype`.

    Args:
        X: float32 matrices [batch, m, n] with m ≤ n, entries at most 1 in magnitude. A matrix of
            zeros stays one. X is overwritten.
        polynomials: each must map [0, 1] near to it.
        dtype: bfloat16 or float16.

    Returns:
        [batch, m, n] in `dtype`.
    """
    return torch.bmm(
        *factors_from_halves(*split(X.mul_(largest_entry(X.shape[-1])), dtype), polynomials)
    )


def factors_from_halves(
    rounded: Tensor, rest: Tensor, polynomials: Sequence[OddQuintic]
) -> tuple[Tensor, Tensor]:
    """The same as P and X of which it is the product, for matrices that have been split into what
    they round to and the rest, which is overwritten. No entry may be larger than
    `largest_entry`."""
    dtype = rounded.dtype
    a, b, c = polynomials[0]
    R, size = _gram_in_range(rounded)
    S = torch.bmm(R, R)
    bound = squared_bound(S)
    # p of X/√(size·bound), whose squared singular values are those of R/bound
    unit = (bound if size is None else size * bound).rsqrt()
    linear = unit / bound
    P = S.mul_((linear / bound * c).to(dtype)).addcmul_(R, (linear * b).to(dtype))
    slope = (unit * a).to(dtype)
    moved = rest.mul_(slope).baddbmm_(add_to_diagonal(P, slope[..., 0]), rounded)
    return _last_factors(moved, polynomials[1:])


def _gram_in_range(X: Tensor) -> tuple[Tensor, Tensor | None]:
    """R and a size (None for 1) such that XXᵀ = size·R and R² keeps its digits: float16 loses those
    of numbers below 1e-4.
    """
    R = gram(X)
    if X.dtype != torch.float16:
        return R, None
    size = length(R)
    return R.mul_((1 / size).to(X.dtype)), size


def continue_rounded(X: Tensor, polynomials: Sequence[OddQuintic], dtype: torch.dtype) -> Tensor:
    """The same where earlier polynomials have been applied, so that no singular value needs
    scaling. X is overwritten.
    """
    a, b, c = polynomials[0]
    rounded, rest = split(X, dtype)
    P = polynomial(gram(rounded), a, b, c)
    return torch.bmm(*_last_factors(rest.baddbmm_(P, rounded, beta=a), polynomials[1:]))


def _last_factors(X: Tensor, polynomials: Sequence[OddQuintic]) -> tuple[Tensor, Tensor]:
    """The polynomials after the first, those of wide matrices through their Gram matrix, but for
    the last product: P and X, for P·X.

    Rounding to bfloat16 leaves the eigenvalues of that matrix uncertain by 2⁻⁸, and moves singular
    values whose squares are as small to 1.2 and beyond. The last polynomial, on a Gram matrix
    computed afresh, brings them back.
    """
    if not polynomials:
        return torch.eye(X.shape[1], dtype=X.dtype, device=X.device).expand(len(X), -1, -1), X
    together = max(1, len(polynomials) - (X.dtype == torch.bfloat16)) if is_wide(X) else 1
    while len(polynomials) > together:
        X = torch.bmm(multiplier(X, polynomials[:together]), X)
        polynomials = polynomials[together:]
    return multiplier(X, polynomials), X
