"""Orthogonalisation of matrices of many shapes in as few batches as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modula.polar.orthogonalize import MethodLike, resolve
from modula.polar.preparation import prepared, restored
from modula.polar.rounded_iteration import SMALLEST
from modula.workspace import matrices_at_once

PADDED_ENTRIES = 2**16
"""Only matrices up to this size are padded: for larger ones a batch of their own costs nothing that can be noticed."""

PADDED_SHARE = 1 / 8
"""By how much padded matrices may make a batch longer."""


@dataclass(slots=True)
class Group:
    """Matrices to be orthogonalised at once, all of them padded to `rows` and `columns`, at most `room` of them.

    `members` are positions in a list of batches.
    """

    rows: int
    columns: int
    room: int
    count: int = 0
    members: list[int] = field(default_factory=list)

    def add(self, member: int, count: int) -> None:
        self.members.append(member)
        self.count += count

    def holds(self, other: Group) -> bool:
        """Whether the matrices of a smaller group can be padded to the size of these at little cost."""
        size = self.rows * self.columns
        fits = other.rows <= self.rows and other.columns <= self.columns and size <= PADDED_ENTRIES
        few = other.count <= PADDED_SHARE * self.count and self.count + other.count <= self.room
        return fits and few and (other.rows < SMALLEST) == (self.rows < SMALLEST)


def orthogonalize_all(batches: Sequence[Tensor], method: MethodLike | None = None) -> list[Tensor]:
    """The orthogonal factors of batches of matrices, each batch of another shape.

    Batches of one shape, or of its transpose, are joined, and a few small matrices are padded with zeros to join a long batch of
    larger ones; long batches are divided. The result is the same but for rounding. No more is computed at once than the workspace limit
    allows, and on a CPU no more than its caches hold.

    Args:
        batches: floating-point matrices, [count, m, n] each.
        method: as for `orthogonalize`.

    Returns:
        A tensor like each batch.
    """
    run = resolve(method)
    divided = [batch.split(_room(batch)) if len(batch) else (batch,) for batch in batches]
    pieces = [piece for parts in divided for piece in parts]
    lying = [piece.mT if piece.shape[1] > piece.shape[2] else piece for piece in pieces]
    factors: dict[int, Tensor] = {}
    for group in _groups(lying):
        X = prepared([lying[i] for i in group.members], group.rows, group.columns)
        found = run(X) if X.numel() else X
        counts = [len(lying[i]) for i in group.members]
        factors |= {i: restored(part, pieces[i]) for i, part in zip(group.members, torch.split(found, counts), strict=True)}
    position = iter(range(len(pieces)))
    results = [[factors[next(position)] for _ in parts] for parts in divided]
    return [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in results]


def _room(batch: Tensor) -> int:
    """How many matrices of the batch's shape are orthogonalised at once."""
    return matrices_at_once(batch.shape[1] * batch.shape[2], batch.device)


def _groups(lying: Sequence[Tensor]) -> list[Group]:
    """Which batches are joined: those of one shape, dtype and device, and small ones with larger ones."""
    kinds: dict[tuple[torch.dtype, torch.device], dict[torch.Size, list[Group]]] = {}
    for i, batch in enumerate(lying):
        of_shape = kinds.setdefault((batch.dtype, batch.device), {}).setdefault(batch.shape[1:], [])
        if not of_shape or of_shape[-1].count + len(batch) > of_shape[-1].room:
            of_shape.append(Group(batch.shape[1], batch.shape[2], _room(batch)))
        of_shape[-1].add(i, len(batch))
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
