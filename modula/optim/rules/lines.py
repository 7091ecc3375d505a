"""Lines: the rows or columns of the matrices of which weights consist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from modula.geometry import Geometry
from modula.scaling import working_dtype

Lines: TypeAlias = Literal["rows", "columns"]
AXES: dict[Lines, int] = {"rows": -1, "columns": -2}
"""The axis of a matrix [d_out, d_in] along which its lines extend."""


def lengths_by_matrix(geometry: Geometry, weights: Tensor, lines: Lines) -> list[Tensor]:
    """Return the Euclidean lengths of all lines, [batch, count, lines] for matrices of one shape.

    Args:
        geometry: of the weights.
        weights: a batch of them, [batch, *shape].
        lines: "rows" or "columns".

    Returns:
        An empty list for weights that do not consist of matrices.
    """
    parts = geometry.orthogonal_parts(weights)
    return [_norms(one, AXES[lines]) for one in (() if parts is None else parts.matrices)]


def lengths(geometry: Geometry, weights: Tensor, lines: Lines) -> Tensor:
    """Return the lengths of all lines of each weight in one vector: [batch, *shape] -> [batch, n].

    Args:
        geometry, weights, lines: as for `lengths_by_matrix`, of weights that consist of matrices.
    """
    return joined(lengths_by_matrix(geometry, weights, lines))


def spread(geometry: Geometry, shape: torch.Size, numbers: Tensor, lines: Lines) -> Tensor:
    """Return weights each of whose entries is the number of its line: [batch, n] -> a view.

    Args:
        geometry: of the weights.
        shape: of one of them.
        numbers: one for each line, in the order of `lengths`.
        lines: "rows" or "columns".

    Returns:
        [batch, *shape].
    """
    parts = geometry.orthogonal_parts(numbers.new_zeros(()).expand(len(numbers), *shape))
    shapes = [] if parts is None else [one.shape for one in parts.matrices]
    axis = AXES[lines]
    by_matrix = split(numbers, [_without(one, axis)[1:] for one in shapes])
    factors = [
        one.unsqueeze(axis).expand(whole) for one, whole in zip(by_matrix, shapes, strict=True)
    ]
    return geometry.from_orthogonal_parts(factors, tuple(shape))


def joined(numbers: Sequence[Tensor]) -> Tensor:
    """Return the numbers of lines of all matrices of weights in one vector for each weight.

    Args:
        numbers: [batch, count, lines] for matrices of one shape.
    """
    if len(numbers) == 1:
        return numbers[0].flatten(1)
    return torch.cat([one.flatten(1) for one in numbers], dim=1)


def split(numbers: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """Return the numbers of lines, [batch, n], by matrices of one shape: the inverse of `joined`.

    Args:
        numbers: one vector for each weight.
        shapes: (count, lines) for matrices of one shape.
    """
    parts = numbers.split_with_sizes([shape.numel() for shape in shapes], dim=1)
    return [torch.unflatten(one, 1, shape) for one, shape in zip(parts, shapes, strict=True)]


def _norms(vectors: Tensor, axis: int) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(vectors, dim=axis, dtype=working_dtype(vectors.dtype))
    return found


def _without(shape: torch.Size, axis: int) -> torch.Size:
    kept = list(shape)
    del kept[axis]
    return torch.Size(kept)
