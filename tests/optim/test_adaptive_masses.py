"""Adaptive masses: what lets them grow, what stays the same, and what leaves them alone."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import Gradient, Linear, SteepestDescent
from modula.optim import StateMismatchError
from modula.optim.adaptive_masses import LAST_UPDATE
from tests.helpers import close, random_gradient
from tests.optim.helpers import frozen_copy, gpt, mlp, same, train

RATE = 0.1


def assign(model, gradient):
    """Put a gradient where backward would."""
    for w, g in zip(model.weights.tensors, gradient.tensors, strict=True):
        w.grad = g.clone()


def first_then_last_update(model, optimizer, signs):
    """Two steps: down a random gradient, and down the first step itself, times a sign for each
    weight.
    """
    assign(model, random_gradient(model, 0))
    optimizer.step()
    for w, sign in zip(model.weights.tensors, signs, strict=True):
        w.grad = sign * optimizer.state[w][LAST_UPDATE]
    optimizer.step()


def test_a_mass_grows_by_the_rate_where_gradient_and_last_update_agree_and_shrinks_where_they_are_opposed():  # noqa: E501
    model = mlp()
    optimizer = SteepestDescent(model, lr=0.1, adapt_masses=RATE)
    before = optimizer.masses()
    first_then_last_update(model, optimizer, [1, 1, -1])
    ratios = [
        now / then for now, then in zip(optimizer.masses().values(), before.values(), strict=True)
    ]
    close(
        torch.tensor(ratios) / ratios[0], torch.tensor([1.0, 1.0, math.exp(-2 * RATE)]), rtol=1e-6
    )


def test_the_cosine_decides():
    """Halfway between along and against."""
    model = Linear(2, 2).double() @ Linear(2, 2).double()
    optimizer = SteepestDescent(model, lr=0.1, adapt_masses=RATE)
    assign(model, random_gradient(model, 0))
    optimizer.step()
    along, across = (optimizer.state[w][LAST_UPDATE].clone() for w in model.weights.tensors)
    turned = across @ torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    assert abs((turned * across).sum()) < 1e-12
    for w, g in zip(model.weights.tensors, (along, across + turned), strict=True):
        w.grad = g
    optimizer.step()
    one, other = optimizer.masses().values()
    assert one / other == pytest.approx(math.exp(RATE * (1 - math.sqrt(0.5))), rel=1e-6)


@given(seed=st.integers(0, 1000), rate=st.floats(0.001, 1.0))
def test_the_total_stays(seed, rate):
    model = gpt()
    optimizer = SteepestDescent(model, lr=0.1, adapt_masses=rate)
    for k in range(3):
        assign(model, random_gradient(model, seed + k))
        optimizer.step()
    assert sum(optimizer.masses().values()) == pytest.approx(model.mass, rel=1e-5)


@given(st.lists(st.floats(1e-15, 1e15), min_size=3, max_size=3))
def test_the_sizes_of_gradients_play_no_part(sizes):
    signature = []
    for factors in ([1.0] * 3, sizes):
        model = mlp()
        optimizer = SteepestDescent(model, lr=0.1, adapt_masses=RATE)
        for k in range(3):
            some = random_gradient(model, k)
            assign(
                model,
                Gradient(
                    {
                        name: factor * g
                        for (name, g), factor in zip(some.items(), factors, strict=True)
                    }
                ),
            )
            optimizer.step()
        signature.append(list(optimizer.masses().values()))
    assert signature[1] == pytest.approx(signature[0], rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"normalize": True}, {"normalize": True, "base": "adam"}])
def test_a_step_moves_a_weight_by_its_share_of_the_masses_as_they_are(settings):
    """As if the model had been tared to them, whichever the rule."""
    model = mlp()
    gradients = [random_gradient(model, k) for k in range(4)]
    optimizer = SteepestDescent(model, lr=0.1, weight_decay=0.1, adapt_masses=RATE, **settings)
    plain = copy.deepcopy(model)
    other = SteepestDescent(plain, lr=0.1, weight_decay=0.1, **settings)
    for gradient in gradients:
        start = frozen_copy(model)
        assign(model, gradient)
        optimizer.step()
        plain.weights = start
        assign(plain, gradient)
        plain.tare(optimizer.masses())
        other.step()
        for w, e in zip(model.weights.tensors, plain.weights.tensors, strict=True):
            close(w, e, rtol=1e-6, atol=1e-8)


def test_masses_are_those_of_the_model_where_they_do_not_drift():
    model = gpt()
    optimizer = SteepestDescent(model, lr=0.1)
    assign(model, random_gradient(model, 0))
    optimizer.step()
    assert optimizer.masses() == {
        path: atom.mass
        for path, atom in model.named_modules()
        if getattr(atom, "weight", None) is not None
    }


def test_nothing_more_is_kept_where_masses_do_not_drift():
    model = mlp()
    optimizer = SteepestDescent(model, lr=0.1)
    assert all(set(optimizer.state[p]) == {"step", "momentum_buffer"} for p in model.parameters())


def test_a_part_of_mass_zero_stays_so():
    model = mlp()
    model[0].tare(0.0)
    optimizer = SteepestDescent(model, lr=0.1, adapt_masses=RATE)
    for k in range(3):
        assign(model, random_gradient(model, k))
        optimizer.step()
    masses = optimizer.masses()
    assert masses["0"] == 0
    assert sum(masses.values()) == pytest.approx(model.mass)


def test_where_nothing_is_trained_nothing_breaks():
    model = mlp().tare(0.0)
    optimizer = SteepestDescent(model, lr=0.1, adapt_masses=RATE)
    before = frozen_copy(model)
    for k in range(2):
        assign(model, random_gradient(model, k))
        optimizer.step()
    assert same(model.weights, before)


def test_a_frozen_part_keeps_its_mass():
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = SteepestDescent(model, lr=0.1, adapt_masses=RATE)
    train(model, optimizer, range(3))
    masses = optimizer.masses()
    assert masses["0"] == model[0].mass
    assert sum(masses.values()) == pytest.approx(model.mass, rel=1e-5)


def test_training_goes_on_from_a_saved_state_bit_for_bit():
    model = mlp()
    optimizer = SteepestDescent(model, lr=0.1, adapt_masses=RATE)
    train(model, optimizer, range(3))
    other = copy.deepcopy(model)
    resumed = SteepestDescent(other, lr=0.1, adapt_masses=RATE)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, range(3, 6))
    train(other, resumed, range(3, 6))
    assert same(model.weights, other.weights)


def test_a_state_with_drift_serves_without():
    """The averages are taken over; the masses are the model's again."""
    model = mlp()
    drifting = SteepestDescent(model, lr=0.1, adapt_masses=RATE)
    train(model, drifting, range(3))
    plain = SteepestDescent(model, lr=0.1)
    plain.load_state_dict(copy.deepcopy(drifting.state_dict()))
    assert list(plain.masses().values()) == [atom.mass for atom in (model[0], model[1], model[-1])]


def test_a_state_without_drift_is_refused():
    model = mlp()
    plain, drifting = (
        SteepestDescent(model, lr=0.1),
        SteepestDescent(model, lr=0.1, adapt_masses=RATE),
    )
    with pytest.raises(StateMismatchError, match=LAST_UPDATE):
        drifting.load_state_dict(plain.state_dict())


@pytest.mark.parametrize(
    ("rate", "error"), [(-0.1, ValueError), (math.nan, ValueError), ("fast", TypeError)]
)
def test_a_rate_that_makes_no_sense_is_refused(rate, error):
    with pytest.raises(error, match="adapt_masses"):
        SteepestDescent(mlp(), lr=0.1, adapt_masses=rate)
