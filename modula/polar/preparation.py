"""Matrices as the methods take them, lying and with entries of at most 1, and back."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from modula.scaling import largest_magnitude, split_scale, working_dtype

STRIP = 64
"""How many columns of matrices are transposed at a time."""

UNDIVIDED = 2**18
"""Up to how many entries are transposed at once, since calls would cost more."""


def prepared(batches: Sequence[Tensor], rows: int, columns: int) -> Tensor:
    """All matrices in one batch [count, rows, columns], which may be overwritten; the largest entry of each that is not zero is 1.

    Args:
        batches: [count, m, n] each, with m ≤ rows and n ≤ columns, of one dtype on one device. Smaller ones are padded with zeros.
    """
    first = batches[0]
    if len(batches) == 1 and first.shape[1:] == (rows, columns) and first.is_contiguous() and first.dtype == working_dtype(first.dtype):
        return split_scale(first, dim=(-2, -1))[0]
    X = _assembled(batches, rows, columns)
    return X.div_(largest_magnitude(X, dim=(-2, -1)))


def restored(factors: Tensor, like: Tensor) -> Tensor:
    """The factors of the batch `like`, lying and padded, cut to its shape and turned the way it stands, in its dtype."""
    rows, columns = like.shape[-2:]
    if rows <= columns:
        return factors[:, :rows, :columns].to(like.dtype).contiguous()
    standing = factors.new_empty(len(factors), rows, columns, dtype=like.dtype)
    copy_matrices(standing, factors[:, :columns, :rows].mT)
    return standing


def copy_matrices(target: Tensor, source: Tensor) -> None:
    """target ← source, [batch, m, n]. Where one is the transpose of what lies in memory, a CPU goes from strip to strip of columns, since
    then it finds in its caches what it read for the row before."""
    if source.device.type == "cpu" and source.stride(-1) != 1 and source.numel() > UNDIVIDED:
        for strip, columns in zip(target.split(STRIP, dim=-1), source.split(STRIP, dim=-1), strict=True):
            strip.copy_(columns)
    else:
        target.copy_(source)


def _assembled(batches: Sequence[Tensor], rows: int, columns: int) -> Tensor:
    """All matrices, padded with zeros, in one batch of at least float32."""
    first = batches[0]
    shape = (sum(map(len, batches)), rows, columns)
    padded = any(batch.shape[1:] != (rows, columns) for batch in batches)
    make = first.new_zeros if padded else first.new_empty
    X = make(shape, dtype=working_dtype(first.dtype))
    start = 0
    for batch in batches:
        end = start + len(batch)
        copy_matrices(X[start:end, : batch.shape[1], : batch.shape[2]], batch)
        start = end
    return X
