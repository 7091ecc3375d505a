"""Norms on weights: the operator norm that the two ends of a linear map induce, and its duality
map.

`operator_geometry(domain, codomain)` is the table of all pairs that have a duality map in closed
form. Every method is batched over the axes in front of the weight's own.

Sources: Bernstein & Newhouse 2025 (arXiv:2410.21265), section 4; Pethick et al. 2025
(arXiv:2502.07529), table 2, for the norms built from rows and columns.
"""

from modula.geometry.base import Geometry, NormPairError
from modula.geometry.convolution import Taps
from modula.geometry.spectral import Orthogonal, Spectral
from modula.geometry.table import operator_geometry
from modula.geometry.vectors import BallVectors, Vectors

__all__ = [
    "BallVectors",
    "Geometry",
    "NormPairError",
    "Orthogonal",
    "Spectral",
    "Taps",
    "Vectors",
    "operator_geometry",
]
