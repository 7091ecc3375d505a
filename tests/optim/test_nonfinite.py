"""Gradients that hold a NaN or an infinity."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import Gradient, Linear, SteepestDescent
from modula.optim import (
    Ball,
    Cautious,
    CautiousDecay,
    Dualized,
    KeepFrobenius,
    Projected,
    SecondMoments,
    Sphere,
    Steepest,
    Whitened,
)
from tests.helpers import random_gradient
from tests.optim.helpers import frozen_copy, loss_of, mlp, same, train
from tests.optim.test_steepest_descent import assign

RULES = {
    "dualized": {},
    "normalized": {"normalize": True},
    "adam": {"normalize": True, "base": "adam"},
    "adaptive": {"adapt_masses": 0.1},
    "cautious": {"rule": Cautious(), "decay": CautiousDecay()},
    "second moments": {"rule": SecondMoments()},
    "rows of Frobenius norms": {"rule": SecondMoments(rescaling=KeepFrobenius())},
    "whitened": {"rule": Dualized(Whitened(every=2))},
    "steepest": {"rule": Steepest()},
    "ball": {"constraint": Ball(0.5)},
    "sphere": {"constraint": Sphere(1.0)},
    "projected": {"constraint": Projected()},
}
every_rule = pytest.mark.parametrize("rule", RULES)
poison = st.tuples(
    st.integers(0, 2),
    st.integers(0, 10**6),
    st.sampled_from([float("nan"), float("inf"), -float("inf")]),
)


def poisoned(model, places):
    """A random gradient with bad entries: which parameter, which entry, which value."""
    gradient = random_gradient(model, 5)
    for i, entry, value in places:
        flat = gradient.tensors[i].view(-1)
        flat[entry % len(flat)] = value
    return gradient


def state_of(optimizer):
    return [
        {k: v.clone() for k, v in optimizer.state[p].items()}
        for p in optimizer.param_groups[0]["params"]
    ]


def unchanged(optimizer, before):
    return all(
        torch.equal(now[k], then[k])
        for now, then in zip(state_of(optimizer), before, strict=True)
        for k in then
    )


@every_rule
@given(places=st.lists(poison, min_size=1, max_size=4), steps=st.integers(0, 2))
def test_skip_changes_nothing_and_counts(rule, places, steps):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, weight_decay=0.1, nonfinite="skip", **RULES[rule])
    train(model, optimizer, range(steps))
    weights, state = frozen_copy(model), state_of(optimizer)
    assign(model, poisoned(model, places))
    optimizer.step()
    assert same(model.weights, weights)
    assert unchanged(optimizer, state)
    assert optimizer.skipped == 1


@every_rule
def test_after_a_skip_training_goes_on_as_if_it_had_not_been(rule):
    model, twin = mlp(torch.float32), mlp(torch.float32)
    twin.weights = model.weights
    optimizer, other = (
        SteepestDescent(m, 0.1, nonfinite="skip", **RULES[rule]) for m in (model, twin)
    )
    train(model, optimizer, range(2))
    assign(model, poisoned(model, [(1, 0, float("nan"))]))
    optimizer.step()
    train(model, optimizer, range(2, 4))
    train(twin, other, range(4))
    assert same(model.weights, twin.weights)
    assert (optimizer.skipped, other.skipped) == (1, 0)


@every_rule
def test_a_skip_first_of_all(rule):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, nonfinite="skip", **RULES[rule])
    before = frozen_copy(model)
    assign(model, poisoned(model, [(0, 0, float("inf"))]))
    optimizer.step()
    assert same(model.weights, before)


@every_rule
@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_gradients_are_handled_as_by_propagate(rule, nonfinite, dtype):
    model, twin = mlp(dtype), mlp(dtype)
    twin.weights = model.weights
    train(model, SteepestDescent(model, 0.1, nonfinite=nonfinite, **RULES[rule]), range(3))
    train(twin, SteepestDescent(twin, 0.1, **RULES[rule]), range(3))
    assert same(model.weights, twin.weights)


# the steps of `Steepest` are as long as the gradient is large
@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"steepest"}))
@pytest.mark.parametrize("size", [1e34, 1e36, 3e38])
def test_sums_of_gradients_that_pass_do_not_overflow(rule, size):
    model = mlp(torch.float32)
    optimizer = SteepestDescent(model, 0.1, nonfinite="skip", **RULES[rule])
    for _ in range(30):
        gradient = {n: g.tanh() for n, g in random_gradient(model, 0).items()}
        assign(model, size * Gradient(gradient))
        optimizer.step()
    assert all(w.isfinite().all() for w in model.weights.tensors)
    kept = [t for state in state_of(optimizer) for t in state.values()]
    assert all(t.isfinite().all() for t in kept)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_largest_gradient_that_passes(dtype):
    # in the dtype of averages, which for 16 bits is float32
    average = torch.float32 if dtype.itemsize == 2 else dtype
    model = Linear(2, 2).to(dtype)
    optimizer = SteepestDescent(model, 0.1, nonfinite="skip")
    values = [torch.finfo(dtype).max, torch.finfo(average).max / 2**15]
    skipped = [0.0 if dtype == torch.float16 else 1.0, 0.0]
    for value, expected in zip(values, skipped, strict=True):
        before = optimizer.skipped.item()
        model.weight.grad = torch.full((2, 2), min(value, torch.finfo(dtype).max), dtype=dtype)
        optimizer.step()
        assert optimizer.skipped.item() - before == expected


def test_propagate_lets_it_through():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    assign(model, poisoned(model, [(2, 3, float("nan"))]))
    optimizer.step()
    assert model.weights.tensors[2].isnan().any()
    assert model.weights.tensors[0].isfinite().all()


@every_rule
@given(places=st.lists(poison, min_size=1, max_size=3))
def test_raise_names_the_parameters_and_changes_nothing(rule, places):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, weight_decay=0.1, nonfinite="raise", **RULES[rule])
    train(model, optimizer, range(1))
    weights, state = frozen_copy(model), state_of(optimizer)
    assign(model, poisoned(model, places))
    with pytest.raises(FloatingPointError) as caught:
        optimizer.step()
    bad = {i for i, _, _ in places}
    assert [repr(name) in str(caught.value) for name in model.weights.names] == [
        i in bad for i in range(3)
    ]
    assert same(model.weights, weights)
    assert unchanged(optimizer, state)


def test_skip_reads_nothing_back():
    """Under a meta device there is nothing to read: every number stays a tensor."""
    model = mlp().to("meta")
    optimizer = SteepestDescent(
        model, torch.tensor(0.1, device="meta"), weight_decay=0.1, nonfinite="skip"
    )
    assign(
        model,
        random_gradient(mlp(), 0).__class__(
            {n: torch.empty_like(w) for n, w in model.weights.items()}
        ),
    )
    optimizer.step()
    assert optimizer.skipped.is_meta


def test_a_large_finite_gradient_is_no_infinity():
    model = mlp(torch.float32)
    optimizer = SteepestDescent(model, 0.1, nonfinite="raise")
    loss_of(model, 0).backward()
    for p in model.parameters():
        p.grad.mul_(1e30)
    before = frozen_copy(model)
    optimizer.step()
    changes = (model.weights - before).tensors
    assert all(change.isfinite().all() and change.any() for change in changes)
