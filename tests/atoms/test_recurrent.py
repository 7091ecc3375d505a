"""The recurrences of GRU and LSTM, against torch's, and what is known of their bounds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modula import GRU, LSTM, RMS, Gradient, GRUSteps, Linear, LSTMSteps, SteepestDescent
from modula.testing import check_atom, check_network
from tests.helpers import close, rand
from tests.strategies import seeds

both = pytest.mark.parametrize(
    ("kind", "steps", "torch_kind", "gates"),
    [(GRU, GRUSteps, nn.GRU, 3), (LSTM, LSTMSteps, nn.LSTM, 4)],
)


def theirs(layer, torch_kind, fan_in, d):
    """torch's layer with the weights of ours; its second bias is zero."""
    project, bias, steps = (part.weight.detach() for part in layer)
    made = torch_kind(fan_in, d, batch_first=True).double()
    with torch.no_grad():
        made.weight_ih_l0.copy_(project)
        made.weight_hh_l0.copy_(steps)
        made.bias_ih_l0.copy_(bias.flatten())
        made.bias_hh_l0.zero_()
    return made


def layer_with_biases(kind, d, fan_in, seed):
    layer = kind(d, fan_in).double()
    layer[1].weight.data.copy_(rand(seed, *layer[1].weight.shape))
    return layer


@both
@settings(max_examples=5)
@given(seed=seeds, d=st.integers(1, 5), fan_in=st.integers(1, 5), length=st.integers(1, 6))
def test_a_layer_computes_what_torch_s_does(
    kind, steps, torch_kind, gates, seed, d, fan_in, length
):
    layer = layer_with_biases(kind, d, fan_in, seed)
    x = rand(seed, 2, length, fan_in)
    expected, _ = theirs(layer, torch_kind, fan_in, d)(x)
    close(layer(x), expected)


@both
def test_a_run_goes_on_from_its_state(kind, steps, torch_kind, gates):
    layer = layer_with_biases(kind, 4, 3, 0)
    x = rand(1, 2, 6, 3)
    first, state = layer.run(x[:, :2])
    second, last = layer.run(x[:, 2:], state)
    close(torch.cat([first, second], dim=1), layer(x))
    close(last[0], layer(x)[:, -1])


@both
def test_later_inputs_do_not_reach_earlier_outputs(kind, steps, torch_kind, gates):
    layer, x = layer_with_biases(kind, 4, 3, 0), rand(1, 2, 6, 3)
    changed = x.clone()
    changed[:, 4:] += 1
    close(layer(changed)[:, :4], layer(x)[:, :4])


@both
@settings(max_examples=10)
@given(seed=seeds, size=st.sampled_from([0.1, 1.0, 100.0]))
def test_no_output_exceeds_one(kind, steps, torch_kind, gates, seed, size):
    atom = steps(4).double()
    atom.weight.data.mul_(size)
    y = atom(size * rand(seed, 2, 7, gates, 4))
    assert y.abs().max() <= 1.0
    assert RMS.measure(y) <= atom.radius(1.0)


def test_the_radius_is_approached_where_the_gates_are_open():
    x = torch.full((1, 50, 4, 3), 30.0).double()
    atom = LSTMSteps(3).double()
    close(RMS.measure(atom(x)), 1.0, rtol=1e-6)


@both
def test_the_sensitivity_is_the_gain_at_the_origin_over_many_steps(kind, steps, torch_kind, gates):
    """With a recurrent weight of identities, and a constant input of one direction."""
    atom = steps(3).double()
    atom.weight.data.copy_(torch.eye(3).double().repeat(gates, 1))
    x = torch.full((1, 200, gates, 3), 1e-6).double()
    close(RMS.measure(atom(x)) / 1e-6, atom.sensitivity, rtol=1e-3)


@both
def test_the_laws_of_atoms_hold_for_small_inputs(kind, steps, torch_kind, gates):
    check_atom(steps(3), 1e-3 * rand(0, 2, 4, gates, 3), steps=3)


@both
def test_each_gate_moves_as_a_linear_of_its_own(kind, steps, torch_kind, gates):
    atom = steps(5)
    gradient = rand(0, gates * 5, 5, dtype=torch.float32)
    update = atom.dualize(Gradient({"weight": gradient}))["weight"]
    for own, g in zip(update.chunk(gates), gradient.chunk(gates), strict=True):
        alone = Linear(5, 5).dualize(Gradient({"weight": g}))["weight"]
        close(own, alone, rtol=0, atol=1e-6)


@both
def test_a_layer_obeys_the_laws_of_networks_and_trains(kind, steps, torch_kind, gates):
    torch.manual_seed(0)
    model = Linear(2, 4) @ kind(4, 3)
    x = torch.randn(2, 5, 3)
    check_network(model, x, steps=2)
    optimizer = SteepestDescent(model, lr=0.3)
    losses = []
    for _ in range(10):
        loss = (torch.compile(model, backend="eager")(x) - 0.5).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


@both
def test_inputs_of_another_number_of_gates_are_refused(kind, steps, torch_kind, gates):
    with pytest.raises(ValueError, match=f"of {gates} gates"):
        steps(3)(torch.ones(2, 5, gates + 1, 3))
    with pytest.raises(ValueError, match=r"takes RMS\(3\)"):
        steps(3)(torch.ones(2, 5, gates, 4))
