"""The graph of a compound, kept until a module or a parameter changes anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from modula.graph import Graph

_edits = 0
"""The number of times that a module or a parameter of any network was assigned or removed."""


def note_edit() -> None:
    """Count one more assignment or removal, after which no cached graph is valid."""
    global _edits
    _edits += 1


@dataclass(frozen=True, slots=True)
class CachedGraph:
    """The graph of a compound, with all that it depends on.

    Args:
        graph: of the compound.
        edits: the count of edits at which it was built.
        owner: the id of the compound; a shallow copy, as DataParallel makes it, has another.
        frozen: the parameters that are not weights, none of which required a gradient.
        opaque: the torch modules inside of atoms and bonds, whose edits are not counted.
    """

    graph: Graph
    edits: int
    owner: int
    frozen: Sequence[nn.Parameter]
    opaque: Sequence[nn.Module]

    @classmethod
    def of(
        cls,
        owner: object,
        graph: Graph,
        frozen: Sequence[nn.Parameter],
        opaque: Sequence[nn.Module],
    ) -> CachedGraph:
        """Return the graph as one that is valid from now on."""
        return cls(graph, _edits, id(owner), frozen, opaque)

    def is_valid_for(self, owner: object) -> bool:
        """Return whether `owner` would build the same graph now."""
        return (
            self.edits == _edits
            and self.owner == id(owner)
            and not any(p.requires_grad for p in self.frozen)
            and not any(p.requires_grad for module in self.opaque for p in module.parameters())
        )
