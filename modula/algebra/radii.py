"""Arithmetic of radii: bounds on the norms of values, nested as the values are."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modula.graph import Radius, total_radius
from modula.spaces import AnySpace, Product


def unit_radius(space: AnySpace) -> Radius:
    """Return radius 1 for a value of the space; for a tuple, radius 1 for each of its parts."""
    if isinstance(space, Product):
        return tuple([unit_radius(part) for part in space.parts])
    return 1.0


def scaled_radius(scale: float, radius: Radius) -> Radius:
    """Return scale · R, part by part."""
    if isinstance(radius, tuple):
        return tuple([scaled_radius(scale, part) for part in radius])
    return scale * radius


def radius_of_sum(radii: Sequence[Radius]) -> Radius:
    """Return the radius of a sum, from those of its terms: their sum, part by part."""
    tuples = [radius for radius in radii if isinstance(radius, tuple)]
    if not tuples:
        return math.fsum([total_radius(radius) for radius in radii])
    return tuple([radius_of_sum([terms[i] for terms in tuples]) for i in range(len(tuples[0]))])
