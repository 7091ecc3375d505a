"""Weights that few vectors reach, of those that are used alike, as rarely chosen experts are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from statistics import fmean

from modula.lift.trace import Trace
from modula.lift.uses import Measured

FEW = 0.1
"""The part of the mean number of vectors below which a weight is rarely used."""

LIKE = 3
"""The number of weights of one shape and name, up to numbers, from which on they are compared."""


def rarely_used(trace: Trace, norms: Mapping[str, Measured]) -> dict[str, str]:
    """Return a warning for each matrix that reads few vectors, compared with its like.

    Args:
        trace: of the runs.
        norms: the weights with their uses.
    """
    alike: dict[tuple[str, tuple[int, ...]], dict[str, int]] = {}
    for name, one in norms.items():
        if "matrix" in one.kinds and one.uses:
            key = (re.sub(r"\d+", "*", name), one.uses[0].shape)
            alike.setdefault(key, {})[name] = sum(_vectors(use.call.shapes[0]) for use in one.uses)
    found = {}
    for counts in alike.values():
        mean = fmean(counts.values())
        for name, count in counts.items():
            if len(counts) >= LIKE and count < FEW * mean:
                found[name] = (
                    f"it read {count} vectors, and {mean:.0f} of its like on average: a weight "
                    "that few tokens reach takes whole steps of noise; give it less mass, or "
                    "examples that reach it"
                )
    return found


def _vectors(shape: tuple[int, ...]) -> int:
    return prod(shape[:-1])
