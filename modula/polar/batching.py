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

MAX_ENTRIES_PADDED = 2**16
"""The most entries that a matrix may have after padding.

For larger matrices the cost of a batch of their own is too small to notice."""

MAX_PADDED_SHARE = 1 / 8
"""The most by which padded matrices may lengthen a batch, as a share of its length."""


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """Consecutive matrices of one batch, [count, m, n], few enough to be orthogonalised at once.

    Args:
        batch: the number of the batch.
        start: the position of the first matrix in the batch.
        matrices: the matrices.
    """

    batch: int
    start: int
    matrices: Tensor

    @property
    def count(self) -> int:
        return len(self.matrices)

    @property
    def as_wide(self) -> Tensor:
        """The matrices, transposed if they are tall."""
        rows, columns = self.matrices.shape[1:]
        return self.matrices.mT if rows > columns else self.matrices


@dataclass(slots=True)
class Group:
    """Sections that are orthogonalised at once, all padded to `rows` and `columns`.

    Together they have `count` matrices, and at most `max_count`.
    """

    rows: int
    columns: int
    max_count: int
    count: int = 0
    sections: list[Section] = field(default_factory=list)

    def add(self, section: Section) -> None:
        self.sections.append(section)
        self.count += section.count

    @property
    def entries(self) -> int:
        """The number of entries of one matrix."""
        return self.rows * self.columns

    def accepts(self, other: Group) -> bool:
        """Return whether the matrices of a smaller group can be padded to join at little cost."""
        fits = other.rows <= self.rows and other.columns <= self.columns
        few = other.count <= MAX_PADDED_SHARE * self.count
        within_limits = (
            self.entries <= MAX_ENTRIES_PADDED and self.count + other.count <= self.max_count
        )
        return fits and few and within_limits and is_small(other.rows) == is_small(self.rows)


def orthogonalize_all(batches: Sequence[Tensor], method: MethodLike | None = None) -> list[Tensor]:
    """Return the orthogonal factors of batches of matrices, each batch of another shape.

    Batches of one shape, or of its transpose, are joined, and long batches are divided. Where the
    method takes padding, a few small matrices are padded with zeros to join a long batch of larger
    ones. Only rounding depends on this. `workspace.matrices_at_once` bounds the number of matrices
    of a batch by the workspace limit, and on a CPU by the caches.

    Args:
        batches: floating-point matrices, [count, m, n] each.
        method: as for `orthogonalize`.

    Returns:
        A tensor like each batch.
    """
    run = resolve(method)
    results: dict[int, Tensor] = {}
    sections = [section for i, batch in enumerate(batches) for section in _sections(i, batch)]
    for group in _groups(sections, run.takes_padding):
        matrices = Matrices(
            [section.as_wide for section in group.sections], group.rows, group.columns
        )
        found = run.on_batch(matrices) if matrices.shape.numel() else matrices.parts
        for section, factors in zip(group.sections, found, strict=True):
            if section.batch not in results:  # not earlier, to save memory while a method runs
                results[section.batch] = torch.empty_like(
                    batches[section.batch], memory_format=torch.contiguous_format
                )
            restore(results[section.batch][section.start : section.start + section.count], factors)
    return [results[i] for i in range(len(batches))]


def _sections(number: int, batch: Tensor) -> Iterator[Section]:
    """Divide a batch into sections, each few enough to be orthogonalised at once."""
    start = 0
    for (matrices,) in divided([batch], _max_count(batch)):
        yield Section(number, start, matrices)
        start += len(matrices)


def _max_count(matrices: Tensor) -> int:
    """Return how many matrices of this shape are orthogonalised at once."""
    return matrices_at_once(matrices.shape[1] * matrices.shape[2], matrices.device)


def _groups(sections: Sequence[Section], with_padding: bool) -> list[Group]:
    """Group sections of one shape, dtype and device; with padding, also small ones with larger."""
    kinds: dict[tuple[torch.dtype, torch.device], dict[tuple[int, int], list[Group]]] = {}
    for section in sections:
        first = section.matrices
        # not sorted(), which torch.compile does not know for symbolic sizes
        rows, columns = min(first.shape[1:]), max(first.shape[1:])
        of_shape = kinds.setdefault((first.dtype, first.device), {}).setdefault((rows, columns), [])
        if not of_shape or of_shape[-1].count + section.count > of_shape[-1].max_count:
            of_shape.append(Group(rows, columns, _max_count(first)))
        of_shape[-1].add(section)
    found: list[Group] = []
    for shapes in kinds.values():
        of_kind = [group for groups in shapes.values() for group in groups]
        found += _joined(of_kind) if with_padding else of_kind
    return found


def _joined(groups: list[Group]) -> list[Group]:
    """Merge groups of a few small matrices into groups of somewhat larger ones."""
    kept: list[Group] = []
    for group in _largest_first(groups):
        larger = next((larger for larger in reversed(kept) if larger.accepts(group)), None)
        if larger is None:
            kept.append(group)
        else:
            larger.sections += group.sections
            larger.count += group.count
    return kept


def _largest_first(groups: Sequence[Group]) -> list[Group]:
    """Return the groups by descending size, equal ones in their order.

    torch.compile cannot sort by symbolic sizes, and compares them here.
    """
    ordered: list[Group] = []
    for group in groups:
        position = len(ordered)
        while position and ordered[position - 1].entries < group.entries:
            position -= 1
        ordered.insert(position, group)
    return ordered
