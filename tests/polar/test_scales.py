"""Every method gives the same factor at every scale that a dtype has."""

import pytest
import torch

from modula.polar import SVD, InverseRoot, NewtonSchulz, PolarExpress, Sketch, orthogonalize
from modula.polar.preparation import Matrices
from tests.helpers import rand
from tests.polar.matrices import falling, largest, with_singular_values

METHODS = [
    PolarExpress(),
    PolarExpress(steps=6),
    PolarExpress(accuracy="high"),
    NewtonSchulz(),
    NewtonSchulz(degree=3),
    InverseRoot(),
    InverseRoot(sides="both"),
    Sketch(),
    Sketch(tolerance=1e-3),
    SVD(),
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]

every_method = pytest.mark.parametrize("method", METHODS, ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def exact(G: torch.Tensor) -> torch.Tensor:
    G = G.double() / G.double().abs().max()
    U, _, Vh = torch.linalg.svd(G, full_matrices=False)
    return U @ Vh


def scales(dtype: torch.dtype) -> list[float]:
    info = torch.finfo(dtype)
    return [info.max, info.max / 3, info.max / 100, 4 * info.tiny, info.tiny / 64]


@every_method
@every_dtype
@pytest.mark.parametrize("shape", [(5, 7), (40, 66), (66, 40)], ids=str)
def test_a_matrix_at_the_ends_of_the_range_has_its_orthogonal_factor(method, dtype, shape):
    """At tiny/64 in bfloat16 one bit of each entry is left, so that the factor is its own."""
    G = with_singular_values(0, falling(min(shape), 0.3), *shape)[0]
    for scale in scales(dtype):
        scaled = (G / G.abs().max() * scale).to(dtype)
        orthogonal = orthogonalize(scaled, method)
        factor = exact(scaled)
        sizes = torch.linalg.svdvals(scaled.double() / scaled.double().abs().max())
        if sizes[-1] < 0.05 * sizes[0]:  # rounding to few bits made it nearly singular
            assert largest(orthogonal) <= 1.1
        else:
            assert largest(orthogonal.double() - factor) <= 0.12


@every_method
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_huge_entry_hides_the_others_without_noise(method, dtype):
    G = torch.zeros(40, 66, dtype=dtype)
    G[3, 5] = -torch.finfo(dtype).max
    orthogonal = orthogonalize(G + rand(0, 40, 66).to(dtype) * torch.finfo(dtype).tiny, method)
    expected = torch.zeros(40, 66, dtype=torch.float64)
    expected[3, 5] = -1
    assert largest(orthogonal.double() - expected) <= 0.06


@every_method
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_or_columns_of_scales_far_apart_stay_bounded(method, axis):
    spread = torch.logspace(-38, 38, 40, dtype=torch.float64).view(
        (-1, 1) if axis == 0 else (1, -1)
    )
    orthogonal = orthogonalize((rand(0, 40, 40).clamp(-1, 1) * spread).float(), method)
    assert orthogonal.isfinite().all()
    assert largest(orthogonal) <= 1.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "scale", [1.0, torch.finfo(torch.float32).max], ids=["ordinary", "largest"]
)
def test_a_divisor_that_overflows_does_not_lose_the_matrix(dtype, scale):
    G = rand(0, 1, 40, 66).float()
    G = G / G.abs().max() * scale
    rounded, remainder = Matrices([G], 40, 66).rounded(dtype, 1 / 8)
    found = rounded.double() + remainder.double()
    torch.testing.assert_close(
        found / found.abs().max(), G.double() / G.double().abs().max(), atol=1e-4, rtol=0
    )
    assert rounded.abs().max() <= (1 if dtype == torch.bfloat16 else 0.1251)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_an_infinite_entry_leaves_a_nan(dtype):
    G = rand(0, 1, 40, 66).float()
    G[0, 1, 2] = torch.inf
    _, remainder = Matrices([G], 40, 66).rounded(dtype, 1 / 8)
    assert remainder.isnan().any()
