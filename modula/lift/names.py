"""Norms in a few words, for reports."""

from __future__ import annotations

import math

from modula.geometry import (
    BallVectors,
    Flattened,
    Geometry,
    Intersection,
    Reshaped,
    Spectral,
    Stacked,
    Taps,
    Transposed,
    Vectors,
)


def short(geometry: Geometry) -> str:
    """Return a norm in a few words.

    Example:
        >>> from modula import RMS
        >>> from modula.geometry import Spectral, Stacked, Transposed
        >>> from modula.lift.names import short
        >>> short(Transposed(Stacked(Spectral(RMS, RMS), 3)))
        '3 blocks of RMS → RMS, [in, out]'
    """
    match geometry:
        case Spectral(domain, codomain):
            return f"{domain.__name__} → {codomain.__name__}"
        case Stacked(block, None, _):
            return f"each {short(block)}"
        case Stacked(block, sizes, _):
            return f"{_count(sizes)} blocks of {short(block)}"
        case Transposed(block):
            return f"{short(block)}, [in, out]"
        case Flattened(block, _, _):
            return f"{short(block)}, flattened"
        case Reshaped(block, 0, _):
            return short(block)
        case Taps(tap, _, added):
            return f"taps of {short(tap)}" + _added(added)
        case Intersection(spectral, rows):
            return f"{short(spectral)} and {short(rows)}"
        case BallVectors(norm, 1, _) | Vectors(norm, 1, _):
            return norm.__name__
        case Vectors(norm, _, axis):
            return f"{norm.__name__} {'rows' if axis in (-1, geometry.axes - 1) else 'vectors'}"
    return repr(geometry)


def _count(sizes: int | tuple[int, ...] | None) -> str:
    return "+".join(map(str, sizes)) if isinstance(sizes, tuple) else str(sizes)


def _added(added: int | tuple[tuple[int, ...], ...] | None) -> str:
    if isinstance(added, tuple):
        return f", up to {math.prod(map(max, added))} added"
    return "" if added is None else f", {added} added"
