"""10,000 matrices of every shape, rank, condition, scale and dtype.

All results are finite, no singular value exceeds 1.15, and no noise appears in null spaces.

A matrix is made of a core with singular values that fall by a factor of up to 10¹², by taking its
rows and columns several times, with either sign, or leaving some zero. Copies are exact in every
dtype, so that the null spaces are known exactly: the directions in which the copies of each row, or
column, cancel.
"""

import itertools

import pytest
import torch
from torch import Tensor

from modula.polar import SVD, InverseRoot, NewtonSchulz, PolarExpress, Sketch, orthogonalize
from tests.polar.matrices import largest

COUNT = 25
"""Matrices in a batch."""

BATCHES = {
    PolarExpress(): 30,
    PolarExpress(accuracy="high"): 14,
    NewtonSchulz(): 10,
    NewtonSchulz(degree=3): 4,
    InverseRoot(): 10,
    InverseRoot(sides="both"): 4,
    Sketch(): 10,
    Sketch(tolerance=1e-3): 4,
    SVD(): 14,
}
"""Batches of each method in each dtype: 100, of 25 matrices each, in 4 dtypes, make 10,000."""

NOISE = {torch.float64: 1e-3, torch.float32: 0.05, torch.bfloat16: 0.05, torch.float16: 0.05}
"""The largest singular value that a result may have in the null spaces of its matrix.

Rounding tilts the singular vectors of a small singular value, just above the rounding error of its
dtype, into the null spaces, and the value is brought to 1 with them. Methods that square the matrix
or cut values off at rounding error tilt them most: a few 1e-4 in float64, and up to two hundredths
in float32, in which matrices of 16 bits are computed too."""

EXPONENTS = {
    torch.float64: (-30, 30),
    torch.float32: (-30, 30),
    torch.bfloat16: (-30, 30),
    torch.float16: (-6, 4.5),
}
"""The exponents of the smallest and the largest scale, as powers of ten.

float16 ends at 65,504 and has no number between 0 and 6e-8."""


def uniform(low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(COUNT, 1, 1, generator=generator, dtype=torch.float64)


def cores(m: int, n: int, generator: torch.Generator) -> Tensor:
    """Matrices with singular values from 1 down to 1..1e-12, the largest entry 1."""
    rank = min(m, n)
    U, V = (
        torch.linalg.qr(torch.randn(COUNT, d, rank, generator=generator, dtype=torch.float64)).Q
        for d in (m, n)
    )
    smallest = uniform(-12, 0, generator)[:, 0]
    core = (
        U
        * (10.0 ** (smallest * torch.linspace(0, 1, rank, dtype=torch.float64))).unsqueeze(1)
        @ V.mT
    )
    return core / core.abs().amax(dim=(1, 2), keepdim=True)


def copies(d: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return the source of each row, its sign, and the projections on the null spaces.

    The source is the row of the core that a row copies, and the sign is ±1, or 0 for a row of
    zeros, both [COUNT, d]. The projections are [COUNT, d, d]. A third of the matrices keep all
    their rows; the others have copies of a few, and in a third some rows are zero.
    """
    rows = torch.arange(d).expand(COUNT, d)
    kept = (uniform(0, d, generator)[:, 0]).long() + 1
    source = torch.where(
        torch.arange(COUNT).unsqueeze(1) % 3 == 0,
        rows,
        (torch.rand(COUNT, d, generator=generator) * kept).long(),
    )
    sign = torch.randint(0, 2, (COUNT, d), generator=generator).double() * 2 - 1
    zero = (torch.rand(COUNT, d, generator=generator) < 0.5) & (
        torch.arange(COUNT).unsqueeze(1) % 3 == 2
    )
    sign = torch.where(zero, 0, sign)
    alike = (source.unsqueeze(2) == source.unsqueeze(1)) * sign.unsqueeze(2) * sign.unsqueeze(1)
    touched = alike / alike.abs().sum(dim=-1, keepdim=True).clamp(min=1)
    return source, sign, torch.eye(d, dtype=torch.float64) - touched


def matrices(
    m: int, n: int, dtype: torch.dtype, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return matrices [COUNT, m, n] and the projections on their left and right null spaces.

    The last matrix is zero.
    """
    core = (cores(m, n, generator) * 10 ** uniform(*EXPONENTS[dtype], generator)).to(dtype)
    (rows, row_signs, left), (columns, column_signs, right) = (copies(d, generator) for d in (m, n))
    taken = core.gather(1, rows.unsqueeze(2).expand(-1, -1, n)).gather(
        2, columns.unsqueeze(1).expand(-1, m, -1)
    )
    G = taken * (row_signs.unsqueeze(2) * column_signs.unsqueeze(1)).to(dtype)
    G[-1], left[-1], right[-1] = 0, torch.eye(m), torch.eye(n)
    return G, left, right


def shapes(count: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """The largest and the smallest, and others between, every second one wide."""
    long, short = (
        torch.randint(1, most + 1, (count,), generator=generator).tolist() for most in (300, 70)
    )
    chosen = [(300, 70), (1, 1), *zip(long, short, strict=True)][:count]
    return [(n, m) if i % 2 else (m, n) for i, (m, n) in enumerate(chosen)]


@pytest.mark.parametrize("dtype", NOISE, ids=str)
@pytest.mark.parametrize("method", BATCHES, ids=str)
def test_results_are_finite_and_null_spaces_stay_without_noise(method, dtype, device):
    generator = torch.Generator().manual_seed(
        list(itertools.product(BATCHES, NOISE)).index((method, dtype))
    )
    for shape in shapes(BATCHES[method], generator):
        G, left, right = matrices(*shape, dtype, generator)
        orthogonal = orthogonalize(G.to(device), method).double().cpu()
        assert orthogonal.isfinite().all(), shape
        assert largest(orthogonal) < 1.15, shape
        assert largest(left @ orthogonal) < NOISE[dtype], shape
        assert largest(orthogonal @ right) < NOISE[dtype], shape
