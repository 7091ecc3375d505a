"""Arithmetic of radii: bounds on the norms of values, nested as the values are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from modula.graph import Radius
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
    if isinstance(radii[0], tuple):
        columns = zip(*cast("Sequence[tuple[Radius, ...]]", radii), strict=True)
        return tuple([radius_of_sum(column) for column in columns])
    return math.fsum(cast("Sequence[float]", radii))
