"""Norms on weights, such as the operator norm that the two ends of a linear map induce.

`operator_geometry(domain, codomain)` is the table of all pairs that have a duality map in closed
form, and `register` adds a pair to it.

Sources: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4; Pethick et al. 2025
(arXiv:2502.07529), table 2, for the norms built from rows and columns.
"""

from modula.errors import NormPairError
from modula.geometry.base import Geometry, Matrices
from modula.geometry.convolution import Taps
from modula.geometry.intersection import Intersection, intersection
from modula.geometry.spectral import Orthogonal, Spectral
from modula.geometry.stacked import Stacked
from modula.geometry.table import operator_geometry, register
from modula.geometry.vectors import BallVectors, Vectors

__all__ = [
    "BallVectors",
    "Geometry",
    "Intersection",
    "Matrices",
    "NormPairError",
    "Orthogonal",
    "Spectral",
    "Stacked",
    "Taps",
    "Vectors",
    "intersection",
    "operator_geometry",
    "register",
]
