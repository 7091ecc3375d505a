"""Every instrument on a network that is not made of modula's modules.

It wraps a torch module of two linear layers and says itself which operations there are. A network
of the algebra with the same weights must give the same numbers, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import matplotlib
import pytest
import torch
from torch import Tensor, nn

from modula import RMS, Bias, Linear, Network, ReLU, Update
from modula.geometry import Spectral, Vectors
from modula.graph import Graph, GraphBuilder
from modula.instruments import (
    alignment,
    calibrate,
    feature_learning,
    movement,
    radii,
    sensitivity,
    spectra,
    watch,
    well_normed,
)
from modula.network import Observation
from modula.spaces import ANYTHING, Space
from tests.helpers import close, full, rand

matplotlib.use("Agg")


@dataclass(eq=False)
class Operation:
    """One step: its map, its weight if it has one, and what it declares."""

    path: str
    label: str
    map: Callable[[Tensor, Tensor | None], Tensor]
    weight_name: str = ""
    geometry: object = None
    adds: float = 0.0
    sensitivity: float = 1.0
    claim: str = "proved"
    acts: str = "otherwise"

    def sensitivities(self) -> tuple[float, ...]:
        return (self.sensitivity,)

    def radius(self, *inputs: float) -> float:
        return self.sensitivity * inputs[0] + self.adds

    def weight_sensitivity(self, *inputs: float) -> float:
        return 0.0 if not self.weight_name else 1.0 if self.adds else inputs[0]

    def __repr__(self) -> str:
        return self.label


@dataclass(eq=False)
class Trained:
    """A parameter of the torch module, with mass and norm."""

    owner: nn.Module
    name: str
    geometry: object
    mass: float = 1.0

    @property
    def tensor(self) -> Tensor:
        return self.owner.get_parameter(self.name)

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        raise NotImplementedError


@dataclass(eq=False, repr=False)
class Chain(Network):
    """Operations one after another over a torch module's parameters."""

    module: nn.Module
    operations: Sequence[Operation]
    space: object = Space(RMS)
    masses: dict[str, Trained] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in self.operations:
            if one.weight_name:
                name = one.weight_name
                self.masses.setdefault(name, Trained(self.module, name, one.geometry))

    @property
    def torch_module(self) -> nn.Module:
        return self.module

    def graph(self) -> Graph:
        builder, at = GraphBuilder(), 0
        for one in self.operations:
            if one.weight_name:
                user = self.masses[one.weight_name]
                at = builder.add_weighted(one.path, one, (at,), one.weight_name, user)
            else:
                at = builder.add(one.path, one, (at,))
        return builder.finish()

    def run(self, weights: dict[str, Tensor], x: Tensor) -> Tensor:
        parameters = dict(self.module.named_parameters()) | dict(weights)
        for one in self.operations:
            x = one.map(x, parameters.get(one.weight_name))
        return x

    def observe(self, *inputs: Tensor) -> list[Observation]:
        (x,) = inputs
        rows = [self._observation("", "Chain", x, self, None)]
        for one in self.operations:
            local = one.weight_name.removeprefix(f"{one.path}.")
            alone = Operation(**vars(one) | {"path": "", "weight_name": local})
            module = self.module.get_submodule(one.path) if one.path else self.module
            part = Chain(module, [alone], self.space)
            for mass in part.masses.values():
                mass.mass = self.masses[one.weight_name].mass
            rows.append(self._observation(one.path, one.label, x, part, one))
            x = rows[-1].y
        return rows

    def _observation(self, path, label, x, part, one) -> Observation:
        y = part.run({}, x).detach()
        weight = (one.weight_name or None) if one else None
        return Observation(path, label, self.space, self.space, x, y, part, one, weight, part.run)

    def describe(self) -> dict[str, str]:
        return {one.path: one.label for one in self.operations}

    def __repr__(self) -> str:
        return "Chain"


class TwoLayers(nn.Module):
    """A plain module. Both nodes of `first` have one path."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3, bias=False)
        self.double()


def multiply(x: Tensor, weight: Tensor | None) -> Tensor:
    return x @ weight.mT


def add(x: Tensor, weight: Tensor | None) -> Tensor:
    return x + weight


def relu(x: Tensor, weight: Tensor | None) -> Tensor:
    return torch.relu(x)


def plain(space: object = Space(RMS), **changes: object) -> Chain:
    matrix, vector = Spectral(RMS, RMS), Vectors(RMS, axes=1)
    operations = [
        Operation("first", "matrix", multiply, "first.weight", matrix),
        Operation("first", "bias", add, "first.bias", vector, adds=1.0),
        Operation("", "relu", relu),
        Operation("second", "matrix", multiply, "second.weight", matrix),
    ]
    for name, value in changes.items():
        setattr(operations[2], name, value)
    return Chain(TwoLayers(), operations, space)


def twins() -> tuple[Chain, Network, Tensor]:
    """The network, one of the algebra with the same weights, and an input."""
    model = Linear(3, 8) @ ReLU() @ Bias(8) @ Linear(8, 4)
    model = model.double()
    other = plain()
    with torch.no_grad():
        model[1].weight.copy_(rand(1, 8) / 4)
        for mine, theirs in zip(other.module.parameters(), model.parameters(), strict=True):
            mine.copy_(theirs)
    return other, model, full(model.domain, rand(0, 5, 4))


def updates(one: Chain, other: Network, x: Tensor) -> tuple[Update, Update]:
    losses = [one.run({}, x).square().mean(), other(x).square().mean()]
    pairs = zip((one, other), losses, strict=True)
    first, second = [network.dualize(network.gradient(loss)) for network, loss in pairs]
    for a, b in zip(first.tensors, second.tensors, strict=True):
        close(a, b)
    return first, second


def same(one: object, other: object, *names: str) -> None:
    """Compare these numbers of two reports, row by row."""
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        for name in names:
            left, right = getattr(a, name), getattr(b, name)
            assert (left is None) == (right is None), (name, a, b)
            if left is not None:
                close(left, right, rtol=1e-6)


# The same numbers as a network of the algebra


def test_sensitivity():
    one, other, x = twins()
    same(sensitivity(one, x), sensitivity(other, x), "declared", "random", "worst")


def test_well_normed():
    one, other, x = twins()
    names = ("weights", "bound", "input", "output")
    same(well_normed(one, x), well_normed(other, x), *names)
    assert {row.verdict for row in well_normed(one, x)} == {"holds"}


def test_radii():
    one, other, x = twins()
    names = ("radius", "measured", "mass_fraction", "weight_sensitivity")
    same(radii(one, x), radii(other, x), *names)


def test_feature_learning():
    one, other, x = twins()
    first, second = updates(one, other, x)
    names = ("mass_share", "change", "share")
    same(feature_learning(one, first, x), feature_learning(other, second, x), *names)


def test_alignment():
    one, other, x = twins()
    first, second = updates(one, other, x)
    names = ("update", "weights", "input_norm", "weight_norm", "update_norm")
    same(alignment(one, x, first), alignment(other, x, second), *names)


def test_spectra_and_movement():
    one, other, x = twins()
    first, second = updates(one, other, x)
    same(spectra(first), spectra(second), "singular_values", "stable_rank")
    moved = [movement(n.weights, n.weights - u) for n, u in ((one, first), (other, second))]
    same(*moved, "entries", "frobenius", "norm")


def test_watch_records_everything():
    one, other, x = twins()
    record = ["norm", "alignment", "spectra/weights", "movement", "feature_learning"]
    record += ["sensitivity", "radii", "well_normed"]
    numbers = []
    for network, update in zip((one, other), updates(one, other, x), strict=True):
        with watch(network, log=lambda step, numbers: None, record=record, rows=None) as watcher:
            numbers.append(watcher.step(x, update=update))
    close(list(numbers[0].values()), list(numbers[1].values()), rtol=1e-6)


def test_calibrate():
    one, _, x = twins()
    one.operations[2].sensitivity = 3.0
    close(calibrate(one, x).rows[0].after, 1.0, rtol=1e-6)
    assert (one.operations[2].claim, one.sensitivity) == ("estimate", one.operations[2].sensitivity)


# Two nodes with one path


def test_rows_of_one_path_have_names_of_their_own():
    one, _, x = twins()
    report = radii(one, x)
    assert [name for name, _ in report.named()] == ["first", "first#2", "model", "second"]
    assert report["first"].module == "matrix"
    assert report["first#2"].module == "bias"
    assert {"radii/measured/first", "radii/measured/first#2"} <= set(report.scalars())


def test_a_bound_of_one_of_them_is_its_own():
    one, _, x = twins()
    one.masses["first.bias"].mass = 3.0
    report = well_normed(one, x)
    assert [row.bound for row in report] == [(1 + 3 + 2) / 5, 1, 1, 0, 2]


def test_a_weight_beyond_norm_one_is_named_in_its_own_row_alone():
    one, _, x = twins()
    one.module.first.weight.data.mul_(3)
    report = well_normed(one, x)
    assert report.holds
    assert report["first"].outside == "‖w‖ = 3 at first"
    assert report["first#2"].outside in ("", "‖x‖ = 3 at first")


# Spaces that are not known


def test_where_no_space_is_known_rows_say_that_they_are_not_measured():
    network, x = plain(ANYTHING), rand(0, 5, 4)
    update = network.dualize(network.gradient(network.run({}, x).sum()))
    reports = [
        sensitivity(network, x),
        well_normed(network, x),
        radii(network, x),
        feature_learning(network, update, x),
        alignment(network, x, update),
    ]
    for report in reports:
        assert all("space" in row.skipped for row in report)
        assert "not measured: the space of its input or output is not known (" in str(report)
        assert report.plot() is not None
    assert not any(report.scalars() for report in (reports[0], reports[1], reports[3], reports[4]))
    assert reports[1].holds
    assert reports[1]["second"].verdict.startswith("not measured: ")
    matplotlib.pyplot.close("all")


def test_the_radii_themselves_need_no_space():
    assert [row.radius for row in radii(plain(ANYTHING))] == [1, 2, 2, 2]


# Faults are found where they are


def test_a_radius_that_is_too_small_is_found():
    one, _, x = twins()
    y = x[:1] @ one.module.first.weight.detach().mT
    one.module.first.bias.data.copy_(y[0] / 2)  # so that the norms of both add up
    one.operations[1].adds = 1e-3
    report = well_normed(one, x[:1])
    assert [report[name].verdict for name in ("first", "first#2")] == ["holds", "VIOLATED"]


def test_an_operation_that_was_not_observed_has_no_measured_norm():
    one, _, x = twins()
    all_of_it = one.observe(x)
    one.observe = lambda x: all_of_it[:-1]
    row = radii(one, x)["second"]
    assert (row.measured, row.skipped) == (None, "the run did not reach it")


def test_a_torch_module_is_refused():
    with pytest.raises(TypeError, match=r"got TwoLayers: compose it of modula's modules, or write"):
        sensitivity(TwoLayers(), rand(0, 5, 4))
