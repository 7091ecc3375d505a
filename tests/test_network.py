"""`Network` needs a graph and a torch module, whoever made them: a network of ten lines that the
algebra knows nothing of.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from modula import RMS, Add, Bias, Linear, Network, ParameterError, ReLU, Tanh
from modula.geometry import BallVectors, Geometry, Spectral
from modula.graph import Graph, GraphBuilder, Tuple
from modula.network import check_parameters, is_inside, weight_name
from modula.optim import SteepestDescent
from tests.helpers import close, random_gradient


@dataclass
class Weight:
    """A parameter of a torch module with a norm and a mass."""

    module: nn.Module
    name: str
    geometry: Geometry
    mass: float = 1.0

    @property
    def tensor(self) -> Tensor:
        return getattr(self.module, self.name)

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        shape, device = tuple(self.tensor.shape), self.tensor.device
        self.tensor.copy_(self.geometry.sample(shape, generator, device))


class Plain(nn.Module):
    """y = W2·tanh(W1·x + b) + x, in torch alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.outer = nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.tanh(self.inner(x))) + x


class Declared(Network):
    """A network over `Plain` whose graph is written by hand."""

    def __init__(self, module: Plain) -> None:
        self.module = module
        matrix = Spectral(RMS, RMS)
        self.users = {
            "inner.weight": Weight(module.inner, "weight", matrix),
            "inner.bias": Weight(module.inner, "bias", BallVectors(RMS, axes=1), mass=0.5),
            "outer.weight": Weight(module.outer, "weight", matrix),
        }

    def graph(self) -> Graph:
        builder, at = GraphBuilder(), 0
        linear, bias = Linear(4, 4), Bias(4)
        for path, operation, name in (
            ("inner", linear, "inner.weight"),
            ("inner/bias", bias, "inner.bias"),
            ("tanh", Tanh(), None),
            ("outer", linear, "outer.weight"),
        ):
            if name is None:
                at = builder.add(path, operation, (at,))
            else:
                at = builder.add_weighted(path, operation, (at,), name, self.users[name])
        pair = builder.add("pair", Tuple(2), (at, 0))
        builder.add("sum", Add(), (pair,))
        graph = builder.finish()
        check_parameters(self, graph)
        return graph

    def observe(self, *inputs):
        raise NotImplementedError

    def describe(self) -> Mapping[str, str]:
        return {path: type(module).__name__ for path, module in self.module.named_modules()}

    @property
    def torch_module(self) -> nn.Module:
        return self.module


@pytest.fixture
def net() -> Declared:
    torch.manual_seed(0)
    return Declared(Plain().double())


def test_its_weights_are_the_parameters_of_the_torch_module(net):
    assert list(net.weights.names) == [name for name, _ in net.module.named_parameters()]
    assert net.weights["inner.bias"] is net.module.inner.bias


def test_its_mass_and_sensitivity_follow_from_the_graph(net):
    assert (net.mass, net.sensitivity) == (2.5, 2)


def test_its_first_order_bound_counts_radii(net):
    # radii 1 at the first weight, 2 after the bias and at the outer weight; a bias has reach 1
    close(net.first_order_bound(), (1 + 0.5 + 2) / 2.5)


def test_its_bound_is_for_the_input_that_is_asked_for(net):
    close(net.first_order_bound(3.0), (3 + 0.5 + 4) / 2.5)


def test_dualize_is_steepest_descent(net):
    gradient = net.gradient(net.module(torch.ones(2, 4).double()).square().mean())
    update = net.dualize(gradient, method="svd")
    close(net.norm(update), 1.0)
    close(gradient @ update, net.dual_norm(gradient))


def test_weights_minus_update_moves_the_torch_module(net):
    before = net.module.outer.weight.detach().clone()
    update = net.dualize(random_gradient(net, 0))
    net.weights -= 0.1 * update
    close(net.module.outer.weight, before - 0.1 * update["outer.weight"])


def test_the_optimizer_takes_it(net):
    optimizer = SteepestDescent(net, lr=0.1)
    x = torch.randn(16, 4, dtype=torch.float64)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = net.module(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_initialize_draws_weights_of_norm_one(net):
    net.initialize()
    for geometry, w in zip(net.plan().geometries, net.weights.tensors, strict=True):
        close(geometry.norm(w.detach()[None]), [1.0], rtol=1e-5)


def test_normalize_gives_every_weight_its_coefficient(net):
    update = net.normalize(net.dualize(random_gradient(net, 0), method="svd"), 3.0)
    plan = net.plan()
    for geometry, u, c in zip(plan.geometries, update.tensors, plan.coefficients, strict=True):
        close(geometry.norm(u[None]), [3.0 * c])


# Masses of parts


def test_tare_takes_a_path_and_all_below_it(net):
    net.tare(3.0, at="inner")
    assert [user.mass for user in net.users.values()] == [2, 1, 1]


def test_tare_takes_a_class(net):
    net.tare({"Linear": 5.0})
    close([user.mass for user in net.users.values()], [2, 1, 2])


def test_tare_of_an_unknown_part_names_the_classes_there_are(net):
    with pytest.raises(ValueError, match=r"'Conv'.*Linear"):
        net.tare(1.0, at="Conv")


def test_tare_with_a_mapping_and_a_path_is_refused(net):
    with pytest.raises(TypeError, match="got both"):
        net.tare({"inner": 1.0}, at="outer")


@pytest.mark.parametrize("mass", [-1.0, math.nan, math.inf])
def test_a_mass_that_is_none_is_refused_and_changes_nothing(net, mass):
    with pytest.raises(ValueError, match="mass"):
        net.tare({"outer": 2.0, "inner": mass})
    assert net.mass == 2.5


# Parameters


def test_a_parameter_without_a_node_is_refused_by_name(net):
    net.module.extra = nn.Linear(2, 2)
    with pytest.raises(ParameterError, match=r"'extra\.weight', 'extra\.bias'"):
        net.graph()


def test_frozen_parameters_without_a_node_are_returned(net):
    net.module.extra = nn.Linear(2, 2).requires_grad_(False)
    graph = net.graph()
    frozen = check_parameters(net, graph)
    assert [tuple(p.shape) for p in frozen] == [(2, 2), (2,)]


def test_a_weight_that_is_no_parameter_of_the_module_is_refused(net):
    net.users["outer.weight"].module = nn.Linear(4, 4).double()
    net.module.outer = nn.Identity()
    with pytest.raises(ParameterError, match=r"'outer\.weight'"):
        net.graph()


def test_a_coefficient_beyond_float32_is_refused_by_name():
    model = (1e-30 * Linear(4, 4)) @ ReLU() @ (1e-30 * Linear(4, 4))
    with pytest.raises(ValueError, match=r"weight'.*mass fraction 0\.5.*float32"):
        model.plan()


# Paths


@pytest.mark.parametrize(
    ("path", "outer", "inside"),
    [
        ("2.0", "", True),
        ("", "", True),
        ("2.0", "2", True),
        ("2", "2", True),
        ("20", "2", False),
        ("2", "2.0", False),
        ("h.3/softmax", "h.3", True),
        ("h.30", "h.3", False),
    ],
)
def test_a_path_is_inside_another(path, outer, inside):
    assert is_inside(path, outer) is inside


def test_the_name_of_a_weight_is_that_of_named_parameters():
    assert weight_name("") == "weight"
    assert weight_name("2.0") == "2.0.weight"
