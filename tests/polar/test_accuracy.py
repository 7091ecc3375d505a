"""How far from 1 Polar Express leaves singular values, in its two accuracies."""

import pytest
import torch

from modula.polar import PolarExpress, orthogonalize
from modula.polar.rounded_iteration import iterate_rounded
from tests.helpers import rand
from tests.polar.matrices import errors, falling, largest, with_singular_values
from tests.reference import muon

SHAPES = [(32, 32), (48, 40), (64, 256), (256, 64), (100, 100), (33, 400), (250, 190), (400, 400)]
FULL = [torch.float32, torch.float64]
SPECTRA = {
    "even": lambda rank: torch.linspace(1, 1e-3, rank, dtype=torch.float64),
    "flat": lambda rank: torch.ones(rank, dtype=torch.float64),
    "falling": lambda rank: falling(rank, 1e-4),
    "a cliff": lambda rank: torch.where(torch.arange(rank) < rank // 3, 1.0, 1.1e-3).double(),
    "one large": lambda rank: torch.where(torch.arange(rank) < 1, 1.0, 2e-3).double(),
}

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def normal(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """Return matrices with normal entries; many if they are small.

    A single small one may have a singular value close to zero.
    """
    return rand(seed, max(1, 4096 // min(shape) ** 2), *shape)


@every_shape
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_default_leaves_a_mean_error_of_two_hundredths_on_normal_entries(shape, dtype, device):
    G = normal(shape).to(device, dtype)
    assert errors(G, orthogonalize(G)).mean() <= 0.02


@every_shape
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_default_lifts_no_singular_value_above_1_1(shape, dtype, device):
    assert largest(orthogonalize(normal(shape).to(device, dtype))) <= 1.1


@every_shape
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_the_default_lifts_no_singular_value_above_1_1_in_other_spectra(shape, spectrum, device):
    G = with_singular_values(0, spectrum(min(shape)), *shape).to(device, torch.float32)
    assert largest(orthogonalize(G)) <= 1.1


@every_shape
def test_the_default_has_a_seventh_of_the_error_of_muon(shape, device):
    G = normal(shape).float()
    plain = errors(G, torch.stack([muon(each) for each in G])).mean()
    assert errors(G, orthogonalize(G.to(device))).mean() <= plain / 7


@every_shape
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bits_bring_a_sixtieth_to_within_two_hundredths(shape, dtype):
    m, n = sorted(shape)
    G = with_singular_values(0, torch.linspace(1, 1 / 60, m, dtype=torch.float64), m, n).float()
    polynomials = PolarExpress().compositions["default"]
    X = G / G.abs().amax()
    assert errors(G, iterate_rounded(X.clone(), polynomials, dtype)).mean() <= 0.02


@every_shape
@pytest.mark.parametrize("dtype", FULL, ids=str)
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_high_accuracy_brings_all_above_a_thousandth_to_within_a_thousandth(
    shape, dtype, spectrum, device
):
    G = with_singular_values(0, spectrum(min(shape)), *shape).to(device, dtype)
    assert errors(G, orthogonalize(G, accuracy="high")).max() <= 1e-3


@every_shape
@pytest.mark.parametrize("dtype", FULL, ids=str)
def test_high_accuracy_holds_for_normal_entries(shape, dtype, device):
    G = normal(shape).to(device, dtype)
    assert errors(G, orthogonalize(G, accuracy="high")).max() <= 1e-3


@every_shape
@pytest.mark.parametrize("dtype", FULL, ids=str)
def test_high_accuracy_holds_where_rank_is_missing(shape, dtype, device):
    G = with_singular_values(0, falling(min(shape) // 3, 1e-2), *shape).to(device, dtype)
    assert errors(G, orthogonalize(G, accuracy="high")).max() <= 1e-3


@every_shape
def test_high_accuracy_lifts_no_singular_value_above_one_by_more_than_a_thousandth(shape, device):
    G = with_singular_values(0, falling(min(shape), 1e-8), *shape).to(device, torch.float32)
    assert largest(orthogonalize(G, accuracy="high")) <= 1.001
