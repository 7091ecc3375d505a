"""Rules are classes: those of the arguments, combined ones, and one of a user's own."""

import copy
import pickle
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from modula import Linear, SteepestDescent, Update
from modula.optim import (
    Adam,
    AsDirection,
    Dualized,
    Momentum,
    Normalized,
    Rule,
    StateMismatchError,
    Step,
)
from modula.scaling import working_dtype
from tests.helpers import close
from tests.optim.helpers import frozen_copy, loss_of, mlp, same, train

EQUAL = [
    ({}, Dualized()),
    ({"momentum": 0.5, "nesterov": False}, Dualized(Momentum(0.5, nesterov=False))),
    ({"method": "svd"}, Dualized(method="svd")),
    ({"normalize": True}, Normalized(AsDirection(Momentum()))),
    ({"normalize": True, "base": "adam"}, Normalized(Adam())),
    (
        {"normalize": True, "base": "adam", "betas": (0.5, 0.8), "eps": 1e-3},
        Normalized(Adam((0.5, 0.8), 1e-3)),
    ),
]


@pytest.mark.parametrize(("arguments", "rule"), EQUAL, ids=lambda one: str(one)[:40])
def test_arguments_stand_for_a_rule(arguments, rule):
    model = mlp()
    twin = copy.deepcopy(model)
    by_arguments, by_rule = (
        SteepestDescent(model, 0.1, **arguments),
        SteepestDescent(twin, 0.1, rule=rule),
    )
    assert by_arguments.rule == rule
    train(model, by_arguments, range(4))
    train(twin, by_rule, range(4))
    assert same(model.weights, twin.weights)


@dataclass(frozen=True)
class Lion(Rule):
    """The sign of a mixture of average and gradient, for directions, dualized (a user's own)."""

    beta: float = 0.9

    def buffers(self, p: Tensor) -> Mapping[str, torch.dtype]:
        return {"average": working_dtype(p.dtype)}

    def defaults(self) -> Mapping[str, object]:
        return {"beta": self.beta}

    def __call__(self, step: Step) -> Update:
        average = step.buffers("average")
        torch._foreach_lerp_(
            average, list(step.gradient.tensors), step.choose(1 - step.number("beta"), 0.0)
        )
        mixed = type(step.gradient).from_tensors(step.gradient.names, average)
        return step.plan.dualize(mixed, step.lr)


def test_a_rule_of_ones_own_moves_by_its_update():
    model = mlp()
    twin = copy.deepcopy(model)
    optimizer = SteepestDescent(model, 0.1, rule=Lion(0.5))
    average = None
    for seed in range(3):
        gradient = twin.gradient(loss_of(twin, seed))
        average = 0.5 * gradient if average is None else 0.5 * average + 0.5 * gradient
        twin.weights -= twin.dualize(average, 0.1)
        train(model, optimizer, range(seed, seed + 1))
    for ours, theirs in zip(model.weights.tensors, twin.weights.tensors, strict=True):
        close(ours, theirs)


def test_the_settings_of_a_rule_are_the_group_s_and_are_read_anew():
    model = mlp()
    twin = copy.deepcopy(model)
    optimizer = SteepestDescent(model, 0.1, rule=Lion(0.5))
    assert optimizer.param_groups[0]["beta"] == 0.5
    optimizer.param_groups[0]["beta"] = 0.25
    train(model, optimizer, range(3))
    train(twin, SteepestDescent(twin, 0.1, rule=Lion(0.25)), range(3))
    assert same(model.weights, twin.weights)


@pytest.mark.parametrize(
    ("rule", "settings"),
    [(Dualized(), {"momentum", "nesterov"}), (Normalized(Adam()), {"betas", "eps"})],
)
def test_a_group_has_the_settings_of_its_rule_alone(rule, settings):
    group = SteepestDescent(mlp(), 0.1, rule=rule).param_groups[0]
    assert {"momentum", "nesterov", "betas", "eps"} & set(group) == settings


def test_one_cycle_turns_the_momentum_that_is_used():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=10, base_momentum=0.5, max_momentum=0.9
    )
    assert optimizer.param_groups[0]["momentum"] == 0.9
    train(model, optimizer, range(1))
    schedule.step()
    assert 0.5 < optimizer.param_groups[0]["momentum"] < 0.9


def test_a_rejected_step_leaves_a_rule_of_ones_own_as_it_was():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, rule=Lion(), nonfinite="skip")
    train(model, optimizer, range(2))
    before = frozen_copy(model)
    kept = [optimizer.state[p]["average"].clone() for p in model.parameters()]
    optimizer.zero_grad()
    (loss_of(model, 0) * float("nan")).backward()
    optimizer.step()
    assert same(model.weights, before)
    for p, average in zip(model.parameters(), kept, strict=True):
        assert torch.equal(optimizer.state[p]["average"], average)


@pytest.mark.parametrize(
    "beside",
    [
        {"momentum": 0.5},
        {"nesterov": False},
        {"normalize": True},
        {"base": "adam"},
        {"betas": (0.5, 0.5)},
        {"eps": 1e-3},
        {"method": "svd"},
    ],
    ids=lambda beside: next(iter(beside)),
)
def test_arguments_beside_a_rule_are_refused(beside):
    with pytest.raises(ValueError, match=r"has its own settings, and .*would have no effect"):
        SteepestDescent(mlp(), 0.1, rule=Dualized(), **beside)


def test_what_is_not_a_rule_is_refused():
    with pytest.raises(TypeError, match=r"rule is one of modula\.optim's.*got str"):
        SteepestDescent(mlp(), 0.1, rule="adam")


@pytest.mark.parametrize(
    "make", [lambda: Momentum(1.0), lambda: Adam((0.9, 1.0)), lambda: Adam(eps=-1.0)]
)
def test_a_setting_out_of_range_is_refused_by_the_rule(make):
    with pytest.raises(ValueError, match=r"at least 0|below 1"):
        make()


def test_a_rule_is_pickled_with_the_optimizer():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, rule=Lion(0.5))
    train(model, optimizer, range(2))
    twin = pickle.loads(pickle.dumps(optimizer))
    assert twin.rule == Lion(0.5)
    train(twin.model, twin, range(2, 4))
    train(model, optimizer, range(2, 4))
    assert same(model.weights, twin.model.weights)


def test_the_state_of_another_rule_is_refused():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, rule=Lion())
    train(model, optimizer, range(1))
    with pytest.raises(StateMismatchError, match="momentum_buffer"):
        SteepestDescent(mlp(), 0.1).load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("arguments", [{}, {"normalize": True}], ids=["dualized", "normalized"])
def test_sums_of_float16_gradients_do_not_overflow(arguments):
    dtype = torch.float16
    model = Linear(8, 8).to(dtype)
    optimizer = SteepestDescent(model, lr=0.1, **arguments)
    largest = torch.full((8, 8), 0.9 * torch.finfo(dtype).max, dtype=torch.float64)
    for _ in range(3):
        model.weight.grad = largest.to(dtype)
        optimizer.step()
    kept = optimizer.state[model.weight]["momentum_buffer"]
    assert kept.dtype == torch.float32
    assert model.weight.isfinite().all()


def test_a_sum_in_bfloat16_weights_forgets():
    """In 16 bits it would stop where momentum·m rounds to m, and keep an old direction for ever."""
    model = Linear(4, 4).bfloat16()
    optimizer = SteepestDescent(model, lr=0.0, momentum=0.99, nesterov=False)
    old, new = torch.eye(4), torch.ones(4, 4)
    for gradient, steps in ((old, 50), (new, 1000)):
        for _ in range(steps):
            model.weight.grad = gradient.bfloat16()
            optimizer.step()
    kept = optimizer.state[model.weight]["momentum_buffer"]
    close(kept / 100, new, rtol=1e-3)
