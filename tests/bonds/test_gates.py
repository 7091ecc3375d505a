"""Gates: products with bounds, where and only where their conditions hold."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import (
    GEGLU,
    L1,
    L2,
    RMS,
    ChannelRMS,
    Gate,
    GatedTanh,
    Linear,
    Linf,
    NormPairError,
    OneHot,
    Sigmoid,
    SiLU,
    SwiGLU,
)
from modula.spaces import Product, Space, measure
from modula.testing import check_bond, check_network
from tests.helpers import close, largest_gain, rand
from tests.strategies import seeds

VALUES = [RMS, L1, L2, Linf]


def scaled(norm, x):
    """The tensor, rescaled to norm 1."""
    return x / norm.measure(x)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("gate", [Linf, L1, L2])
@settings(max_examples=4)
@given(seed=seeds)
def test_a_product_with_a_gate_whose_norm_bounds_its_entries_keeps_its_bounds(value, gate, seed):
    bond = Gate(value, gate)
    x = scaled(value, rand(seed, 2, 4)), scaled(gate, rand(seed + 1, 2, 4))
    ratios = check_bond(bond, x, steps=5)
    assert ratios.input <= 1 + 1e-9
    assert ratios.radius <= 1 + 1e-9


@settings(max_examples=8)
@given(seed=seeds)
def test_a_product_in_rms_keeps_its_bounds_for_entries_of_at_most_one(seed):
    x = rand(seed, 2, 4).clamp(-1, 1), rand(seed + 1, 2, 4).clamp(-1, 1)
    ratios = check_bond(Gate(), x, steps=5)
    assert ratios.input <= 1 + 1e-9
    assert ratios.radius <= 1 + 1e-9


def test_the_bound_in_rms_is_reached_at_one_and_exceeded_by_a_larger_entry():
    ones, spike = torch.ones(1, 4).double(), torch.tensor([[2.0, 0.0, 0.0, 0.0]]).double()
    close(check_bond(Gate(), (ones, ones)).input, 1.0)
    close(check_bond(Gate(), (spike, spike)).input, 2.0)  # of RMS 1, whose entry is √d


def test_the_gain_grows_with_the_root_of_the_width_for_inputs_of_rms_one():
    for d in (4, 16, 64):
        spike = torch.zeros(1, d).double()
        spike[0, 0] = math.sqrt(d)
        close(check_bond(Gate(), (spike, spike)).radius, math.sqrt(d))


@pytest.mark.parametrize("norm", [RMS, Linf])
@settings(max_examples=8)
@given(seed=seeds, size=st.sampled_from([0.1, 1.0, 30.0]))
def test_a_gated_tanh_stretches_no_pair(norm, seed, size):
    space = Space(norm)
    x = size * rand(seed, 2, 4), size * rand(seed + 1, 2, 4)
    signature = Product((space, space)), space
    assert largest_gain(GatedTanh(), x, signature) <= 1 + 1e-9


def test_a_gated_tanh_reaches_its_bound_where_the_gate_is_open():
    x = torch.zeros(1, 4).double(), torch.full((1, 4), 40.0).double()
    close(check_bond(GatedTanh(), x).input, 1.0)


@settings(max_examples=8)
@given(seed=seeds, size=st.sampled_from([0.1, 1.0, 30.0]))
def test_a_sigmoid_is_proved(seed, size):
    ratios = check_bond(Sigmoid(), size * rand(seed, 2, 4), steps=5)
    assert max(ratios.input, ratios.radius) <= 1 + 1e-9


def test_the_bounds_of_a_sigmoid_are_reached_at_zero():
    ratios = check_bond(Sigmoid(), torch.zeros(1, 4))
    close(ratios.input, 1.0)
    close(ratios.radius, 1.0)


def test_a_gate_multiplies():
    value, gate = rand(0, 3), rand(1, 3)
    close(
        Gate()((value, gate)), [v * g for v, g in zip(value.tolist(), gate.tolist(), strict=True)]
    )


def test_the_widths_of_value_and_gate_are_one():
    hidden = Gate() @ (Linear(6, 4), SiLU() @ Linear(6, 4))
    assert str(hidden.codomain) == "RMS(6)"
    assert str((Linear(2, 5) @ Gate(RMS, Linf)).domain) == "(RMS(5), Linf(5))"


def test_images_are_gated():
    x = rand(0, 2, 3, 4, 4).clamp(-1, 1)
    assert check_bond(Gate(ChannelRMS), (x, x)).input <= 1 + 1e-9


def test_tensors_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"of one shape, got \[2, 3\] and \[2, 1\]"):
        Gate()((torch.ones(2, 3), torch.ones(2, 1)))


@pytest.mark.parametrize(("value", "gate"), [(L1, RMS), (RMS, ChannelRMS), (Linf, RMS)])
def test_a_pair_of_norms_without_a_bound_is_refused(value, gate):
    with pytest.raises(NormPairError, match="has no bound"):
        Gate(value, gate)


def test_ids_are_no_gate():
    with pytest.raises(TypeError, match="real vectors"):
        Gate(OneHot)


@pytest.mark.parametrize("kind", [SwiGLU, GEGLU])
def test_a_gated_mlp_is_its_formula(kind):
    mlp = kind(3, 4, width=6).double()
    up, gate, down = mlp.weights.tensors
    x = rand(0, 5, 4)
    phi = {SwiGLU: torch.nn.functional.silu, GEGLU: torch.nn.functional.gelu}[kind]
    slope = float(torch.func.vmap(torch.func.grad(phi))(torch.linspace(0, 4, 40001).double()).max())
    expected = ((x @ up.T) * phi(x @ gate.T) / slope / 2) @ down.T
    close(mlp(x), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", [SwiGLU, GEGLU])
def test_a_gated_mlp_obeys_the_laws_of_networks_and_has_sensitivity_one(kind):
    mlp = kind(3, 4, width=6)
    close(mlp.sensitivity, 1.0)
    check_network(mlp, torch.randn(5, 4), steps=5)


def test_the_radius_of_a_gate_in_linf_is_at_most_that_of_both():
    network = Gate(RMS, Linf) @ (Linear(4, 4), Linear(4, 4, codomain=Linf))
    x = scaled(RMS, rand(0, 3, 4))
    network = network.double()
    assert measure(network.codomain, network(x)) <= network.graph().radii()[-1]
