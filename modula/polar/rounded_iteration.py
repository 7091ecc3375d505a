"""The iteration in bfloat16 or float16, without the noise that these formats usually bring.

Its products run at the rate at which the hardware multiplies 16 bits. Rounding a matrix to bfloat16
adds noise of 2⁻⁹ to it, also in its null spaces, and the polynomials multiply this noise as they
multiply all small values: a hundredfold and more. Two observations keep the null spaces free of it.

1. Multiplying X by a matrix P = p(XXᵀ) that is somewhat wrong adds no noise there: where X maps a
   vector to zero, so does P·X. Only rounding X adds noise. So the Gram products may be inaccurate.
2. The rounding error of X is known: X = X̂ + Δ, with Δ in the same format. Let X v = 0 and uᵀX = 0.
   Then X̂v = −Δv, and uᵀP = a·uᵀ with the slope a of the polynomial at zero, so that
   uᵀ(P·X̂ + a·Δ)v = 0. That is a matrix product with an addend, which costs no more than the
   product alone.

The result of that first step is rounded too, and the slopes of the polynomials after it multiply
the error. Where their product is large, the result is kept as Ŷ and Y − Ŷ in its turn, which costs
one product more: P·X̂ + a·Δ − Ŷ. `steps_with_remainder` returns how many steps need that.

P is rounded as well, to P + E, so that uᵀ(P·X̂ + a·Δ)v is not zero but −uᵀEΔv, of second order.
Where all slopes together exceed `MAX_SLOPE_OF_ADDEND`, even that would show, and P·Δ takes the
place of a·Δ, for one product more: P·(X̂ + Δ)v = 0 for every P.

Where only the first result would have to be kept in two parts, it is not kept at all. P₁·X̂ is
rounded for the next Gram product alone, which gives P₂, and (P₂P₁)·X̂ + a₁a₂·Δ is the result of
both polynomials. For a wide matrix P₂P₁ is a smaller product than the one that it saves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from modula.polar.constant import constant
from modula.polar.iteration import (
    frobenius_norm,
    is_cheaper_through_gram,
    multiplier,
    squared_bound,
)
from modula.polar.minimax import OddQuintic
from modula.polar.products import add_to_diagonal, gram, polynomial
from modula.polar.rounding import split

MAX_NOISE_GROWTH = 15.0
"""The most by which the polynomials after a rounding may multiply its error.

The noise of bfloat16 then ends at a few hundredths."""

MAX_SLOPE_OF_ADDEND = 1e3
"""The largest product of all slopes at zero for which a·Δ may stand for P·Δ."""

MAX_SLOPE = 2e4
"""The largest product of all slopes at zero for which two numbers in bfloat16 hold X well enough.

Rounding the remainder is noise of 2⁻¹⁸, which these slopes bring to a few hundredths."""

MOST_ON_ROUGH_GRAM = 2
"""The most last polynomials that one Gram matrix in bfloat16 is good enough for."""


@constant
def slope_at_zero(polynomials: Sequence[OddQuintic]) -> float:
    """Return the factor by which the composition multiplies small singular values."""
    return math.prod(a for a, _, _ in polynomials)


@constant
def steps_with_remainder(polynomials: Sequence[OddQuintic]) -> int:
    """Return how many of the first polynomials must keep the rounding error of their result.

    The slopes at zero of the polynomials after the next one multiply its rounding error by at most
    MAX_NOISE_GROWTH.
    """
    position, product = len(polynomials) - 1, 1.0
    while position and product * polynomials[position][0] <= MAX_NOISE_GROWTH:
        product *= polynomials[position][0]
        position -= 1
    return position


def largest_entry(columns: int) -> float:
    """Return the largest magnitude of entries for which no row is longer than 1.

    The powers of such matrices are within the range of both formats.
    """
    return 1 / math.sqrt(columns)


def iterate_rounded(X: Tensor, polynomials: Sequence[OddQuintic], dtype: torch.dtype) -> Tensor:
    """Iterate as `iteration.iterate` does, with products in `dtype`.

    Args:
        X: float32 matrices [batch, m, n] with m ≤ n, entries at most 1 in magnitude. A matrix of
            zeros stays one. X is overwritten.
        polynomials: each must map [0, 1] into an interval near it.
        dtype: bfloat16 or float16.

    Returns:
        [batch, m, n] in `dtype`.
    """
    rounded, remainder = split(X.mul_(largest_entry(X.shape[-1])), dtype)
    return torch.bmm(*factors_from_split(rounded, remainder, polynomials))


def factors_from_split(
    rounded: Tensor, remainder: Tensor, polynomials: Sequence[OddQuintic]
) -> tuple[Tensor, Tensor]:
    """Return two factors whose product is the result of the iteration.

    Args:
        rounded, remainder: X̂ and Δ = X − X̂, as `split` returns them, of matrices X whose entries
            are at most `largest_entry`. The remainder is overwritten.
        polynomials: as for `iterate_rounded`.

    Returns:
        [batch, m, m] and [batch, m, n], in the dtype of `rounded`.
    """
    is_steep = slope_at_zero(polynomials) > MAX_SLOPE_OF_ADDEND
    carried = _multiplied if is_steep else _scaled
    P, slope = _first_multiplier(rounded, polynomials[0])
    kept, multiplied = steps_with_remainder(polynomials), 1
    if kept == 1:
        P, slope = _multiplier_of_two(P, slope, rounded, polynomials[1])
        multiplied = 2
    X, remainder = rounded, carried(P, slope, remainder)
    for a, b, c in polynomials[multiplied : kept + 1]:
        X, remainder = _product_with_remainder(P, X, remainder)
        P = polynomial(gram(X), a, b, c)
        remainder = carried(P, a, remainder)
    return _last_factors(remainder.baddbmm_(P, X), polynomials[kept + 1 :])


def _first_multiplier(X: Tensor, coefficients: OddQuintic) -> tuple[Tensor, Tensor]:
    """Return P and a slope such that P·X + slope·Δ is p((X + Δ)/β), with β the bound of σ_max."""
    dtype = X.dtype
    a, b, c = coefficients
    R, size = _gram_in_range(X)
    S = torch.bmm(R, R)
    bound = squared_bound(S)
    # p is applied to X/√(size·bound), whose squared singular values are those of R/bound
    unit = (bound if size is None else size * bound).rsqrt()
    linear = unit / bound
    P = S.mul_((linear / bound * c).to(dtype)).addcmul_(R, (linear * b).to(dtype))
    slope = (unit * a).to(dtype)
    return add_to_diagonal(P, slope[..., 0]), slope


def _multiplier_of_two(
    P: Tensor, slope: Tensor, X: Tensor, coefficients: OddQuintic
) -> tuple[Tensor, Tensor]:
    """Return the multiplier of X and the slope of two polynomials, given those of the first."""
    second = polynomial(gram(torch.bmm(P, X)), *coefficients)
    return torch.bmm(second, P), slope * coefficients[0]


def _scaled(P: Tensor, slope: Tensor | float, remainder: Tensor) -> Tensor:
    """Return a·Δ, which in null spaces is P·Δ but for the rounding of P. Overwrite Δ."""
    return remainder.mul_(slope)


def _multiplied(P: Tensor, slope: Tensor | float, remainder: Tensor) -> Tensor:
    """Return P·Δ, for one product more than a·Δ."""
    return torch.bmm(P, remainder)


def _product_with_remainder(P: Tensor, X: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
    """Return Y = P·X + addend as a rounded Ŷ and Y − Ŷ, and overwrite the addend.

    Products are summed in float32, so that P·X − Ŷ loses nothing but its own rounding error. Ŷ has
    to include the addend: what it leaves out is multiplied by the slope at zero of every later
    polynomial, as is right in null spaces only.
    """
    rounded = torch.baddbmm(addend, P, X)
    return rounded, addend.add_(torch.baddbmm(rounded, P, X, beta=-1))


def _gram_in_range(X: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return R and a size (None for 1) with XXᵀ = size·R, such that R² keeps its digits.

    float16 loses the digits of numbers below 1e-4.
    """
    R = gram(X)
    if X.dtype != torch.float16:
        return R, None
    size = frobenius_norm(R)
    return R.mul_((1 / size).to(X.dtype)), size


def _last_factors(X: Tensor, polynomials: Sequence[OddQuintic]) -> tuple[Tensor, Tensor]:
    """Apply the polynomials after the first, except for the last product: return its two factors.

    Where it is cheaper, they are applied to the Gram matrix. Rounding to bfloat16 leaves the
    eigenvalues of that matrix uncertain by 2⁻⁸, and three polynomials move singular values whose
    squares are as small to 1.2 and beyond. Of three or more the last one, on a Gram matrix computed
    anew, brings them back.
    """
    if not polynomials:
        return torch.eye(X.shape[1], dtype=X.dtype, device=X.device).expand(len(X), -1, -1), X
    together = 1
    if is_cheaper_through_gram(X):
        is_rough = X.dtype == torch.bfloat16 and len(polynomials) > MOST_ON_ROUGH_GRAM
        together = len(polynomials) - is_rough
    while len(polynomials) > together:
        X = torch.bmm(multiplier(X, polynomials[:together]), X)
        polynomials = polynomials[together:]
    return multiplier(X, polynomials), X
