"""Tensors of an optimizer's state that every process has whole, beside sharded weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, distribute_module

from modula import Linear, SteepestDescent, checkpoint
from modula.optim import SecondMoments
from tests.helpers import close


def row() -> tuple[Linear, SteepestDescent]:
    """A sharded weight of one row, whose columns are as many as its entries."""
    torch.manual_seed(0)
    model = Linear(1, 4)
    distribute_module(model, init_device_mesh("cpu", (1,)))
    return model, SteepestDescent(model, 0.1, rule=SecondMoments(lines="columns"))


def step(model: Linear, optimizer: SteepestDescent, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(1, 4, generator=generator)
    model.weight.grad = DTensor.from_local(g, model.weight.device_mesh, model.weight.placements)
    optimizer.step()


@pytest.mark.usefixtures("one_process")
def test_they_stay_whole_where_they_have_the_shape_of_their_weight(tmp_path: Path) -> None:
    model, optimizer = row()
    step(model, optimizer, 0)
    checkpoint.save(tmp_path / "run", model, optimizer)
    other, resumed = row()
    checkpoint.load(tmp_path / "run", other, resumed)
    kept = resumed.state[other.weight]["second_moment_of_columns_0"]
    assert kept.shape == other.weight.shape
    assert type(kept) is torch.Tensor
    for one, each in ((model, optimizer), (other, resumed)):
        step(one, each, 1)
    close(other.weight.full_tensor(), model.weight.full_tensor(), rtol=1e-6)
