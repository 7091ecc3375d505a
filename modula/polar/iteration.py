"""Odd polynomial iterations: X ← a·X + b·(XXᵀ)X + c·(XXᵀ)²X, which moves every singular value and no singular vector."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

OddQuintic: TypeAlias = tuple[float, float, float]
"""The coefficients (a, b, c) of the odd polynomial a·x + b·x³ + c·x⁵."""


SMALLEST_IN_BFLOAT16 = 32
"""Rounding to bfloat16 averages out over many rows; of few rows it would be seen, and there is no time to be won."""


def iterate(X: Tensor, coefficients: Sequence[OddQuintic], late_growth: float = 0.0) -> Tensor:
    """Scale the singular values of each matrix into [0, 1], then apply odd polynomials to them, one after another.

    The scale is ‖XXᵀ‖_F^½ = (Σσ⁴)^¼. It bounds σ_max as ‖X‖_F = (Σσ²)^½ does, and is closer to it (4 times for a square Gaussian
    matrix of width 768), which saves a step of any iteration that must lift the small singular values. The product XXᵀ is needed for
    the first polynomial anyway.

    Args:
        X: matrices [batch, m, n] with m ≤ n, entries at most 1 in magnitude. A matrix of zeros stays one.
        coefficients: the polynomials. Each must map [0, 1] near to it.
        late_growth: the last polynomials, those whose slopes at zero multiply to no more than this, are applied in bfloat16 where the
            hardware has it. An error that enters at some step is multiplied by the slopes that are still to come, so that late steps can
            do with less precision.

    Returns:
        [batch, m, n].
    """
    gram = X @ X.mT
    length = torch.linalg.matrix_norm(gram, keepdim=True)
    length = torch.where(length == 0, 1, length)
    X, gram = X / length.sqrt(), gram / length
    fast = X.dtype == torch.float32 and X.shape[-2] >= SMALLEST_IN_BFLOAT16 and has_fast_bfloat16(X.device)
    late = _late(coefficients, late_growth) if fast else len(coefficients)
    wide = X.shape[-1] >= 2 * X.shape[-2]
    X = (_through_gram if wide else _directly)(X, gram, coefficients[:late])
    if late == len(coefficients):
        return X
    X = X.bfloat16()
    return _directly(X, X @ X.mT, coefficients[late:]).float()


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 matrices are faster than those of float32 on the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def _late(coefficients: Sequence[OddQuintic], growth: float) -> int:
    """The first position from which on the slopes at zero multiply to no more than `growth`."""
    position, product = len(coefficients), 1.0
    while position and product * coefficients[position - 1][0] <= growth:
        position -= 1
        product *= coefficients[position][0]
    return position


def _directly(X: Tensor, gram: Tensor, coefficients: Sequence[OddQuintic]) -> Tensor:
    """Three products a polynomial: XXᵀ, (XXᵀ)² and P·X."""
    for step, (a, b, c) in enumerate(coefficients):
        R = X @ X.mT if step else gram
        X = torch.baddbmm(X, _even_part(R, b, c), X, beta=a)
    return X


def _through_gram(X: Tensor, gram: Tensor, coefficients: Sequence[OddQuintic]) -> Tensor:
    """The same for wide matrices, on the small matrices R = XXᵀ and Q: R ← P·R·P, Q ← P·Q with P = a + b·R + c·R², at last Q·X.

    Four products m×m×m a polynomial, where the direct form spends two m×m×n. Rounding leaves eigenvalues of R uncertain by eps, and each
    polynomial multiplies the small ones by a²; X is formed, and R computed afresh, before that amounts to more than a tenth.

    Source: Zhang et al. 2026, *Gram Newton–Schulz*.
    """
    for number, leg in enumerate(_legs(coefficients, limit=math.sqrt(0.1 / torch.finfo(X.dtype).eps))):
        R = X @ X.mT if number else gram
        Q = _polynomial(R, leg[0])
        P = Q
        for step in leg[1:]:
            R = P @ R @ P
            P = _polynomial(R, step)
            Q = P @ Q
        X = Q @ X
    return X


def _even_part(R: Tensor, b: float, c: float) -> Tensor:
    """b·R + c·R²."""
    return torch.baddbmm(R, R, R, beta=b, alpha=c) if c else b * R


def _polynomial(R: Tensor, coefficients: OddQuintic) -> Tensor:
    """a + b·R + c·R²."""
    a, b, c = coefficients
    P = _even_part(R, b, c)
    P.diagonal(dim1=-2, dim2=-1).add_(a)
    return P


def _legs(coefficients: Sequence[OddQuintic], limit: float) -> Iterator[Sequence[OddQuintic]]:
    """Split the polynomials so that in no leg of several the product of the slopes at zero exceeds the limit."""
    start, growth = 0, 1.0
    for i, (a, _, _) in enumerate(coefficients):
        growth *= a
        if growth > limit and i > start:
            yield coefficients[start:i]
            start, growth = i, a
    if start < len(coefficients):
        yield coefficients[start:]
