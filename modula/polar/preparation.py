"""Convert matrices to the form that methods expect (wide, entries at most 1) and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from modula.polar.rounding import MAX_ENTRIES_PER_CHUNK, split_into
from modula.scaling import largest_magnitude, working_dtype

COLUMNS_PER_STRIP = 64
"""The number of columns that a CPU transposes at a time."""

MAX_ENTRIES_TRANSPOSED_AT_ONCE = 2**18
"""The most entries that a CPU transposes at once: for so few, several calls would cost more."""

MAX_ENTRIES_TRANSPOSED_BY_PRODUCT = 2**22
"""The most entries of a matrix for which the product that computes it transposes it as well.

For larger ones it is faster to copy the matrix afterwards."""


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
        """The shape of the batch, [batch, rows, columns]."""
        return torch.Size((sum(map(len, self.parts)), self.rows, self.columns))

    @property
    def device(self) -> torch.device:
        return self.parts[0].device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the matrices are gathered, float32 at least."""
        return working_dtype(self.parts[0].dtype)

    def prepared(self) -> Tensor:
        """Gather all matrices in a new tensor, each scaled so that its largest entry is 1.

        A matrix of zeros stays one.
        """
        return self._scaled(self.parts, 1.0)

    def rounded(self, dtype: torch.dtype, largest: float) -> tuple[Tensor, Tensor]:
        """Gather all matrices as X̂ and X − X̂, both in `dtype`.

        X is the matrices, each scaled so that its largest entry is `largest`; a matrix of zeros
        stays one. Where the divisor for that is beyond the range of the dtype, the largest entry is
        up to 1 in bfloat16, which has room for its powers. X is never in memory as a whole: a CPU
        takes it in chunks that fit its cache.
        """
        rounded = torch.empty(self.shape, dtype=dtype, device=self.device)
        remainder = torch.empty_like(rounded)
        start = 0
        for parts in self._chunks():
            X = self._scaled(parts, largest, is_narrow=dtype == torch.float16)
            end = start + len(X)
            split_into(rounded[start:end], remainder[start:end], X)
            start = end
        return rounded, remainder

    def in_parts(self, whole: Tensor) -> Sequence[Tensor]:
        """Split a tensor for the batch, [batch, rows, columns], into one for each part."""
        return torch.split(whole, [len(part) for part in self.parts])

    def product(self, P: Tensor, X: Tensor) -> Sequence[Tensor]:
        """Return P·X in parts, each in the memory layout of the part that it belongs to.

        So nothing has to be transposed afterwards, unless a matrix is so large that copying it is
        faster.

        Args:
            P: [batch, rows, rows].
            X: [batch, rows, columns], in the dtype of P.

        Returns:
            A tensor for each part, [count, rows, columns], in the same dtype.
        """
        products: list[Tensor] = []
        start = 0
        for transposed, parts in groupby(self.parts, key=_is_transposed_by_product):
            counts = [len(part) for part in parts]
            end = start + sum(counts)
            p, x = P[start:end], X[start:end]
            product = torch.bmm(x.mT, p.mT).mT if transposed else torch.bmm(p, x)
            products += torch.split(product, counts)
            start = end
        return products

    def _chunks(self) -> Iterator[Sequence[Tensor]]:
        """Yield the parts, as many matrices at a time as are prepared together."""
        if self.device.type != "cpu":
            yield self.parts
            return
        entries = max(1, self.rows * self.columns)
        yield from divided(self.parts, max(1, MAX_ENTRIES_PER_CHUNK // entries))

    def _scaled(self, parts: Sequence[Tensor], largest: float, is_narrow: bool = False) -> Tensor:
        """Gather matrices with the largest entry `largest`.

        Args:
            parts: the matrices.
            largest: at most 1.
            is_narrow: whether the largest entry must not exceed `largest` where the divisor
                overflows. This costs a multiplication of all entries, by 1 for most matrices.
        """
        is_new = not (len(parts) == 1 and parts[0].is_contiguous() and self._fits(parts[0]))
        X = self._gathered(parts) if is_new else parts[0].to(self.dtype)
        size = largest_magnitude(X, dim=(-2, -1))
        # An entry of infinity stays one, and its remainder after rounding is NaN.
        end = torch.finfo(X.dtype).max
        divisor = size if largest == 1 else (size / largest).clamp_(max=end)
        X = X.div_(divisor) if is_new else X / divisor
        return X.mul_((end / size * largest).clamp_(max=1)) if is_narrow else X

    def _gathered(self, parts: Sequence[Tensor]) -> Tensor:
        if all(part.is_contiguous() and self._fits(part) for part in parts):
            return torch.cat(list(parts)).to(self.dtype)
        X = parts[0].new_empty(sum(map(len, parts)), self.rows, self.columns, dtype=self.dtype)
        for target, part in zip(torch.split(X, [len(part) for part in parts]), parts, strict=True):
            copy_matrices(
                target if self._fits(part) else target.zero_()[:, : part.shape[1], : part.shape[2]],
                part,
            )
        return X

    def _fits(self, part: Tensor) -> bool:
        return part.shape[1] == self.rows and part.shape[2] == self.columns


def _is_transposed_by_product(part: Tensor) -> bool:
    """Return whether `part` is a transpose of tall matrices small enough for a product to undo it.

    The columns of such a part are contiguous in memory, and its rows are not.
    """
    columns_are_contiguous = part.stride(-1) != 1 and part.stride(-2) == 1
    return columns_are_contiguous and part.shape[-2:].numel() <= MAX_ENTRIES_TRANSPOSED_BY_PRODUCT


def divided(parts: Sequence[Tensor], count: int) -> Iterator[list[Tensor]]:
    """Divide matrices, in their order, into lists of about equal length, of at most `count`."""
    total = sum(map(len, parts))
    count = -(-total // max(1, -(-total // count)))
    some: list[Tensor] = []
    length = 0
    for part in parts:
        for few in torch.split(part, count) if len(part) > count else (part,):
            if length + len(few) > count:
                yield some
                some, length = [], 0
            some.append(few)
            length += len(few)
    if some:
        yield some


def restore(target: Tensor, factors: Tensor) -> None:
    """Copy the factors of wide, padded matrices into `target`, [batch, m, n].

    Padding is cut off, and the factors are transposed if the matrices of the target are tall.
    """
    rows, columns = target.shape[1:]
    copy_matrices(
        target, factors[:, :rows, :columns] if rows <= columns else factors[:, :columns, :rows].mT
    )


def copy_matrices(target: Tensor, source: Tensor) -> None:
    """Copy `source` into `target`, [batch, m, n], in strips of columns if that transposes.

    On a CPU each row of a strip finds in the caches the memory that was read for the row before.
    """
    transposes = source.stride(-1) != 1
    if (
        source.device.type == "cpu"
        and transposes
        and source.numel() > MAX_ENTRIES_TRANSPOSED_AT_ONCE
    ):
        for target_strip, source_strip in zip(
            torch.split(target, COLUMNS_PER_STRIP, dim=-1),
            torch.split(source, COLUMNS_PER_STRIP, dim=-1),
            strict=True,
        ):
            target_strip.copy_(source_strip)
    else:
        target.copy_(source)
