"""Groups, settings and buffers that someone has changed between steps: refused, or right."""

import copy

import numpy
import pytest
import torch
from torch import nn

from modula import Linear, ReLU, StateMismatchError, SteepestDescent
from modula.optim import Sphere
from tests.helpers import assert_unchanged, snapshot


def begun(**arguments):
    """A network and its optimizer after one step, with gradients for the next."""
    torch.manual_seed(0)
    model = Linear(4, 6) @ ReLU() @ Linear(6, 6)
    optimizer = SteepestDescent(model, 0.1, **arguments)
    for _ in range(2):
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        if not optimizer.state[next(model.parameters())].get("step"):
            optimizer.step()
    return model, optimizer


def refused(model, optimizer, error, match):
    """The next step raises, and changes neither weights nor states."""
    before, states = snapshot(model), copy.deepcopy(optimizer.state_dict()["state"])
    with pytest.raises(error, match=match):
        optimizer.step()
    assert_unchanged(model, before)
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            assert torch.equal(value, states[index][name])


def test_a_group_that_was_appended_is_not_left_out_without_a_word():
    model, optimizer = begun()
    extra = nn.Parameter(torch.zeros(2))
    extra.grad = torch.ones(2)
    optimizer.param_groups.append({"params": [extra], "lr": 0.1})
    refused(model, optimizer, RuntimeError, "one parameter group, and now has 2")


@pytest.mark.parametrize("name", ["lr", "momentum", "nesterov", "weight_decay", "skipped"])
def test_a_setting_that_was_removed(name):
    model, optimizer = begun()
    del optimizer.param_groups[0][name]
    refused(model, optimizer, ValueError, f"the parameter group lacks '{name}'")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "momentum_buffer"),
        ({"normalize": True, "base": "adam"}, "exp_avg_sq"),
        ({"adapt_masses": 0.1}, "last_update"),
    ],
)
def test_a_buffer_that_was_removed_or_replaced(arguments, name):
    model, optimizer = begun(**arguments)
    state = optimizer.state[next(model.parameters())]
    kept = state.pop(name)
    shape = rf"a parameter of shape \[{', '.join(map(str, kept.shape))}\]"
    refused(model, optimizer, StateMismatchError, f"the state of {shape} lacks '{name}'")
    state[name] = torch.zeros(1, 1)
    refused(model, optimizer, StateMismatchError, rf"'{name}' of {shape} has the shape \[1, 1\]")
    state[name] = kept.half()
    refused(model, optimizer, StateMismatchError, f"'{name}' of {shape} is torch.float16")
    state[name] = kept
    optimizer.step()


KINDS = {
    "integers": torch.zeros(6, 4, dtype=torch.int64),
    "complex": torch.zeros(6, 4, dtype=torch.complex64),
    "sparse": torch.zeros(6, 4).to_sparse(),
    "meta": torch.zeros(6, 4, device="meta"),
    "array": numpy.zeros((6, 4)),
    "list": [0.0],
    "None": None,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["momentum_buffer", "last_update", "master_weight"])
def test_a_buffer_of_another_kind(name, kind):
    model = (Linear(6, 4)).bfloat16()
    optimizer = SteepestDescent(model, 0.1, adapt_masses=0.1)
    model.weight.grad = torch.ones_like(model.weight)
    optimizer.step()
    before = snapshot(model)
    optimizer.state[model.weight][name] = KINDS[kind]
    with pytest.raises(StateMismatchError, match=f"'{name}' of a parameter"):
        optimizer.step()
    assert_unchanged(model, before)


@pytest.mark.parametrize("name", ["step", "log_mass"])
@pytest.mark.parametrize("value", [torch.ones(3), 1, "1", None, torch.tensor(1j)], ids=str)
def test_a_number_that_was_removed_or_replaced(name, value):
    model, optimizer = begun(adapt_masses=0.1)
    state, before = optimizer.state[model[0].weight], snapshot(model)
    kept = state[name]
    for broken in (lambda: state.pop(name), lambda: state.update({name: value})):
        broken()
        with pytest.raises(StateMismatchError, match=f"'{name}'"):
            optimizer.step()
        assert_unchanged(model, before)
    state[name] = kept
    optimizer.step()


def test_a_state_that_was_cleared_begins_anew():
    model, optimizer = begun()
    optimizer.state.clear()
    optimizer.step()
    for p in model.parameters():
        assert optimizer.state[p]["step"] == 1
        torch.testing.assert_close(optimizer.state[p]["momentum_buffer"], p.grad)


@pytest.mark.parametrize("steps", [("float", "double"), ("double", "half"), ("bfloat16", "float")])
def test_a_network_whose_dtype_changes_between_steps(steps):
    model, optimizer = begun(constraint=Sphere(1.0))
    for to in steps:
        getattr(model, to)()
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())
        assert all(
            optimizer.state[p]["momentum_buffer"].dtype.itemsize >= 4 for p in model.parameters()
        )
