"""Parts of a weight that get a length of their own, and those that a gradient does not touch.

A duality map normalises each part of a weight (each row of a table, each expert) by itself. An
average of gradients has a trace of every gradient that it ever took in. So a part that had a
gradient once would move at full length for ever, however small its trace. With the gradient of the
step beside the average it can be told apart: the step does not touch the part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modula.scaling import working_dtype

REST = 0.1
"""A part that is not touched is at full length while its average is above this share of the largest
one, and then falls in proportion to it.

Found by experiment, see `benchmarks.dead_rows`."""


def magnitudes(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Return the largest |entry| over the axes `dim`, kept at length 1, in float32 at least."""
    largest = torch.maximum(x.amax(dim=dim, keepdim=True), -x.amin(dim=dim, keepdim=True))
    return largest.to(working_dtype(x.dtype))


def largest_touched(average: Tensor, touched: Tensor) -> Tensor:
    """Return the largest magnitude among the touched parts of each weight: [batch, …] -> [batch].

    Args:
        average: the magnitude of each part.
        touched: whether the step's gradient touches it.

    Returns:
        0 for a weight of which this process has no part, or nothing is touched.
    """
    if not average.numel():
        return average.new_zeros(len(average))
    finite = torch.where(touched & average.isfinite(), average, 0)
    return finite.view(len(finite), -1).amax(dim=1)


def lengths(average: Tensor, touched: Tensor, largest: Tensor) -> Tensor:
    """Return the share of its full length that each part of each weight moves: [batch, …].

    It is 1 for parts that are touched, min(1, average/(REST·largest)) for others, and 0 where
    nothing of the weight is touched.

    Args:
        average, touched: as for `largest_touched`.
        largest: its result.
    """
    reference = largest.view(-1, *[1] * (average.dim() - 1))
    share = torch.where(reference > 0, average / reference / REST, 0).clamp(max=1)
    return torch.where(touched, 1, share)
