"""Orthogonalisation of matrices of many shapes in as few batches as possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modula.polar.methods import MethodLike, resolve
from modula.polar.preparation import Matrices, divided, restore
from modula.polar.rounded_iteration import SMALLEST
from modula.workspace import matrices_at_once

PADDED_ENTRIES = 2**16
"""Only matrices up to this size are padded: for larger ones a batch of their own costs nothing that can be noticed."""

PADDED_SHARE = 1 / 8
"""By how much padded matrices may make a batch longer."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Matrices of one batch, no more than are orthogonalised at once, in parts [count, m, n]; `result` takes their factors."""

    parts: list[Tensor]
    result: Tensor

    @property
    def lying(self) -> list[Tensor]:
        rows, columns = self.result.shape[1:]
        return [part.mT for part in self.parts] if rows > columns else self.parts


@dataclass(slots=True)
class Group:
    """Matrices to be orthogonalised at once, all of them padded to `rows` and `columns`, at most `room` of them."""

    rows: int
    columns: int
    room: int
    count: int = 0
    members: list[Piece] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        self.members.append(piece)
        self.count += len(piece.result)

    def holds(self, other: Group) -> bool:
        """Whether the matrices of a smaller group can be padded to the size of these at little cost."""
        size = self.rows * self.columns
        fits = other.rows <= self.rows and other.columns <= self.columns and size <= PADDED_ENTRIES
        few = other.count <= PADDED_SHARE * self.count and self.count + other.count <= self.room
        return fits and few and (other.rows < SMALLEST) == (self.rows < SMALLEST)


def orthogonalize_all(batches: Sequence[Sequence[Tensor]], method: MethodLike | None = None) -> list[Tensor]:
    """The orthogonal factors of batches of matrices, each batch of another shape.

    Batches of one shape, or of its transpose, are joined, and a few small matrices are padded with zeros to join a long batch of
    larger ones; long batches are divided. The result is the same but for rounding. No more is computed at once than the workspace limit
    allows, and on a CPU no more than its caches hold.

    Args:
        batches: floating-point matrices, each batch in parts [count, m, n] of one shape, dtype and device.
        method: as for `orthogonalize`.

    Returns:
        A tensor for each batch, of all its parts.
    """
    run = resolve(method)
    results = [_like(parts) for parts in batches]
    pieces = [piece for parts, result in zip(batches, results, strict=True) for piece in _pieces(parts, result)]
    for group in _groups(pieces):
        matrices = Matrices([part for piece in group.members for part in piece.lying], group.rows, group.columns)
        if matrices.shape.numel():
            found = run.on(matrices)
            for piece, factors in zip(group.members, torch.split(found, [len(piece.result) for piece in group.members]), strict=True):
                restore(piece.result, factors)
    return results


def _like(parts: Sequence[Tensor]) -> Tensor:
    """Room for the factors of all parts of a batch."""
    return parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])


def _pieces(parts: Sequence[Tensor], result: Tensor) -> Iterator[Piece]:
    """A batch, divided into no more matrices than are orthogonalised at once."""
    start = 0
    for some in divided(parts, _room(parts[0])):
        end = start + sum(map(len, some))
        yield Piece(some, result[start:end] if end - start < len(result) else result)
        start = end


def _room(matrices: Tensor) -> int:
    """How many matrices of this shape are orthogonalised at once."""
    return matrices_at_once(matrices.shape[1] * matrices.shape[2], matrices.device)


def _groups(pieces: Sequence[Piece]) -> list[Group]:
    """Which pieces are joined: those of one shape, dtype and device, and small ones with larger ones."""
    kinds: dict[tuple[torch.dtype, torch.device], dict[tuple[int, int], list[Group]]] = {}
    for piece in pieces:
        result = piece.result
        rows, columns = sorted(result.shape[1:])
        of_shape = kinds.setdefault((result.dtype, result.device), {}).setdefault((rows, columns), [])
        if not of_shape or of_shape[-1].count + len(result) > of_shape[-1].room:
            of_shape.append(Group(rows, columns, _room(result)))
        of_shape[-1].add(piece)
    return [group for shapes in kinds.values() for group in _joined([group for groups in shapes.values() for group in groups])]


def _joined(groups: list[Group]) -> list[Group]:
    """Groups of small matrices, few of them, put into groups of somewhat larger ones."""
    kept: list[Group] = []
    for group in sorted(groups, key=lambda group: group.rows * group.columns, reverse=True):
        host = next((host for host in reversed(kept) if host.holds(group)), None)
        if host is None:
            kept.append(group)
        else:
            host.members += group.members
            host.count += group.count
    return kept
