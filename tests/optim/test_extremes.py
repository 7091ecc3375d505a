"""Masses at the ends of the range of floats, and drift that does not end at zero."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import Linear, ReLU, SteepestDescent
from modula.optim.adaptive_masses import FLOOR, LAST_UPDATE
from tests.helpers import close, random_gradient
from tests.optim.test_steepest_descent import assign


def pair(one, other):
    return Linear(2, 2, mass=one).double() @ ReLU() @ Linear(2, 2, mass=other).double()


@pytest.mark.parametrize("mass", [1.7e308, 1e308, 1.0, 1e-308, 5e-324])
def test_only_ratios_of_masses_count_however_large_or_small(mass):
    model, plain = pair(mass, mass), pair(1.0, 1.0)
    gradient = random_gradient(plain, 0)
    close(
        model.dualize(gradient, method="svd").tensors[0],
        plain.dualize(gradient, method="svd").tensors[0],
    )
    assert model.tare(3.0).mass == pytest.approx(3.0)
    assert [weight.mass for weight in model.graph().weights.values()] == pytest.approx([1.5, 1.5])


@given(st.lists(st.floats(1e300, 1.7e308), min_size=2, max_size=4))
def test_shares_of_masses_whose_sum_is_no_float(masses):
    model = Linear(2, 2, mass=masses[0])
    for mass in masses[1:]:
        model = Linear(2, 2, mass=mass) @ model
    assert sum(model.graph().mass_fractions()) == pytest.approx(1.0)
    str(model)


@pytest.mark.parametrize(("one", "other"), [(1e308, 1e-308), (1e300, 1.0), (1e-300, 1.0)])
def test_a_mass_that_would_vanish_beside_another_is_refused_by_name(one, other):
    model = pair(one, other)
    light = "0.weight" if other < one else "2.weight"
    with pytest.raises(ValueError, match=rf"'{light}'.*out of the range of float32"):
        model.dualize(random_gradient(model, 0))


@pytest.mark.parametrize("rate", [0.3, 5.0, 1000.0])
def test_drift_takes_no_mass_below_its_floor(rate):
    """One weight's gradient is along its last update at each step, the other's opposed."""
    model = pair(2.0, 1.0)
    optimizer = SteepestDescent(model, 0.1, momentum=0.0, adapt_masses=rate)
    assign(model, random_gradient(model, 0))
    optimizer.step()
    for _ in range(200):
        for sign, w in zip((1, -1), model.weights.tensors, strict=True):
            w.grad = sign * optimizer.state[w][LAST_UPDATE]
        optimizer.step()
    masses = list(optimizer.masses().values())
    declared = [1.0, 2.0]
    assert sum(masses) == pytest.approx(3.0, rel=1e-5)
    assert min(m / d for m, d in zip(masses, declared, strict=True)) >= 0.999 * FLOOR


def test_counts_are_kept_in_more_than_16_bits():
    """In bfloat16 a count would stay at 256 for ever."""
    model = Linear(2, 2).bfloat16()
    optimizer = SteepestDescent(model, 0.0, nonfinite="skip")
    model.weight.grad = torch.ones(2, 2).bfloat16()
    optimizer.step()
    state = optimizer.state[model.weight]
    state["step"].fill_(2**20)
    optimizer.step()
    assert state["step"] == 2**20 + 1
    optimizer.skipped.fill_(2**40)
    model.weight.grad.fill_(math.inf)
    optimizer.step()
    assert optimizer.skipped == 2**40 + 1
