"""UVᵀ = (GGᵀ)^(−½)·G, with the root from a coupled Newton iteration, which needs products only.

Sources: the iteration is Higham 2008, *Functions of Matrices*, equation (7.18); the form
(GGᵀ)^(−¼)·G·(GᵀG)^(−¼) is the update of Shampoo (Gupta et al. 2018, arXiv:1802.09568) for one
gradient without accumulation, as Bernstein & Newhouse 2024 (arXiv:2409.20325) observe.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from modula.checks import check_whole
from modula.polar.iteration import squared_bound
from modula.polar.method import Method
from modula.polar.products import add_to_diagonal, gram

NEGLIGIBLE = 1e-18
"""The magnitude below which entries of M are set to zero.

Once M has converged, its entries beside the diagonal shrink with each step, and arithmetic is ten
times slower where a product of two falls below 1e-38."""


@dataclass(frozen=True)
class InverseRoot(Method):
    """The inverse root of the Gram matrix, times the matrix.

    It costs 4 matrix products m×m×m a step, and 2 of m×m×n for each stage of about 16 steps; with
    sides="both" 5 products m×m×m and 5 of n×n×n a step. All are in full precision. A small singular
    value grows by 3/2 a step (25/16 with both sides), so that the default brings those above 1/1000
    of the largest to within 1e-3 of 1. Pick it for the preconditioner itself, or to compare with
    Shampoo.

    In float32, a Gram matrix loses singular values below 1/3000 of the largest. So the steps are
    taken in stages: before rounding errors would grow to 1, the matrix is multiplied by the root
    found so far, and its Gram matrix is computed anew.

    Args:
        steps: the number of steps of the coupled Newton iteration, over all stages.
        sides: "left" for (GGᵀ)^(−½)·G, or "both" for (GGᵀ)^(−¼)·G·(GᵀG)^(−¼).

    Raises:
        ValueError: `steps` < 1, or `sides` is neither "left" nor "both".
    """

    takes_padding: ClassVar[bool] = True

    steps: int = 26
    sides: Literal["left", "both"] = "left"

    def __post_init__(self) -> None:
        check_whole("InverseRoot", steps=self.steps)
        if self.steps < 1:
            raise ValueError(f"InverseRoot takes at least 1 step, got steps={self.steps}")
        if self.sides not in ("left", "both"):
            raise ValueError(f'InverseRoot has sides "left" or "both", got {self.sides!r}')

    def __call__(self, X: Tensor) -> Tensor:
        X = X / squared_bound(gram(gram(X))).sqrt()
        growth = 3 / 2 if self.sides == "left" else 25 / 16
        for steps in steps_per_stage(self.steps, growth, torch.finfo(X.dtype).eps):
            left = inverse_root(gram(X), 2 if self.sides == "left" else 4, steps)
            X = left @ X if self.sides == "left" else left @ X @ inverse_root(gram(X.mT), 4, steps)
        return X

    def with_steps(self, steps: int) -> InverseRoot:
        return replace(self, steps=steps)


def inverse_root(A: Tensor, p: Literal[2, 4], steps: int) -> Tensor:
    """Return A^(−1/p) of symmetric positive semidefinite matrices.

    The coupled Newton iteration repeats

        M ← Tᵖ·M and Y ← Y·T with T = ((p + 1)·I − M)/p, from M = z·A and Y = z^(1/p)·I,

    so that M tends to I and Y to A^(−1/p). Eigenvalues too small to converge in so many steps
    grow as far as the steps bring them.

    Args:
        A: [batch, m, m], no eigenvalue greater than 1.
        p: 2 or 4.
        steps: the number of steps.

    Returns:
        [batch, m, m].

    Example:
        >>> import torch
        >>> from modula.polar import inverse_root
        >>> inverse_root(torch.diag(torch.tensor([1.0, 0.25]))[None], p=2, steps=10)[0]
        tensor([[1., 0.],
                [0., 2.]])

    Source: Higham 2008, *Functions of Matrices*, equation (7.18).
    """
    z = (p + 1) / 2  # the largest start from which convergence is monotone
    M = z * A
    Y = math.pow(z, 1 / p) * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A)
    for _ in range(steps):
        T = add_to_diagonal(M * (-1 / p), (p + 1) / p)
        half_power = T if p == 2 else T @ T
        M = F.hardshrink(half_power @ M @ half_power, NEGLIGIBLE)
        Y = Y @ T
    return Y


def steps_per_stage(steps: int, growth: float, eps: float) -> Iterator[int]:
    """Divide steps into stages, each of as many as multiply a singular value by √(0.1/eps) at most.

    Args:
        steps: the number of steps of all stages.
        growth: the factor by which one step multiplies a small singular value.
        eps: the rounding error of the dtype.

    Yields:
        The number of steps of each stage; the last may be shorter.
    """
    longest = int(math.log(math.sqrt(0.1 / eps)) / math.log(growth))
    while steps:
        stage = min(steps, longest)
        yield stage
        steps -= stage
