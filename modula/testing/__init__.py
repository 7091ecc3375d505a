"""The laws of the theory, as checks of the parts that a user writes.

A check takes one part (a norm, a geometry, an atom, a bond, a method, a network), tries to break
each of its laws, and raises AssertionError for the first that breaks, with the numbers and the
tolerance. A check proves nothing: it fails where a counterexample is found by random values, by
values that are known to be hard, or by gradient ascent. It draws from its own random numbers, the
same at each call, and leaves the part as it was.

A check calls one function for each law, so that the public functions read as lists of laws.
"""

from modula.testing.atoms import check_atom
from modula.testing.bonds import check_bond
from modula.testing.bounds import Ratios
from modula.testing.geometries import check_geometry
from modula.testing.methods import check_method
from modula.testing.networks import check_network
from modula.testing.norms import check_norm

__all__ = [
    "Ratios",
    "check_atom",
    "check_bond",
    "check_geometry",
    "check_method",
    "check_network",
    "check_norm",
]
