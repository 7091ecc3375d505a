"""Orthogonalisation: UVᵀ from G = UΣVᵀ, for batches of matrices.

Pure linear algebra, with one file for each method.
"""

from modula.polar.inverse_root import InverseRoot, inverse_root
from modula.polar.method import Accuracy, Method
from modula.polar.methods import MethodLike, MethodName
from modula.polar.minimax import minimax_coefficients
from modula.polar.newton_schulz import NewtonSchulz
from modula.polar.orthogonalize import orthogonalize
from modula.polar.polar_express import PolarExpress
from modula.polar.preparation import Matrices
from modula.polar.sketch import Sketch
from modula.polar.svd import SVD

__all__ = [
    "SVD",
    "Accuracy",
    "InverseRoot",
    "Matrices",
    "Method",
    "MethodLike",
    "MethodName",
    "NewtonSchulz",
    "PolarExpress",
    "Sketch",
    "inverse_root",
    "minimax_coefficients",
    "orthogonalize",
]
