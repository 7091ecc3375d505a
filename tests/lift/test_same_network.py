"""A network in the algebra and the same function as a plain torch module are one network."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import modula
from modula import (
    GELU,
    GPT,
    AvgPool,
    Conv2D,
    Embed,
    FunctionalAttention,
    Linear,
    MergeHeads,
    ReLU,
    RMSNorm,
    ScaledGELU,
    SplitIntoHeads,
    SteepestDescent,
    residual,
)
from tests.helpers import close
from tests.lift.models import features, ids, vision

VOCABULARY, WIDTH, HEADS, BLOCKS = 17, 16, 2, 2


class Both(NamedTuple):
    """A network in the algebra, the same as a torch module, and their input."""

    composed: modula.Network
    plain: nn.Module
    x: Tensor


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.c = nn.Linear(8, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = (1 - 1 / 2) * x + (1 / 2) * self.b(2.0**0.5 * F.gelu(x))
        return 3.0 * self.c(F.relu(x))


def mlp() -> Both:
    inner = Linear(8, 8) @ ScaledGELU()
    composed = 3.0 * Linear(3, 8) @ ReLU() @ residual(inner, 2) @ Linear(8, 6)
    return Both(composed, MLP(), features(6))


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(2)])
        self.head = nn.Linear(4, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x * 0.5 + block(F.relu(x)) / 2
        return self.head(F.relu(x).mean(dim=(2, 3)))


def cnn() -> Both:
    blocks = residual(Conv2D(4, 4) @ ReLU(), 2) ** 2
    composed = Linear(5, 4) @ AvgPool() @ ReLU() @ blocks @ Conv2D(4, 3)
    return Both(composed, CNN(), vision())


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        shapes = dict.fromkeys(("query", "key", "value", "merge"), (WIDTH, WIDTH))
        shapes |= {"up": (4 * WIDTH, WIDTH), "down": (WIDTH, 4 * WIDTH)}
        self.blocks = nn.ModuleList(
            [
                nn.ModuleDict({n: nn.Linear(i, o, bias=False) for n, (o, i) in shapes.items()})
                for _ in range(BLOCKS)
            ]
        )
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x, L = self.table(x), 2 * BLOCKS
        for block in self.blocks:
            assert isinstance(block, nn.ModuleDict)
            x = (1 - 1 / L) * x + (1 / L) * self.attention(block, F.rms_norm(x, (WIDTH,)))
            h = block["up"](F.rms_norm(x, (WIDTH,)))
            h = block["down"](F.gelu(h) / GELU().sensitivity)
            x = (1 - 1 / L) * x + (1 / L) * h
        return self.head(F.rms_norm(x, (WIDTH,)))

    def attention(self, block: nn.ModuleDict, x: Tensor) -> Tensor:
        q, k, v = (
            block[name](x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / q.shape[-1])
        return (1 / 3) * block["merge"](y.transpose(1, 2).flatten(2))


def transformer() -> Both:
    def heads() -> modula.Module:
        return SplitIntoHeads(HEADS) @ Linear(WIDTH, WIDTH)

    attended = FunctionalAttention() @ (heads(), heads(), heads())
    attention = (1 / 3) * (Linear(WIDTH, WIDTH) @ MergeHeads() @ attended)
    hidden = (GELU() / GELU.sensitivity) @ Linear(4 * WIDTH, WIDTH)
    mlp = Linear(WIDTH, 4 * WIDTH) @ hidden
    block = residual(mlp @ RMSNorm(), 2 * BLOCKS) @ residual(attention @ RMSNorm(), 2 * BLOCKS)
    head = Linear(VOCABULARY, WIDTH) @ RMSNorm()
    return Both(head @ block**BLOCKS @ Embed(WIDTH, VOCABULARY), Transformer(), ids())


def lifted(both: Both) -> modula.Lifted:
    """The plain module, with the masses and the weights of the composed one."""
    theirs = both.composed.graph().weights
    names = [name for name, _ in both.plain.named_parameters()]
    with torch.no_grad():
        for p, weight in zip(both.plain.parameters(), theirs.values(), strict=True):
            p.copy_(weight.tensor)
    masses = {n: weight.mass for n, weight in zip(names, theirs.values(), strict=True)}
    return modula.lift(both.plain, both.x, calibrate="declared", masses=masses)


def of_dtype(both: Both, dtype: torch.dtype) -> Both:
    both.composed.torch_module.to(dtype)
    x = both.x.to(dtype) if both.x.is_floating_point() else both.x
    return Both(both.composed, both.plain.to(dtype), x)


NETWORKS = [mlp, cnn, transformer]
every = pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)


@every
def test_the_norms_are_the_same(build: Callable[[], Both]) -> None:
    both = build()
    net = lifted(both)
    theirs = [w.geometry for w in both.composed.graph().weights.values()]
    assert [w.geometry for w in net.graph().weights.values()] == theirs


@every
def test_declared_sensitivities_give_the_same_coefficients_to_the_last_digit(
    build: Callable[[], Both],
) -> None:
    both = build()
    assert list(lifted(both).plan().coefficients) == list(both.composed.plan().coefficients)


@every
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)], ids=["32", "64"]
)
def test_twenty_steps_of_both_are_the_same(
    build: Callable[[], Both], dtype: torch.dtype, tolerance: float
) -> None:
    both = of_dtype(build(), dtype)
    net = lifted(both)
    pairs = [(both.plain, SteepestDescent(net, lr=0.1))]
    pairs += [(both.composed.torch_module, SteepestDescent(both.composed, lr=0.1))]
    target = torch.randn(both.plain(both.x).shape, generator=torch.Generator().manual_seed(1)).to(
        dtype
    )
    for _ in range(20):
        for module, optimizer in pairs:
            optimizer.zero_grad()
            (module(both.x) - target).square().mean().backward()
            optimizer.step()
    ours, theirs = net.weights.tensors, both.composed.weights.tensors
    for mine, other in zip(ours, theirs, strict=True):
        close(mine, other, rtol=tolerance, atol=tolerance)


@every
def test_in_float32_both_take_the_same_steps_along_the_same_gradients(
    build: Callable[[], Both],
) -> None:
    """So all that differs in float32 is the rounding of the two forward and backward passes."""
    both = build()
    net = lifted(both)
    ours, theirs = net.weights.tensors, both.composed.weights.tensors
    optimizers = [SteepestDescent(net, lr=0.1), SteepestDescent(both.composed, lr=0.1)]
    for _ in range(20):
        both.composed.torch_module.zero_grad()
        both.composed.torch_module(both.x).square().mean().backward()
        for mine, other in zip(ours, theirs, strict=True):
            assert other.grad is not None
            mine.grad = other.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.equal(mine, other)


def test_a_network_of_modulas_own_modules_keeps_its_declared_coefficients() -> None:
    composed = GPT(VOCABULARY, d_embed=WIDTH, num_heads=HEADS, num_blocks=BLOCKS)
    masses = {name: weight.mass for name, weight in composed.graph().weights.items()}
    net = modula.lift(composed, ids(), calibrate="declared", masses=masses)
    assert net.plan().names == composed.plan().names
    close(net.plan().coefficients, composed.plan().coefficients, rtol=1e-12)


def test_modulas_bonds_inside_a_torch_module_keep_their_sensitivity() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.bond = nn.Linear(6, 6, bias=False), ScaledGELU()
            self.b = Linear(3, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.bond(self.a(x)))

    report = modula.lift(Mixed(), features(6), calibrate="declared").report()
    assert report["a.weight"].sensitivity == ScaledGELU.sensitivity
    assert report["b.weight"].sensitivity == 1


def test_the_report_shows_declared_beside_measured() -> None:
    both = mlp()
    net = modula.lift(both.plain, both.x)
    for name, row in zip(net.weights.names, net.report(), strict=True):
        assert row.declared_sensitivity == net.graph().weight_sensitivities()[name]
    assert "declared" in str(net)
