"""Norms on weights, such as the operator norms of linear maps, with their duality maps.

`operator_geometry(domain, codomain)` looks up the pairs of norms for which the duality map of the
operator norm is known in closed form, and `register` adds a pair.

Sources: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4; Pethick et al. 2025
(arXiv:2502.07529), table 2, for the norms built from rows and columns.
"""

from modula.errors import NormPairError
from modula.geometry.base import Geometry, Matrices
from modula.geometry.convolution import (
    Taps,
    convolution_geometry,
    transposed_convolution_geometry,
)
from modula.geometry.intersection import Intersection, intersection
from modula.geometry.rearranged import Flattened, Reshaped, Transposed
from modula.geometry.spectral import Orthogonal, Spectral
from modula.geometry.stacked import Stacked
from modula.geometry.table import operator_geometry, register
from modula.geometry.vectors import BallVectors, Vectors

__all__ = [
    "BallVectors",
    "Flattened",
    "Geometry",
    "Intersection",
    "Matrices",
    "NormPairError",
    "Orthogonal",
    "Reshaped",
    "Spectral",
    "Stacked",
    "Taps",
    "Transposed",
    "Vectors",
    "convolution_geometry",
    "intersection",
    "operator_geometry",
    "register",
    "transposed_convolution_geometry",
]
