"""Orthogonalisation of matrices of many shapes in as few batches as possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modula.polar.method import is_small
from modula.polar.methods import MethodLike, resolve
from modula.polar.preparation import Matrices, divided, restore
from modula.workspace import matrices_at_once

PADDED_ENTRIES = 2**16
"""Only matrices up to this size are padded: for larger ones a batch of their own costs nothing that
can be noticed."""

PADDED_SHARE = 1 / 8
"""By how much padded matrices may make a batch longer."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Matrices of one batch, [count, m, n] from its `start` on, no more than are orthogonalised at
    once.
    """

    batch: int
    start: int
    matrices: Tensor

    @property
    def count(self) -> int:
        return len(self.matrices)

    @property
    def wide(self) -> Tensor:
        rows, columns = self.matrices.shape[1:]
        return self.matrices.mT if rows > columns else self.matrices


@dataclass(slots=True)
class Group:
    """Matrices to be orthogonalised at once, all of them padded to `rows` and `columns`, at most
    `room` of them.
    """

    rows: int
    columns: int
    room: int
    count: int = 0
    members: list[Piece] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        self.members.append(piece)
        self.count += piece.count

    def holds(self, other: Group) -> bool:
        """Whether the matrices of a smaller group can be padded to the size of these at little
        cost.
        """
        size = self.rows * self.columns
        fits = other.rows <= self.rows and other.columns <= self.columns and size <= PADDED_ENTRIES
        few = other.count <= PADDED_SHARE * self.count and self.count + other.count <= self.room
        return fits and few and is_small(other.rows) == is_small(self.rows)


def orthogonalize_all(batches: Sequence[Tensor], method: MethodLike | None = None) -> list[Tensor]:
    """The orthogonal factors of batches of matrices, each batch of another shape.

    Batches of one shape, or of its transpose, are joined, and a few small matrices are padded with
    zeros to join a long batch of larger ones, where the method takes padding; long batches are
    divided. The result is the same but
    for rounding. No more is computed at once than the workspace limit allows, and on a CPU no more
    than its caches hold.

    Args:
        batches: floating-point matrices, [count, m, n] each.
        method: as for `orthogonalize`.

    Returns:
        A tensor like each batch.
    """
    run = resolve(method)
    results: dict[int, Tensor] = {}
    pieces = [piece for i, batch in enumerate(batches) for piece in _pieces(i, batch)]
    for group in _groups(pieces, run.takes_padding):
        matrices = Matrices([piece.wide for piece in group.members], group.rows, group.columns)
        found = run.on_batch(matrices) if matrices.shape.numel() else matrices.parts
        for piece, factors in zip(group.members, found, strict=True):
            if piece.batch not in results:  # not before, so that less is held while a method runs
                results[piece.batch] = torch.empty_like(
                    batches[piece.batch], memory_format=torch.contiguous_format
                )
            restore(results[piece.batch][piece.start : piece.start + piece.count], factors)
    return [results[i] for i in range(len(batches))]


def _pieces(number: int, batch: Tensor) -> Iterator[Piece]:
    """A batch, divided into no more matrices than are orthogonalised at once."""
    start = 0
    for (matrices,) in divided([batch], _room(batch)):
        yield Piece(number, start, matrices)
        start += len(matrices)


def _room(matrices: Tensor) -> int:
    """How many matrices of this shape are orthogonalised at once."""
    return matrices_at_once(matrices.shape[1] * matrices.shape[2], matrices.device)


def _groups(pieces: Sequence[Piece], with_padding: bool) -> list[Group]:
    """Which pieces are joined: those of one shape, dtype and device, and with padding small ones
    with larger ones.
    """
    kinds: dict[tuple[torch.dtype, torch.device], dict[tuple[int, int], list[Group]]] = {}
    for piece in pieces:
        first = piece.matrices
        rows, columns = sorted(first.shape[1:])
        of_shape = kinds.setdefault((first.dtype, first.device), {}).setdefault((rows, columns), [])
        if not of_shape or of_shape[-1].count + piece.count > of_shape[-1].room:
            of_shape.append(Group(rows, columns, _room(first)))
        of_shape[-1].add(piece)
    found: list[Group] = []
    for shapes in kinds.values():
        of_kind = [group for groups in shapes.values() for group in groups]
        found += _joined(of_kind) if with_padding else of_kind
    return found


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
