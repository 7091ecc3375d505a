"""Duality gives the same numbers in whatever mode of torch the caller's code runs."""

import contextlib

import pytest
import torch

from modula import GPT, Embed, Linear, ReLU, SteepestDescent
from modula.polar import orthogonalize
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_network_is_built_in_the_default_dtype(dtype):
    with default_dtype(dtype):
        network = Linear(4, 8) @ ReLU() @ Embed(8, 5)
    assert all(w.dtype == dtype and w.isfinite().all() for w in network.weights.tensors)
