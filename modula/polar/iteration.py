"""Odd polynomial iterations: X ← a·X + b·(XXᵀ)X + c·(XXᵀ)²X, which moves every singular value and no singular vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import torch
from torch import Tensor

OddQuintic: TypeAlias = tuple[float, float, float]
"""The coefficients (a, b, c) of the odd polynomial a·x + b·x³ + c·x⁵."""


def into_unit_ball(X: Tensor) -> Tensor:
    """Scale every matrix so that no singular value exceeds 1; zero stays zero.

    Divides by ‖XXᵀ‖_F^½ = (Σσ⁴)^¼. It bounds σ_max as ‖X‖_F = (Σσ²)^½ does, and is closer to it (4 times for a square Gaussian
    matrix of width 768), which saves a step of any iteration that must lift the small singular values.
    """
    length = torch.linalg.matrix_norm(X @ X.mT, keepdim=True).sqrt()
    return X / torch.where(length == 0, 1, length)


def iterate(X: Tensor, coefficients: Iterable[OddQuintic]) -> Tensor:
    """Apply odd polynomials one after another to the singular values of each matrix of the batch [n, d_small, d_large]."""
    for a, b, c in coefficients:
        A = X @ X.mT
        B = torch.baddbmm(A, A, A, beta=b, alpha=c) if c else b * A
        X = torch.baddbmm(X, B, X, beta=a)
    return X
