"""The error of the average of gradients, against the definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import LayoutError, Linear, SteepestDescent
from modula.instruments import momentum_error
from modula.optim import Adam, Normalized
from tests.helpers import random_gradient
from tests.optim.helpers import mlp
from tests.optim.test_steepest_descent import assign


@given(seed=st.integers(0, 1000), beta=st.floats(0, 0.99), steps=st.integers(1, 4))
def test_the_error_is_the_dual_norm_of_the_difference_to_the_true_average(seed, beta, steps):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, momentum=beta)
    average, total = None, 0.0
    for k in range(steps):
        g = random_gradient(model, seed + k)
        assign(model, g.clone())
        optimizer.step()
        average = g if average is None else beta * average + g
        total = beta * total + 1
    other = random_gradient(model, seed + 99)
    report = momentum_error(optimizer, other)
    whole = report[""]
    difference = (1 / total) * average - other
    assert whole.error == pytest.approx(model.dual_norm(difference).item(), rel=1e-6)
    assert whole.average == pytest.approx(model.dual_norm(average).item() / total, rel=1e-6)
    assert whole.gradient == pytest.approx(model.dual_norm(other).item(), rel=1e-6)
    assert whole.relative == pytest.approx(whole.error / whole.gradient)
    assert sum(row.error for row in report.rows[1:]) == pytest.approx(whole.error)


@given(seed=st.integers(0, 1000), noise=st.floats(0, 2))
def test_a_step_lowers_the_loss_by_what_the_docstring_says(seed, noise):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, momentum=0.0, method="svd")
    g = random_gradient(model, seed)
    assign(model, g + noise * random_gradient(model, seed + 1))
    before = model.weights.clone()
    optimizer.step()
    row = momentum_error(optimizer, g)[""]
    gained = (g @ (before - model.weights)).item()
    assert gained >= 0.1 * (row.average - row.error) - 1e-9


def test_a_report_prints_and_names_its_numbers():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    assign(model, random_gradient(model, 0))
    optimizer.step()
    report = momentum_error(optimizer, random_gradient(model, 1))
    assert str(report).splitlines()[1].startswith("model")
    assert list(report.scalars())[:2] == ["momentum_error/model", "momentum_error/0.weight"]
    assert report.plot().get_xlabel() == "dual norm"


def test_what_has_no_average_is_refused():
    model = mlp()
    g = random_gradient(model, 0)
    with pytest.raises(ValueError, match=r"has not moved '0\.weight' yet"):
        momentum_error(SteepestDescent(model, 0.1), g)
    with pytest.raises(ValueError, match=r"Adam.*keeps none"):
        momentum_error(SteepestDescent(model, 0.1, rule=Normalized(Adam())), g)
    with pytest.raises(TypeError, match="got SGD"):
        momentum_error(torch.optim.SGD(model.parameters(), 0.1), g)


def test_a_gradient_of_another_model_is_refused():
    model, other = mlp(), Linear(3, 4).double()
    optimizer = SteepestDescent(model, 0.1)
    assign(model, random_gradient(model, 0))
    optimizer.step()
    with pytest.raises(LayoutError):
        momentum_error(optimizer, random_gradient(other, 0))
