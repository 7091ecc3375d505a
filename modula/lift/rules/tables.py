"""Tables: rows that integers look up.

An integer stands for a one-hot vector of ℓ1 norm 1, so that the largest RMS of a row is the
operator norm.
"""

from __future__ import annotations

from modula.geometry import Vectors
from modula.lift.rules.base import Role, Use, rule_for
from modula.norms import RMS


@rule_for(
    *("embedding", "embedding_bag", "getitem", "index_select", "gather", "take_along_dim"),
    "index",
)
def lookup(use: Use) -> Role | None:
    """Rows of a table, looked up by integers."""
    whole = use.view.is_whole or use.view.axis_of(-1) == len(use.shape) - 1
    if use.slot not in ("weight", "0", "input") or not whole:
        return None
    return rows(use)


def rows(use: Use) -> Role:
    """Vectors along the last axis, measured by their RMS."""
    return Role("table", Vectors(RMS, axes=max(1, len(use.shape))))
