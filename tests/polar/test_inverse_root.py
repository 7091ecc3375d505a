"""The inverse root: A^(−1/p) by products only, and the orthogonal factor by way of it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula.polar import InverseRoot, inverse_root, orthogonalize
from modula.polar.inverse_root import steps_per_stage
from tests.helpers import close, rand
from tests.polar.matrices import falling, with_singular_values
from tests.reference import polar_factor
from tests.strategies import seeds

every_power = pytest.mark.parametrize("p", [2, 4])


def positive(seed: int, m: int, smallest: float) -> torch.Tensor:
    """Symmetric matrices [2, m, m] with eigenvalues from 1 down to `smallest`."""
    Q = torch.linalg.qr(rand(seed, 2, m, m)).Q
    return (Q * falling(m, smallest)) @ Q.mT


def root_by_eigenvalues(A: torch.Tensor, p: int) -> np.ndarray:
    values, vectors = np.linalg.eigh(A.numpy())
    return (vectors * values[:, None] ** (-1 / p)) @ vectors.transpose(0, 2, 1)


@every_power
@given(seed=seeds, m=st.integers(1, 12), smallest=st.sampled_from([1.0, 0.1, 1e-3]))
def test_agrees_with_the_decomposition_into_eigenvalues(p, seed, m, smallest):
    A = positive(seed, m, smallest)
    close(inverse_root(A, p, steps=40), root_by_eigenvalues(A, p), rtol=1e-8, atol=1e-8)


@every_power
def test_each_step_comes_closer(p):
    A = positive(0, 8, 1e-2)
    gaps = [
        np.abs(inverse_root(A, p, steps).numpy() - root_by_eigenvalues(A, p)).max()
        for steps in (1, 3, 6, 10, 15)
    ]
    assert gaps == sorted(gaps, reverse=True)


@every_power
def test_the_last_digits_come_at_once(p):
    """Quadratic convergence: the error is squared at each step."""
    A = torch.full((1, 1, 1), 0.9, dtype=torch.float64)
    gaps = [abs(inverse_root(A, p, steps).item() - 0.9 ** (-1 / p)) for steps in (5, 6)]
    assert gaps[1] < 10 * gaps[0] ** 2 + 1e-15


@every_power
def test_eigenvalues_out_of_reach_are_lifted_as_far_as_they_come(p):
    z = (p + 1) / 2
    root = inverse_root(
        torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))[None], p, steps=30
    )[0]
    close(root[1, 1], z ** (1 / p) * ((p + 1) / p) ** 30, rtol=1e-8)
    close(root[0, 0], 1.0, rtol=1e-8)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 9), (9, 5), (20, 50)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_both_sides_equal_one_side_equal_the_decomposition(shape, dtype):
    G = with_singular_values(0, falling(min(shape), 1e-2), *shape, count=2).to(dtype)
    left, both = (orthogonalize(G, InverseRoot(sides=sides)) for sides in ("left", "both"))
    exact = np.stack([polar_factor(each.double().numpy()) for each in G])
    close(torch.stack([left, both]), np.stack([exact, exact]), atol=1e-3)


@pytest.mark.parametrize("sides", ["left", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_default_lifts_a_thousandth_to_within_a_thousandth(sides, dtype):
    G = torch.diag(torch.tensor([1.0, 0.3, 1e-3], dtype=dtype))
    close(orthogonalize(G, InverseRoot(sides=sides)), torch.eye(3), atol=1e-3)


@pytest.mark.parametrize("sides", ["left", "both"])
def test_more_steps_come_closer(sides):
    G = with_singular_values(0, falling(5, 1e-2), 5, 8)
    exact = polar_factor(G[0].numpy())
    gaps = [
        np.abs(orthogonalize(G, InverseRoot(steps, sides))[0].numpy() - exact).max()
        for steps in (1, 4, 8, 14)
    ]
    assert gaps == sorted(gaps, reverse=True)


@given(
    steps=st.integers(1, 100),
    growth=st.sampled_from([3 / 2, 25 / 16]),
    eps=st.sampled_from([2.0**-23, 2.0**-52]),
)
def test_no_stage_raises_rounding_errors_to_one(steps, growth, eps):
    stages = list(steps_per_stage(steps, growth, eps))
    assert sum(stages) == steps
    assert eps * growth ** (2 * max(stages)) <= 0.1 * (1 + 1e-9)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match=r"at least 1 step.*steps=0"):
        InverseRoot(steps=0)


def test_other_sides_are_refused():
    with pytest.raises(ValueError, match=r'"left" or "both", got \'right\''):
        InverseRoot(sides="right")
