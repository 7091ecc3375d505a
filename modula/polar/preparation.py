"""Matrices as the methods take them, lying and with entries of at most 1, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from modula.polar.rounding import PIECE, split_into
from modula.scaling import largest_magnitude, working_dtype

STRIP = 64
"""How many columns of matrices are transposed at a time."""

UNDIVIDED = 2**18
"""Up to how many entries are transposed at once, since calls would cost more."""

TURNED = 2**22
"""Up to how many entries a matrix is transposed faster by the product that makes it than by copying
it afterwards."""


@dataclass(frozen=True, slots=True)
class Matrices:
    """Matrices that are orthogonalised in one batch, before they are gathered in one tensor.

    Args:
        parts: [count, m, n] each, with m ≤ rows and n ≤ columns, of one dtype on one device.
            Smaller ones are padded with zeros.
        rows, columns: of the batch.

    Example:
        >>> import torch
        >>> from modula.polar import Matrices
        >>> Matrices([torch.tensor([[[2.0, -4.0]]])], rows=1, columns=3).prepared()
        tensor([[[ 0.5000, -1.0000,  0.0000]]])
    """

    parts: Sequence[Tensor]
    rows: int
    columns: int

    @property
    def shape(self) -> torch.Size:
        """Of the batch."""
        return torch.Size((sum(map(len, self.parts)), self.rows, self.columns))

    @property
    def device(self) -> torch.device:
        return self.parts[0].device

    @property
    def dtype(self) -> torch.dtype:
        """In which they are gathered, float32 at least."""
        return working_dtype(self.parts[0].dtype)

    def prepared(self) -> Tensor:
        """All of them, in a new tensor; the largest entry of each that is not zero is 1."""
        return self._scaled(self.parts, 1.0)

    def rounded(self, dtype: torch.dtype, largest: float) -> tuple[Tensor, Tensor]:
        """X̂ and X − X̂, both in `dtype`, where the largest entry of each matrix of X that is not
        zero is `largest`.

        X is never there as a whole: a CPU goes from piece to piece, as its cache holds them.
        """
        rounded = torch.empty(self.shape, dtype=dtype, device=self.device)
        rest = torch.empty_like(rounded)
        start = 0
        for parts in self._pieces():
            X = self._scaled(parts, largest)
            end = start + len(X)
            split_into(rounded[start:end], rest[start:end], X)
            start = end
        return rounded, rest

    def in_parts(self, whole: Tensor) -> Sequence[Tensor]:
        """A tensor of as many matrices, [batch, rows, columns], as one for each part, [count, rows,
        columns].
        """
        return torch.split(whole, [len(part) for part in self.parts])

    def product(self, P: Tensor, X: Tensor) -> Sequence[Tensor]:
        """P·X in parts, each with its matrices lying in memory as the part's own do, so that
        nothing is left to be transposed.

        Args:
            P: [batch, rows, rows].
            X: [batch, rows, columns], in the dtype of P.

        Returns:
            A tensor for each part, [count, rows, columns], in the same dtype.
        """
        products: list[Tensor] = []
        start = 0
        for tall, parts in groupby(self.parts, key=_is_tall):
            counts = [len(part) for part in parts]
            end = start + sum(counts)
            p, x = P[start:end], X[start:end]
            products += torch.split(torch.bmm(x.mT, p.mT).mT if tall else torch.bmm(p, x), counts)
            start = end
        return products

    def _pieces(self) -> Iterator[Sequence[Tensor]]:
        """The parts, so many matrices at a time as are prepared together."""
        if self.device.type != "cpu":
            yield self.parts
            return
        yield from divided(self.parts, max(1, PIECE // max(1, self.rows * self.columns)))

    def _scaled(self, parts: Sequence[Tensor], largest: float) -> Tensor:
        if len(parts) == 1 and parts[0].is_contiguous() and self._fits(parts[0]):
            X = parts[0].to(self.dtype)
            return X / (largest_magnitude(X, dim=(-2, -1)) / largest)
        X = self._gathered(parts)
        return X.div_(largest_magnitude(X, dim=(-2, -1)) / largest)

    def _gathered(self, parts: Sequence[Tensor]) -> Tensor:
        if all(part.is_contiguous() and self._fits(part) for part in parts):
            return torch.cat(list(parts)).to(self.dtype)
        X = parts[0].new_empty(sum(map(len, parts)), self.rows, self.columns, dtype=self.dtype)
        for place, part in zip(torch.split(X, [len(part) for part in parts]), parts, strict=True):
            copy_matrices(
                place if self._fits(part) else place.zero_()[:, : part.shape[1], : part.shape[2]],
                part,
            )
        return X

    def _fits(self, part: Tensor) -> bool:
        return part.shape[1] == self.rows and part.shape[2] == self.columns


def _is_tall(part: Tensor) -> bool:
    """Whether columns lie in one piece where rows do not, in matrices that are small enough to be
    turned by a product.
    """
    return part.stride(-1) != 1 and part.stride(-2) == 1 and part.shape[-2:].numel() <= TURNED


def divided(parts: Sequence[Tensor], count: int) -> Iterator[list[Tensor]]:
    """The same matrices in the same order, in lists of about the same length, no more than
    `count`.
    """
    total = sum(map(len, parts))
    count = -(-total // max(1, -(-total // count)))
    some: list[Tensor] = []
    held = 0
    for part in parts:
        for piece in torch.split(part, count) if len(part) > count else (part,):
            if held + len(piece) > count:
                yield some
                some, held = [], 0
            some.append(piece)
            held += len(piece)
    if some:
        yield some


def restore(target: Tensor, factors: Tensor) -> None:
    """target ← the factors of lying, padded matrices, cut and turned as the target stands, [batch,
    m, n].
    """
    rows, columns = target.shape[1:]
    copy_matrices(
        target, factors[:, :rows, :columns] if rows <= columns else factors[:, :columns, :rows].mT
    )


def copy_matrices(target: Tensor, source: Tensor) -> None:
    """target ← source, [batch, m, n]. Where one is the transpose of what lies in memory, a CPU goes
    from strip to strip of columns, since then it finds in its caches what it read for the row
    before."""
    if source.device.type == "cpu" and source.stride(-1) != 1 and source.numel() > UNDIVIDED:
        for strip, columns in zip(
            torch.split(target, STRIP, dim=-1), torch.split(source, STRIP, dim=-1), strict=True
        ):
            strip.copy_(columns)
    else:
        target.copy_(source)
