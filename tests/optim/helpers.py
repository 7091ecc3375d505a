"""A model, a batch, and a few steps: what the tests of the optimizer share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from modula import GPT, Bias, Linear, Module, ReLU
from modula.vector import Weights


def mlp(dtype: torch.dtype = torch.float64) -> Module:
    """Three weights of two geometries, whose coefficients differ."""
    return (Linear(3, 6, mass=2.0) @ (0.5 * ReLU()) @ Bias(6) @ Linear(6, 5)).to(dtype)


def gpt() -> Module:
    return GPT(11, d_embed=8, num_heads=2, num_blocks=2)


def batch(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(7, 5, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(3, (7,), generator=generator)


def loss_of(model: Module, seed: int) -> Tensor:
    """The loss on the batch of that seed."""
    x, y = batch(seed, next(model.parameters()).dtype)
    return F.cross_entropy(model(x), y)


def train(model: Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    """One step a seed."""
    for seed in seeds:
        optimizer.zero_grad()
        loss_of(model, seed).backward()
        optimizer.step()


def frozen_copy(model: Module) -> Weights:
    """The weights as they are now."""
    return model.weights.clone()


def same(one: Weights, other: Weights) -> bool:
    """Bit for bit."""
    return all(map(torch.equal, one.tensors, other.tensors))
