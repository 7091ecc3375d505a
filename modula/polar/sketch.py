"""A randomised range finder: UVᵀ on the leading directions of a matrix, zero on the others.

Sources: Halko, Martinsson & Tropp 2011 (arXiv:0909.4061), algorithm 4.4; Martinsson & Tropp 2020
(arXiv:2002.01387), section 11; proposed for duality maps in Bernstein & Newhouse 2025
(arXiv:2410.21265), section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from modula.checks import check_whole
from modula.polar.method import Method
from modula.polar.products import gram


@dataclass(frozen=True)
class Sketch(Method):
    """The orthogonal factor of the leading part of a matrix, found with a few random vectors.

    It costs 2 + 2·power_iterations matrix products m×n×r for rank r, oversampling included, and
    decompositions of matrices m×r and n×r, all in full precision. It is exact on the range that it
    finds, and zero on the directions beyond. Pick it for matrices of low rank, or where the small
    singular values are noise that should not be brought to 1.

    Args:
        rank: the number of directions that are kept. By default 64, or with a tolerance as many as
            meet it.
        tolerance: keep all directions whose singular value is above `tolerance` times the largest.
            The rank is doubled until a bound on the remainder proves that none is missing, except
            for values within rounding of the tolerance. Where the spectrum has no gap there, that
            takes m random vectors. Each doubling costs 2 products m×n×r, one m×m×n and one m×m×m
            more, and waits for the device.
        power_iterations: the number of times that the sketch is multiplied by GGᵀ, so that its
            directions are the leading ones also where singular values fall slowly.
        oversampling: the number of random vectors beyond the rank.
        seed: the seed of the random vectors, which are the same for each call.

    Raises:
        ValueError: `rank`, `power_iterations` or `oversampling` is out of range, the tolerance is
            not between 0 and 1, or both a rank and a tolerance are given.

    Example:
        >>> import torch
        >>> from modula.polar import Sketch, orthogonalize
        >>> G = torch.diag(torch.tensor([5.0, 3.0, 0.1]))
        >>> orthogonalize(G, Sketch(tolerance=0.1)).diagonal().abs().round()
        tensor([1., 1., 0.])
    """

    takes_padding: ClassVar[bool] = True

    rank: int | None = None
    tolerance: float | None = None
    power_iterations: int = 2
    oversampling: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole(
            "Sketch",
            rank=self.rank,
            power_iterations=self.power_iterations,
            oversampling=self.oversampling,
            seed=self.seed,
        )
        if self.rank is not None and self.tolerance is not None:
            raise ValueError(
                f"Sketch takes a rank or a tolerance, got rank={self.rank} and "
                f"tolerance={self.tolerance}"
            )
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"Sketch keeps at least 1 direction, got rank={self.rank}")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ValueError(f"Sketch takes a tolerance between 0 and 1, got {self.tolerance}")
        if self.power_iterations < 0 or self.oversampling < 0:
            raise ValueError(
                "Sketch takes power_iterations and oversampling of at least 0, got "
                f"{self.power_iterations} and {self.oversampling}"
            )

    def __call__(self, X: Tensor) -> Tensor:
        has_nan = X.isnan().any(dim=-1, keepdim=True).any(dim=-2, keepdim=True)
        finite = torch.where(has_nan, 0, X)
        orthogonal = (
            self._of_rank(finite, self.rank or 64)
            if self.tolerance is None
            else self._to_tolerance(finite, self.tolerance)
        )
        return torch.where(has_nan, torch.nan, orthogonal)

    def _of_rank(self, X: Tensor, rank: int) -> Tensor:
        Q, U, S, Vh = self._leading(X, rank)
        return _join(Q, U[..., :rank], S[..., :rank], Vh[..., :rank, :])

    def _to_tolerance(self, X: Tensor, tolerance: float) -> Tensor:
        """Double the rank until no direction can be missing.

        A matrix keeps the first result that is known to be complete. The others of its batch, which
        may need more vectors, then change no bit of it.
        """
        found, pending = torch.zeros_like(X), X.new_ones(len(X), 1, 1, dtype=torch.bool)
        rank = 16
        while True:
            Q, U, S, Vh = self._leading(X, rank)
            orthogonal = _join(Q, U, S * (tolerance * S[..., :1] < S), Vh)
            found = torch.where(pending, orthogonal, found)
            if Q.shape[-1] == X.shape[-2]:
                return found
            pending = pending & _may_miss(X - Q @ (Q.mT @ X), S, tolerance).view(-1, 1, 1)
            if not pending.any():
                return found
            rank *= 2

    def _leading(self, X: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return Q, U, S and Vh, whose product is the part of X in the range of the sketch.

        The columns of Q are an orthonormal basis of the range, and U, S and Vh decompose QᵀX.
        """
        Q = self._range(X, min(rank + self.oversampling, X.shape[-2]))
        return Q, *torch.linalg.svd(Q.mT @ X, full_matrices=False)

    def _range(self, X: Tensor, columns: int) -> Tensor:
        generator = torch.Generator(X.device).manual_seed(self.seed)
        Q: Tensor = torch.linalg.qr(
            X
            @ torch.randn(X.shape[-1], columns, generator=generator, dtype=X.dtype, device=X.device)
        ).Q
        for _ in range(self.power_iterations):
            Q = torch.linalg.qr(X @ torch.linalg.qr(X.mT @ Q).Q).Q
        return Q


def _may_miss(remainder: Tensor, S: Tensor, tolerance: float) -> Tensor:
    """Return for each matrix whether a singular value above the tolerance may seem to be below.

    With R = X − QQᵀX, XᵀX = XᵀQQᵀX + RᵀR, so that σᵢ(X)² ≤ Sᵢ² + ‖R‖², and ≤ ‖R‖² beyond the last.

    Args:
        remainder: R, [batch, m, n].
        S: the singular values of QᵀX, [batch, rank].
        tolerance: relative to the largest.

    Returns:
        [batch], bool.
    """
    unseen = torch.linalg.matrix_norm(gram(gram(remainder)), keepdim=True)[..., 0].sqrt()
    limit = tolerance * S[..., :1]
    below = torch.where(limit < S, 0, S)
    missing: Tensor = (limit.square() < below.square() + unseen).any(dim=-1)
    return missing


def _join(Q: Tensor, U: Tensor, S: Tensor, Vh: Tensor) -> Tensor:
    """Return Q·U·Vh over the directions whose singular value is more than rounding error."""
    negligible = (
        torch.finfo(S.dtype).eps * max(Q.shape[-2], Vh.shape[-1]) * S.amax(dim=-1, keepdim=True)
    )
    significant = (negligible < S).unsqueeze(-2)
    orthogonal: Tensor = Q @ ((U * significant) @ Vh)
    return orthogonal
