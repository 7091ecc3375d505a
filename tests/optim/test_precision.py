"""Autocast, and weights of 16 bits with their master copies."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import SteepestDescent
from modula.optim.master_weights import MASTER
from tests.helpers import random_gradient
from tests.optim.helpers import frozen_copy, loss_of, mlp, same, train
from tests.optim.test_nonfinite import RULES, every_rule, state_of, unchanged
from tests.optim.test_steepest_descent import assign
from tests.optim.test_torch_conventions import saved

LOW = [torch.bfloat16, torch.float16]
low = pytest.mark.parametrize("dtype", LOW)


def repeat(model, optimizer, steps):
    """Steps along one and the same gradient."""
    for _ in range(steps):
        assign(model, random_gradient(model, 0))
        optimizer.step()


# Autocast


def test_weights_gradients_and_averages_stay_in_float32_under_autocast():
    model = mlp(torch.float32)
    optimizer = SteepestDescent(model, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(model, 0)
    loss.backward()
    optimizer.step()
    kept = [state["momentum_buffer"] for state in optimizer.state.values()]
    assert {t.dtype for t in [*model.parameters(), *kept]} == {torch.float32}
    assert not any(MASTER in state for state in optimizer.state.values())


def test_training_under_autocast_stays_near_float32():
    model = mlp(torch.float32)
    twin = copy.deepcopy(model)
    optimizer = SteepestDescent(model, 0.05, method="svd")
    for seed in range(5):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, seed)
        loss.backward()
        optimizer.step()
    train(twin, SteepestDescent(twin, 0.05, method="svd"), range(5))
    assert abs(loss_of(model, 9) - loss_of(twin, 9)) < 0.05


# Master copies


@low
def test_small_steps_add_up(dtype):
    """Each step is far below the spacing of the weights, and without a master copy would be rounded
    away.
    """
    model = mlp(dtype)
    before = frozen_copy(model)
    optimizer = SteepestDescent(model, 1e-4, momentum=0.0, method="svd")
    repeat(model, optimizer, 200)
    expected = model.dualize(random_gradient(model, 0), 200 * 1e-4, method="svd")
    for w, start, u in zip(model.weights.tensors, before.tensors, expected.tensors, strict=True):
        spacing = torch.finfo(dtype).eps * (start.abs() + u.abs()).double()
        assert (
            (start.double() - u.double() - w.double()).abs() <= spacing + 0.01 * u.abs().double()
        ).all()


@every_rule
@low
def test_the_parameter_is_its_master_rounded(rule, dtype):
    model = mlp(dtype)
    optimizer = SteepestDescent(model, 0.1, weight_decay=0.1, **RULES[rule])
    train(model, optimizer, range(3))
    for p in model.parameters():
        master = optimizer.state[p][MASTER]
        assert master.dtype == torch.float32
        assert torch.equal(master.to(dtype), p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precise_weights_have_no_master(dtype):
    model = mlp(dtype)
    optimizer = SteepestDescent(model, 0.1)
    train(model, optimizer, range(1))
    assert not any(MASTER in state for state in optimizer.state.values())


def test_what_others_write_into_the_weights_is_where_the_next_step_starts():
    model, twin = mlp(torch.bfloat16), mlp(torch.bfloat16)
    optimizer = SteepestDescent(model, 0.1, momentum=0.0)
    train(model, optimizer, range(2))
    model.load_state_dict(twin.state_dict())
    train(model, optimizer, range(2, 3))
    train(twin, SteepestDescent(twin, 0.1, momentum=0.0), range(2, 3))
    assert same(model.weights, twin.weights)


@given(entry=st.integers(0, 29), value=st.sampled_from([0.0, 1.0, -3.0]))
def test_one_entry_written_by_others_leaves_the_rest_of_the_master_alone(entry, value):
    model = mlp(torch.bfloat16)
    optimizer = SteepestDescent(model, 1e-4)
    repeat(model, optimizer, 2)
    weight = next(model.parameters())
    master = optimizer.state[weight][MASTER].clone()
    with torch.no_grad():
        weight.view(-1)[entry] = value
    optimizer.param_groups[0]["lr"] = 0.0
    repeat(model, optimizer, 1)
    expected = master.clone()
    expected.view(-1)[entry] = value
    changed = weight.view(-1)[entry] != master.view(-1)[entry].bfloat16()
    assert torch.equal(
        optimizer.state[weight][MASTER], expected if changed else optimizer.state[weight][MASTER]
    )


@every_rule
def test_a_skipped_step_leaves_masters_alone(rule):
    model = mlp(torch.bfloat16)
    optimizer = SteepestDescent(model, 0.1, weight_decay=0.1, nonfinite="skip", **RULES[rule])
    train(model, optimizer, range(2))
    weights, state = frozen_copy(model), state_of(optimizer)
    for p in model.parameters():
        p.grad = torch.full_like(p, float("inf"))
    optimizer.step()
    assert same(model.weights, weights)
    assert unchanged(optimizer, state)


@every_rule
def test_masters_survive_a_checkpoint_with_all_their_digits(rule):
    model, twin = mlp(torch.bfloat16), mlp(torch.bfloat16)
    optimizer, other = (SteepestDescent(m, 1e-3, **RULES[rule]) for m in (model, twin))
    repeat(model, optimizer, 5)
    twin.load_state_dict(model.state_dict())
    other.load_state_dict(saved(optimizer))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(optimizer.state[p][MASTER], other.state[q][MASTER])
    repeat(model, optimizer, 5)
    repeat(twin, other, 5)
    assert same(model.weights, twin.weights)


def test_a_state_of_float32_weights_starts_the_masters_from_the_weights():
    precise, model = mlp(torch.float32), mlp(torch.bfloat16)
    before = SteepestDescent(precise, 0.1)
    train(precise, before, range(2))
    optimizer = SteepestDescent(model, 0.1)
    optimizer.load_state_dict(saved(before))
    train(model, optimizer, range(1))
    assert all(optimizer.state[p][MASTER].dtype == torch.float32 for p in model.parameters())


def test_a_state_with_masters_loads_into_float32_without_them():
    model, precise = mlp(torch.bfloat16), mlp(torch.float32)
    optimizer = SteepestDescent(model, 0.1)
    train(model, optimizer, range(2))
    other = SteepestDescent(precise, 0.1)
    other.load_state_dict(saved(optimizer))
    assert not any(MASTER in state for state in other.state.values())
    train(precise, other, range(1))


def test_a_model_of_mixed_dtypes_keeps_masters_where_they_are_needed():
    model = mlp(torch.float32)
    model[-1].bfloat16()
    optimizer = SteepestDescent(model, 0.1, weight_decay=0.1)
    repeat(model, optimizer, 2)
    assert [MASTER in optimizer.state[p] for p in model.parameters()] == [False, False, True]


def test_step_counts_move_to_the_device_of_the_parameter():
    optimizer = SteepestDescent(mlp(), 0.1)
    other = SteepestDescent(mlp().to("meta"), 0.1)
    other.load_state_dict(saved(optimizer))
    assert all(state["step"].is_meta for state in other.state.values())


def test_an_overflow_in_float16_is_left_out():
    model = mlp(torch.float16)
    optimizer = SteepestDescent(model, 0.1, nonfinite="skip")
    before = frozen_copy(model)
    (1e6 * loss_of(model, 0)).backward()
    optimizer.step()
    assert same(model.weights, before)
    assert optimizer.skipped == 1


def test_a_model_cast_after_construction_gets_its_masters_then():
    model = mlp(torch.float32)
    optimizer = SteepestDescent(model, 0.1)
    train(model, optimizer, range(1))
    model.bfloat16()
    train(model, optimizer, range(1, 2))
    assert all(torch.equal(optimizer.state[p][MASTER].bfloat16(), p) for p in model.parameters())
