"""Orthogonalisation: UVᵀ from G = UΣVᵀ, for batches of matrices. Pure linear algebra; one file a method."""

from modula.polar.method import Method
from modula.polar.newton_schulz import NewtonSchulz
from modula.polar.orthogonalize import MethodLike, MethodName, orthogonalize
from modula.polar.polar_express import PolarExpress, minimax_coefficients
from modula.polar.svd import SVD

__all__ = ["SVD", "Method", "MethodLike", "MethodName", "NewtonSchulz", "PolarExpress", "minimax_coefficients", "orthogonalize"]
