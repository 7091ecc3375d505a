"""Duality gives the same numbers in whatever mode of torch the caller's code runs."""

import contextlib
from functools import partial

import pytest
import torch
from torch import nn

import modula
from modula import GPT, L1, RMS, Embed, FunctionBond, Linear, Linf, ReLU, SteepestDescent
from modula.geometry import operator_geometry
from modula.instruments import sensitivity
from modula.optim import Adam, Cautious, Dualized, Normalized, SecondMoments, Sphere, Whitened
from modula.polar import orthogonalize
from modula.testing import (
    check_atom,
    check_bond,
    check_geometry,
    check_method,
    check_network,
    check_norm,
)
from tests.helpers import random_gradient, random_update
from tests.optim.helpers import same


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: torch.device("cpu"),
    "another default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "deterministic": deterministic,
    "gradients": torch.enable_grad,
}
in_every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def model():
    torch.manual_seed(0)
    return GPT(11, d_embed=32, num_heads=2, num_blocks=1)


@in_every_mode
def test_what_a_network_computes(mode):
    network = model()
    gradient, update = random_gradient(network, 0), random_update(network, 1)
    outside = [
        *network.dualize(gradient).tensors,
        *network.normalize(update, 0.1).tensors,
        network.norm(update),
        network.dual_norm(gradient),
    ]
    with mode():
        inside = [
            *network.dualize(gradient).tensors,
            *network.normalize(update, 0.1).tensors,
            network.norm(update),
            network.dual_norm(gradient),
        ]
    for here, there in zip(inside, outside, strict=True):
        assert torch.equal(here, there)


@in_every_mode
def test_a_projection(mode):
    network, twin = model(), model()
    network.project()
    with mode():
        twin.project()
    assert same(network.weights, twin.weights)


@in_every_mode
def test_an_orthogonal_factor(mode):
    G = torch.randn(3, 64, 40)
    outside = orthogonalize(G)
    with mode():
        inside = orthogonalize(G)
    assert torch.equal(inside, outside)


@in_every_mode
def test_a_step_of_the_optimizer(mode):
    network, twin = model(), model()
    for each in (network, twin):
        for p, g in zip(each.parameters(), random_gradient(each, 3).tensors, strict=True):
            p.grad = g.clone()
    optimizers = [SteepestDescent(each, 0.1, weight_decay=0.1) for each in (network, twin)]
    optimizers[0].step()
    with mode():
        optimizers[1].step()
    assert same(network.weights, twin.weights)


RULES = {
    "adaptive masses": {"adapt_masses": 0.1},
    "Adam": {"rule": Normalized(Adam())},
    "a cautious rule on a sphere": {"rule": Cautious(Dualized()), "constraint": Sphere(1.0)},
    "second moments": {"rule": SecondMoments(), "nonfinite": "skip"},
    "whitening": {"rule": Dualized(Whitened(every=2))},
}


@in_every_mode
@pytest.mark.parametrize("arguments", RULES.values(), ids=RULES)
def test_steps_of_other_rules_and_their_states(arguments, mode):
    network, twin = model(), model()
    optimizers = [SteepestDescent(each, 0.1, **arguments) for each in (network, twin)]
    for seed in (3, 4):
        for each in (network, twin):
            for p, g in zip(each.parameters(), random_gradient(each, seed).tensors, strict=True):
                p.grad = g.clone()
        optimizers[0].step()
        saved = optimizers[1].state_dict()
        with mode():
            optimizers[1].load_state_dict(saved)
            optimizers[1].step()
    assert same(network.weights, twin.weights)


IN_FLOAT32 = {
    name: MODES[name]
    for name in ("default dtype float64", "default dtype bfloat16", "another default device")
}


@pytest.mark.parametrize("how", ["drawn", "init", "quadrature"])
@pytest.mark.parametrize("mode", IN_FLOAT32.values(), ids=IN_FLOAT32)
def test_a_lift(mode, how):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    x = torch.randn(5, 4)
    outside = modula.lift(module, x, calibrate=how)
    with mode():
        inside = modula.lift(module, x, calibrate=how)
    assert inside.measurements() == outside.measurements()


@pytest.mark.parametrize("norm", [L1, Linf, RMS])
def test_the_sensitivity_of_a_map_under_another_default_device(norm):
    bond = FunctionBond(lambda x: x.flip(-1), domain=norm, codomain=norm, sensitivity=1.0)
    x = torch.randn(4, 5)
    outside = sensitivity(bond, x).rows[0].worst
    with torch.device("meta"):
        assert sensitivity(bond, x).rows[0].worst == outside


CHECKS = {
    "atom": partial(check_atom, Linear(3, 4), torch.randn(2, 4), steps=2),
    "bond": partial(check_bond, ReLU(), torch.randn(2, 4), steps=2),
    "geometry": partial(check_geometry, operator_geometry(RMS, RMS), (3, 4)),
    "method": partial(check_method, "svd"),
    "network": partial(
        check_network, Linear(3, 4) @ ReLU() @ Linear(4, 2), torch.randn(2, 2), steps=2
    ),
    "norm": partial(check_norm, Linf),
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_laws_are_checked_under_another_default_device(check):
    with torch.device("meta"):
        check()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_network_is_built_in_the_default_dtype(dtype):
    with default_dtype(dtype):
        network = Linear(4, 8) @ ReLU() @ Embed(8, 5)
    assert all(w.dtype == dtype and w.isfinite().all() for w in network.weights.tensors)
