"""Shares of the output's change against finite differences, sums and proposition 3."""

import pytest
import torch
from hypothesis import given, settings

from modula import GPT, MLP, Atom, Gain, LayoutError, Linear, ReLU, ResCNN, Tanh, Update
from modula.instruments import feature_learning
from modula.spaces import measure
from tests.helpers import close, full, rand, random_gradient, random_update
from tests.strategies import seeds, trained_trees

few = settings(max_examples=10)


def finite_difference(model, name, change, x, step=1e-6):
    """‖f(w + ε·Δw_i) − f(w − ε·Δw_i)‖ / 2ε for one parameter."""
    weight = model.weights[name]
    outputs = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * step * change
            outputs.append(model(x))
            weight -= sign * step * change
    return measure(model.codomain, (outputs[0] - outputs[1]) / (2 * step))


def test_each_change_is_that_of_a_finite_difference():
    model = (Linear(3, 5) @ Tanh() @ Gain(5) @ Linear(5, 4)).double()
    x, update = rand(0, 6, 4), random_update(model, 1)
    report = feature_learning(model, update, x)
    for name, change in update.items():
        close(
            report[name.removesuffix(".weight")].change,
            finite_difference(model, name, change, x),
            rtol=1e-6,
        )


def test_of_a_gpt_too():
    model = GPT(7, d_embed=8, num_heads=2, num_blocks=1).double()
    x = torch.tensor([[1, 2, 3]])
    update = model.dualize(random_gradient(model, 0))
    report = feature_learning(model, update, x)
    for name, change in update.items():
        close(
            report[name.removesuffix(".weight")].change,
            finite_difference(model, name, change, x),
            rtol=1e-5,
        )


def test_the_change_of_the_whole_is_that_of_all_parts_together():
    model = (Linear(3, 5) @ Tanh() @ Linear(5, 4)).double()
    x, update = rand(0, 6, 4), random_update(model, 1)
    w = model.weights.clone()
    step = 1e-6
    outputs = []
    for sign in (1, -1):
        model.weights = w + sign * step * update
        outputs.append(model(x).detach())
    model.weights = w
    close(
        feature_learning(model, update, x)[""].change,
        measure(model.codomain, (outputs[0] - outputs[1]) / (2 * step)),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: MLP(3, 4, width=8, depth=3), (5, 4)),
        (lambda: ResCNN(3, 2, width=4, num_blocks=2), (2, 2, 4, 4)),
    ],
    ids=["MLP", "ResCNN"],
)
@few
@given(seed=seeds)
def test_no_share_exceeds_the_share_of_the_mass(build, shape, seed):
    torch.manual_seed(seed)
    model = build().double()
    x = full(model.domain, rand(seed, *shape))
    update = model.dualize(model.gradient(model(x).square().sum()), target_norm=3.0)
    for row in feature_learning(model, update, x):
        assert row.share <= row.mass_share * (1 + 1e-5)


@few
@given(model=trained_trees(), seed=seeds)
def test_shares_of_the_mass_add_up_over_the_atoms(model, seed):
    x = {
        "OneHot": lambda: torch.arange(3)[None],
        "ChannelRMS": lambda: rand(seed, 1, model.domain.width, 3, 3),
        "RMS": lambda: rand(seed, 2, model.domain.width),
    }[model.domain.norm.__name__]()
    report = feature_learning(model, model.dualize(random_gradient(model, seed), method="svd"), x)
    atoms = {path for path, module in model.named_modules() if isinstance(module, Atom)}
    close(sum(row.mass_share for row in report if row.path in atoms), 1.0)
    close(report[""].mass_share, 1.0)


def test_a_module_without_mass_has_no_row():
    model = Linear(3, 5) @ ReLU() @ Linear(5, 4).tare(0)
    report = feature_learning(model, model.dualize(random_gradient(model, 0)), torch.randn(2, 4))
    assert [row.path for row in report] == ["", "2"]


def test_the_size_of_the_update_does_not_matter_to_the_shares():
    model = (Linear(3, 5) @ Tanh() @ Linear(5, 4)).double()
    x, update = rand(0, 6, 4), random_update(model, 1)
    close(
        feature_learning(model, -7 * update, x)["0"].share,
        feature_learning(model, update, x)["0"].share,
    )


@pytest.mark.parametrize("factor", [0.0, float("nan"), float("inf")])
def test_an_update_of_no_size_is_refused(factor):
    model = Linear(3, 4)
    with pytest.raises(ValueError, match="the shares of an update of norm"):
        feature_learning(model, factor * random_update(model, 0), torch.randn(2, 4))


def test_a_gradient_is_refused():
    model = Linear(3, 4)
    with pytest.raises(TypeError, match="takes an Update"):
        feature_learning(model, random_gradient(model, 0), torch.randn(2, 4))


def test_the_update_of_another_model_is_refused():
    with pytest.raises(LayoutError):
        feature_learning(Linear(3, 4), Update({"weight": torch.zeros(4, 4)}), torch.randn(2, 4))
