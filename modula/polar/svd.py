"""UVᵀ from a singular value decomposition, as a reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from modula.polar.method import Accuracy, Method


@dataclass(frozen=True)
class SVD(Method):
    """A singular value decomposition: exact to rounding, and many times slower than the iterations.

    Pick it for tests and as a reference. Directions whose singular value is rounding error (at most
    eps·max(m, n)·σ_max, the convention of `matrix_rank`) count as null space, and stay zero.
    """

    takes_padding: ClassVar[bool] = True

    def __call__(self, X: Tensor) -> Tensor:
        has_nan = X.isnan().any(dim=-1, keepdim=True).any(dim=-2, keepdim=True)
        U, S, Vh = torch.linalg.svd(torch.where(has_nan, 0, X), full_matrices=False)
        negligible = torch.finfo(X.dtype).eps * max(X.shape[-2:]) * S.amax(dim=-1, keepdim=True)
        significant = (negligible < S).unsqueeze(-2)
        orthogonal: Tensor = (U * significant) @ Vh
        return torch.where(has_nan, torch.nan, orthogonal)

    def with_accuracy(self, accuracy: Accuracy) -> SVD:
        return self
