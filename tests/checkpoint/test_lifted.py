"""A lifted network goes on from its checkpoint with the sensitivities that it had measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import modula
from modula import RMS, Linear, SteepestDescent, checkpoint
from modula.checkpoint import CheckpointError
from modula.geometry import operator_geometry
from modula.lift import Lifted

IDS = torch.tensor([[1, 2, 3], [4, 5, 0]])


class Tied(nn.Module):
    """A table that is the head too, so that S is measured at the weights as they are."""

    def __init__(self, widening: float = 1.0) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4)
        self.middle = nn.Linear(4, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.table.weight
        with torch.no_grad():
            self.middle.weight.mul_(widening)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.middle(self.table(ids)).relu())


def lifted(widening: float = 1.0, **options: object) -> Lifted:
    """Measured at the weights, so that other weights have other sensitivities."""
    return modula.lift(Tied(widening), IDS, calibrate="init", **options)


def train(network: Lifted, optimizer: SteepestDescent, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        network(IDS).square().mean().backward()
        optimizer.step()


def trained() -> tuple[Lifted, SteepestDescent]:
    network = lifted()
    optimizer = SteepestDescent(network, lr=0.1)
    train(network, optimizer, 2)
    return network, optimizer


def equal(a: Lifted, b: Lifted) -> bool:
    return all(map(torch.equal, a.weights.tensors, b.weights.tensors))


@pytest.mark.parametrize("name", ["run.pt", "run"])
def test_a_fresh_lift_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    network, optimizer = trained()
    checkpoint.save(tmp_path / name, network, optimizer)
    fresh = lifted(widening=3.0)
    assert fresh.plan().coefficients != network.plan().coefficients
    resumed = SteepestDescent(fresh, lr=0.9)
    checkpoint.load(tmp_path / name, fresh, resumed)
    assert str(fresh.report()) == str(network.report())
    train(network, optimizer, 2)
    train(fresh, resumed, 2)
    assert equal(network, fresh)


@pytest.mark.parametrize("name", ["run.pt", "run.safetensors", "run"])
def test_a_plain_loop_goes_on_with_the_same_coefficients(name: str, tmp_path: Path) -> None:
    network, _ = trained()
    checkpoint.save(tmp_path / name, network)
    checkpoint.load(tmp_path / name, fresh := lifted(widening=3.0))
    assert equal(network, fresh)
    assert fresh.plan().coefficients == network.plan().coefficients


def test_the_module_stands_for_the_network_that_its_optimizer_trains(tmp_path: Path) -> None:
    network, optimizer = trained()
    checkpoint.save(tmp_path / "run.pt", network.torch_module, optimizer)
    fresh = lifted(widening=3.0)
    checkpoint.load(tmp_path / "run.pt", fresh.torch_module, SteepestDescent(fresh, lr=0.9))
    assert fresh.plan().coefficients == network.plan().coefficients


def test_the_weights_load_into_the_module(tmp_path: Path) -> None:
    network, _ = trained()
    checkpoint.save(tmp_path / "run.pt", network)
    checkpoint.load(tmp_path / "run.pt", module := Tied())
    assert torch.equal(module.middle.weight, network.torch_module.middle.weight)


OTHERS: dict[str, Callable[[], Lifted]] = {
    "masses": lambda: lifted(masses={"middle.weight": 9.0}),
    "norms": lambda: lifted(roles={"middle.weight": operator_geometry(modula.L1, RMS)}),
    "tared masses": lambda: lifted().tare({"middle": 9.0}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_network_over_the_same_module_is_refused(kind: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "run.pt", *trained())
    other = OTHERS[kind]()
    before, report = other.weights.clone(), str(other.report())
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "run.pt", other, SteepestDescent(other, lr=0.1))
    assert all(map(torch.equal, other.weights.tensors, before.tensors))
    assert str(other.report()) == report


def test_measurements_of_another_network_are_refused() -> None:
    network = lifted()
    report = str(network.report())
    with pytest.raises(ValueError, match="of another network"):
        network.restore_measurements({"sensitivities": {"middle.weight": 1.0}})
    assert str(network.report()) == report
    with pytest.raises(ValueError, match="no measurements"):
        Linear(2, 2).restore_measurements({"sensitivities": {}})
    assert not Linear(2, 2).measurements()
