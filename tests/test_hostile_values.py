"""Values of the wrong kind where a tensor, a number or a generator is expected: refused by name."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn
from torch.masked import masked_tensor

import modula
from modula import Embed, LiftError, Linear, ReLU, StateMismatchError, SteepestDescent
from modula.polar import orthogonalize
from tests.helpers import assert_unchanged, snapshot

NO_TENSORS = [None, 3.0, [1, 2], (torch.ones(2, 4),), np.ones((2, 4)), "text"]


@pytest.mark.parametrize("value", NO_TENSORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("model", [Linear(2, 4), ReLU() @ Linear(2, 4), Embed(3, 4)])
def test_an_input_that_is_no_tensor(model, value):
    kind = type(value).__name__
    with pytest.raises(TypeError, match=rf"(Linear|Embed)\(.*\) takes a tensor, got {kind}"):
        model(value)


@pytest.mark.filterwarnings("ignore")
def test_an_input_without_a_shape():
    nested = torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(1, 4)])
    with pytest.raises(TypeError, match=r"Linear\(2, 4\) .* got a nested tensor .*: pad it"):
        Linear(2, 4)(nested)


def test_a_nested_input_that_has_a_shape_is_taken():
    """Sequences of several lengths in torch's jagged layout, of which each row is one input."""
    model = Linear(2, 4)
    parts = [torch.randn(2, 4), torch.randn(5, 4)]
    outputs = model(torch.nested.nested_tensor(parts, layout=torch.jagged))
    for output, x in zip(outputs.unbind(), parts, strict=True):
        torch.testing.assert_close(output, model(x))


@pytest.mark.parametrize("loss", [3.0, np.float32(3), None, [torch.ones(())]])
def test_a_loss_that_is_no_tensor(loss):
    model = Linear(2, 4)
    before = snapshot(model)
    if loss is None:
        with pytest.raises(ValueError, match=r"no \.grad"):
            model.gradient(loss)
    else:
        with pytest.raises(TypeError, match=f"a scalar tensor, got {type(loss).__name__}"):
            model.gradient(loss)
    assert_unchanged(model, before)


@pytest.mark.parametrize("generator", [0, "cpu", np.random.default_rng(0)])
def test_a_generator_of_another_kind(generator):
    model = Linear(2, 4) @ ReLU() @ Linear(4, 3)
    before = snapshot(model)
    with pytest.raises(TypeError, match=r"generator is a torch\.Generator or None, got"):
        model.initialize(generator)
    assert_unchanged(model, before)


@pytest.mark.parametrize("n", [2, np.int64(2), np.uint8(2)])
def test_a_power_is_any_whole_number(n):
    assert len(list((Linear(3, 3) ** n).parameters())) == 2


@pytest.mark.parametrize("n", [-1, 2.0, True, "2", None, np.float64(2), 1 + 0j])
def test_a_power_that_is_no_whole_number(n):
    with pytest.raises(ValueError, match="the power of a module is a whole number"):
        Linear(3, 3) ** n


@pytest.mark.parametrize("number", [10**400, -(10**400), math.inf, -math.inf, math.nan])
def test_factors_beyond_all_floats(number):
    for scale in (lambda: number * Linear(3, 3), lambda: Linear(3, 3) / number):
        with pytest.raises(ValueError, match="cannot multiply a module by"):
            scale()


@pytest.mark.parametrize("number", [Fraction(1, 2), np.float16(0.5), 0.5])
def test_factors_of_every_kind_of_real_number(number):
    assert (number * Linear(3, 3)).sensitivity == 0.5
    assert (Linear(3, 3) / number).sensitivity == 2.0


@pytest.mark.filterwarnings("ignore")
def test_a_masked_tensor_is_not_orthogonalised():
    with pytest.raises(TypeError, match="a dense tensor of matrices, got a MaskedTensor"):
        orthogonalize(masked_tensor(torch.ones(3, 3), torch.ones(3, 3) > 0))


@pytest.mark.parametrize("state", [None, [], "state", 3, [("state", {}), ("param_groups", [])]])
def test_a_state_that_is_no_dict(state):
    model = Linear(3, 3)
    optimizer = SteepestDescent(model, 0.1)
    before = optimizer.state_dict()
    with pytest.raises(StateMismatchError, match="an optimizer's state is a dict"):
        optimizer.load_state_dict(state)
    assert optimizer.state_dict().keys() == before.keys()
    assert not optimizer.state[model.weight]["momentum_buffer"].any()


@pytest.mark.parametrize("policy", [["skip"], {}, None, "ignore", 1])
def test_a_policy_of_another_kind(policy):
    with pytest.raises(ValueError, match="nonfinite is one of"):
        SteepestDescent(Linear(2, 2), 0.1, nonfinite=policy)


@pytest.mark.parametrize("group", ["world", 3, [0, 1]])
def test_a_process_group_of_another_kind(group):
    with pytest.raises(TypeError, match=r"process_group is one of torch\.distributed's"):
        SteepestDescent(Linear(2, 2), 0.1, process_group=group)


def test_examples_without_entries_are_not_lifted():
    """All weights had mass 0 then, as if their effect were rounding."""
    with pytest.raises(LiftError, match="no output of the model has an entry"):
        modula.lift(nn.Linear(2, 2), torch.ones(0, 2))
