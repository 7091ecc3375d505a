"""Which entries decay, and where the weights are after each step."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import Linear, SteepestDescent
from modula.optim import (
    Ball,
    CautiousDecay,
    Constraint,
    Decay,
    Dualized,
    Momentum,
    Projected,
    Sphere,
)
from tests.helpers import close, random_gradient
from tests.optim.helpers import frozen_copy, mlp, same, train
from tests.optim.test_steepest_descent import assign


def test_cautious_decay_of_a_matrix():
    model = Linear(5, 3).double()
    twin = copy.deepcopy(model)
    rule = Dualized(Momentum(0.0), "svd")
    g = random_gradient(model, 0)
    for each, optimizer in (
        (
            model,
            SteepestDescent(model, 0.1, rule=rule, weight_decay=0.3, decay=CautiousDecay()),
        ),
        (twin, SteepestDescent(twin, 0.1, rule=rule)),
    ):
        w = each.weight.detach().clone()
        assign(each, g.clone())
        optimizer.step()
    u = w - twin.weight.detach()  # what is subtracted without decay
    decayed = 0.1 * 0.3 * w * (u * w >= 0)
    close(model.weight, w - u - decayed, rtol=1e-12)
    assert 0 < (u * w >= 0).sum() < w.numel()


@given(seed=st.integers(0, 1000), decay=st.floats(0, 1))
def test_cautious_decay_brings_no_entry_against_its_update(seed, decay):
    """Beside the update it moves entries towards zero, and those alone that the update does."""
    model = mlp()
    twin = copy.deepcopy(model)
    optimizer = SteepestDescent(model, 0.1, weight_decay=decay, decay=CautiousDecay())
    other = SteepestDescent(twin, 0.1)
    before = frozen_copy(model)
    for each, one in ((model, optimizer), (twin, other)):
        assign(each, random_gradient(each, seed))
        one.step()
    for w, v, old in zip(model.weights.tensors, twin.weights.tensors, before.tensors, strict=True):
        extra, update = v - w, old - v
        assert (extra * old).min() >= -1e-12
        assert (extra * update).min() >= -1e-12


def test_decay_of_all_entries_is_the_default():
    model = mlp()
    twin = copy.deepcopy(model)
    train(model, SteepestDescent(model, 0.1, weight_decay=0.2), range(3))
    train(twin, SteepestDescent(twin, 0.1, weight_decay=0.2, decay=Decay()), range(3))
    assert same(model.weights, twin.weights)


class Halved(Decay):
    """Half of the usual decay (a user's own)."""

    def __call__(self, weights, update, step):
        return 0.5 * super().__call__(weights, update, step)


def test_a_decay_of_ones_own():
    model = mlp()
    twin = copy.deepcopy(model)
    train(model, SteepestDescent(model, 0.1, weight_decay=0.2, decay=Halved()), range(3))
    train(twin, SteepestDescent(twin, 0.1, weight_decay=0.1), range(3))
    for w, e in zip(model.weights.tensors, twin.weights.tensors, strict=True):
        close(w, e, rtol=1e-12)


# Constraints


@given(seed=st.integers(0, 1000), lr=st.floats(0.01, 3), radius=st.floats(0.1, 3))
def test_weights_stay_in_the_ball(seed, lr, radius):
    model = mlp()
    optimizer = SteepestDescent(model, lr, constraint=Ball(radius))
    for k in range(3):
        assign(model, random_gradient(model, seed + k))
        optimizer.step()
        norms = model.plan().norms(model.weights.tensors)
        assert norms.max() <= radius * (1 + 1e-9)


@given(seed=st.integers(0, 1000), lr=st.floats(1e-3, 0.1))
def test_a_step_that_ends_in_the_ball_is_left_as_it_is(seed, lr):
    model = mlp()
    twin = copy.deepcopy(model)
    for each, constraint in ((model, Ball(10.0)), (twin, None)):
        optimizer = SteepestDescent(each, lr, constraint=constraint)
        assign(each, random_gradient(each, seed))
        optimizer.step()
    assert same(model.weights, twin.weights)


@given(seed=st.integers(0, 1000), lr=st.floats(0.01, 3), radius=st.floats(0.1, 3))
def test_weights_stay_on_the_sphere(seed, lr, radius):
    model = mlp()
    optimizer = SteepestDescent(model, lr, constraint=Sphere(radius))
    for k in range(3):
        assign(model, random_gradient(model, seed + k))
        optimizer.step()
        norms = model.plan().norms(model.weights.tensors)
        close(norms, torch.full_like(norms, radius), rtol=1e-9)


@given(seed=st.integers(0, 1000), lr=st.floats(0.01, 3), radius=st.floats(0.3, 3))
@pytest.mark.parametrize("kind", [Ball, Sphere])
def test_a_step_from_within_the_constraint_is_at_most_twice_as_long(kind, seed, lr, radius):
    model = mlp()
    optimizer = SteepestDescent(model, lr, constraint=kind(radius))
    assign(model, random_gradient(model, seed))
    optimizer.step()  # brings the weights there
    for k in (1, 2):
        before = frozen_copy(model)
        assign(model, random_gradient(model, seed + k))
        optimizer.step()
        assert model.norm(model.weights - before) <= 2 * lr * (1 + 2e-3)


@pytest.mark.parametrize("constraint", [Ball(0.2), Sphere(2.0)])
def test_a_constraint_keeps_the_direction_of_a_step_that_was_taken(constraint):
    model = mlp()
    twin = copy.deepcopy(model)
    for each, where in ((model, constraint), (twin, None)):
        assign(each, random_gradient(each, 0))
        SteepestDescent(each, 0.3, constraint=where).step()
    for w, e in zip(model.weights.tensors, twin.weights.tensors, strict=True):
        close(w / w.norm(), e / e.norm(), rtol=1e-9)


@pytest.mark.parametrize("radius", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("size", [1e-40, 1e-20, 1.0, 1e20, 1e38])
@pytest.mark.parametrize("kind", [Ball, Sphere])
def test_weights_and_radii_of_any_size(kind, size, radius):
    model = Linear(6, 4)
    with torch.no_grad():
        model.weight.copy_(size * torch.rand(6, 4))
    before = model.weight.detach().double()
    assign(model, random_gradient(model, 0))
    SteepestDescent(model, 0.0, constraint=kind(radius)).step()
    norm = Linear(6, 4).double().plan().norms([before]).item()
    factor = radius / norm if kind is Sphere or norm > radius else 1.0
    close(model.weight.double(), factor * before, rtol=1e-4, atol=0.0)


def test_a_zero_weight_stays_zero_on_the_sphere():
    model = Linear(3, 3).double()
    with torch.no_grad():
        model.weight.zero_()
    optimizer = SteepestDescent(model, 0.1, constraint=Sphere(1.0))
    model.weight.grad = torch.zeros(3, 3).double()
    optimizer.step()
    assert not model.weight.any()


def test_weights_are_projected_after_each_step():
    model = mlp()
    twin = copy.deepcopy(model)
    optimizer = SteepestDescent(model, 0.3, constraint=Projected())
    other = SteepestDescent(twin, 0.3)
    for seed in range(3):
        for each, one in ((model, optimizer), (twin, other)):
            assign(each, random_gradient(each, seed))
            one.step()
        twin.project()
        for w, e in zip(model.weights.tensors, twin.weights.tensors, strict=True):
            close(w, e, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("constraint", [Ball(0.1), Sphere(1.0), Projected()])
def test_frozen_weights_are_left_alone(constraint):
    model = mlp()
    with torch.no_grad():
        for w in model.weights.tensors:
            w *= 3
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    train(model, SteepestDescent(model, 0.1, constraint=constraint), range(2))
    assert torch.equal(model[0].weight, before)


def test_master_weights_are_constrained_before_they_are_rounded():
    model = Linear(8, 8).bfloat16()
    optimizer = SteepestDescent(model, 0.3, constraint=Sphere(1.0))
    model.weight.grad = torch.randn(8, 8).bfloat16()
    optimizer.step()
    master = optimizer.state[model.weight]["master_weight"]
    close(model.plan().norms([master]), torch.ones(1), rtol=1e-5)
    assert torch.equal(model.weight, master.bfloat16())


class Box(Constraint):
    """Entries between −1 and 1 (a user's own)."""

    def __call__(self, weights, step):
        for w in weights.tensors:
            w.clamp_(-1, 1)


def test_a_constraint_of_ones_own():
    model = mlp()
    train(model, SteepestDescent(model, 5.0, constraint=Box()), range(2))
    assert max(w.abs().max() for w in model.weights.tensors) == 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Ball(0.0), ValueError, "finite radius above 0, got 0.0"),
        (lambda: Sphere(float("inf")), ValueError, "finite radius above 0, got inf"),
        (lambda: Sphere("1"), TypeError, "Sphere takes a number for its radius, got str"),
        (lambda: SteepestDescent(mlp(), 0.1, decay=0.1), TypeError, "which entries decay.*float"),
        (
            lambda: SteepestDescent(mlp(), 0.1, constraint=1.0),
            TypeError,
            r"such as Sphere\(1.0\), got float",
        ),
        (lambda: SteepestDescent(mlp(), 0.1, constraint=Sphere), TypeError, "got ABCMeta"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
