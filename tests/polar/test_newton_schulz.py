"""Newton–Schulz: one polynomial that draws every singular value to 1."""

import pytest
import torch

from modula.polar import NewtonSchulz, orthogonalize
from modula.polar.newton_schulz import CUBIC, QUINTIC
from tests.helpers import close, rand


@pytest.mark.parametrize("polynomial", [CUBIC, QUINTIC])
def test_one_is_a_fixed_point_of_high_order(polynomial):
    a, b, c = polynomial
    close([a + b + c, a + 3 * b + 5 * c], [1, 0])


def test_quintic_is_flat_to_second_order_at_one():
    assert 6 * QUINTIC[1] + 20 * QUINTIC[2] == 0


@pytest.mark.parametrize("polynomial", [CUBIC, QUINTIC])
def test_singular_values_rise_and_never_pass_one(polynomial):
    a, b, c = polynomial
    x = torch.linspace(0.001, 0.999, 1000, dtype=torch.float64)
    y = a * x + b * x**3 + c * x**5
    assert ((y > x) & (y < 1)).all()


@pytest.mark.parametrize("degree", [3, 5])
def test_default_steps_lift_a_thousandth_to_one(degree):
    G = torch.diag(torch.tensor([1.0, 1e-3], dtype=torch.float64))
    close(orthogonalize(G, NewtonSchulz(degree=degree)), torch.eye(2), atol=1e-4)


@pytest.mark.parametrize("shape", [(5, 5), (4, 20), (20, 4)])
@pytest.mark.parametrize("degree", [3, 5])
@pytest.mark.parametrize("steps", [1, 6])
def test_singular_values_are_moved_by_the_polynomial_and_singular_vectors_are_not(
    shape, degree, steps
):
    U, S, Vh = torch.linalg.svd(rand(0, *shape), full_matrices=False)
    a, b, c = CUBIC if degree == 3 else QUINTIC
    moved = S / (S**8).sum() ** 0.125
    for _ in range(steps):
        moved = a * moved + b * moved**3 + c * moved**5
    close(orthogonalize((U * S) @ Vh, NewtonSchulz(steps, degree)), (U * moved) @ Vh, atol=1e-9)


@pytest.mark.parametrize("degree", [3, 5])
def test_more_steps_come_closer(degree):
    G = rand(0, 5, 8)
    exact = orthogonalize(G, "svd")
    errors = [
        (orthogonalize(G, NewtonSchulz(steps=steps, degree=degree)) - exact).norm().item()
        for steps in (1, 2, 4)
    ]
    assert errors == sorted(errors, reverse=True)


def test_degree_four_is_refused():
    with pytest.raises(ValueError, match="degree=4"):
        NewtonSchulz(degree=4)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match=r"at least 1 step.*steps=0"):
        NewtonSchulz(steps=0)


SCHEDULE = ((3.4445, -4.7750, 2.0315), (2.0, -1.5, 0.5), (1.5, -0.5, 0.0))


@pytest.mark.parametrize("shape", [(5, 5), (5, 8), (4, 20), (20, 4)])
@pytest.mark.parametrize("steps", [None, 1, 2, 3, 7])
def test_a_schedule_is_applied_in_order_and_its_last_polynomial_again_and_again(shape, steps):
    U, S, Vh = torch.linalg.svd(rand(0, *shape), full_matrices=False)
    moved = S / (S**8).sum() ** 0.125
    for step in range(steps or len(SCHEDULE)):
        a, b, c = SCHEDULE[min(step, len(SCHEDULE) - 1)]
        moved = a * moved + b * moved**3 + c * moved**5
    close(
        orthogonalize((U * S) @ Vh, NewtonSchulz(steps, schedule=SCHEDULE)),
        (U * moved) @ Vh,
        atol=1e-9,
    )


def test_a_schedule_of_one_polynomial_is_that_degree():
    G = rand(0, 5, 8)
    assert torch.equal(
        orthogonalize(G, NewtonSchulz(4, schedule=(QUINTIC,))), orthogonalize(G, NewtonSchulz(4))
    )


def test_an_empty_schedule_is_refused():
    with pytest.raises(ValueError, match="a schedule of at least one polynomial"):
        NewtonSchulz(schedule=())
