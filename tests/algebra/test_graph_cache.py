"""A compound keeps its graph, and a change made in any way is seen at the next use."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from modula import (
    RMS,
    Bond,
    Composition,
    Concatenation,
    FunctionBond,
    Linear,
    ParameterError,
    ReLU,
)
from modula.algebra import core
from tests.helpers import close


class Doubling(nn.Module):
    """A torch module inside of a bond."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class Wrapped(Bond[RMS, RMS]):
    """A bond with modules inside."""

    sensitivity = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Sequential(Doubling()))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def tree() -> Composition:
    branches = (Linear(4, 4) @ ReLU(), Wrapped() @ (0.5 * Linear(4, 4)))
    return Linear(3, 4) @ sum(branches[1:], branches[0]) @ Linear(4, 5)


def used(model: Composition) -> Composition:
    model.plan()
    return model


def module_of(model: nn.Module, kind: type[nn.Module]) -> nn.Module:
    return next(module for module in model.modules() if isinstance(module, kind))


def share(model: Composition) -> None:
    one, other = module_of(model, Concatenation)
    one[1].weight = other[0].weight


CHANGES = {
    "the mass of an atom": lambda model: setattr(model[0], "mass", 3.0),
    "the sensitivity of an atom": lambda model: setattr(model[2], "sensitivity", 3.0),
    "the sensitivity of a bond": lambda model: setattr(module_of(model, ReLU), "sensitivity", 3.0),
    "a module": lambda model: model.__setitem__(0, Linear(4, 5).tare(2.0)),
    "a module, as an attribute": lambda model: setattr(model, "0", Linear(4, 5).tare(2.0)),
    "a module deep inside": lambda model: module_of(model, Concatenation).__setitem__(
        0, Linear(4, 4).tare(2.0)
    ),
    "a weight": lambda model: setattr(model[0], "weight", nn.Parameter(torch.ones(4, 5))),
    "a weight, by hand": lambda model: model[0]._parameters.__setitem__(
        "weight", nn.Parameter(torch.ones(4, 5))
    ),
    "the mass of a part": lambda model: model.tare(7.0, at="1"),
    "a weight that is shared": share,
}


def plan_of(model: Composition) -> tuple[tuple[str, ...], list[float], list[float]]:
    plan = model.plan()
    return plan.names, list(plan.coefficients), [weight.sum().item() for weight in plan.weights]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen(change):
    model = tree()
    before = plan_of(model)
    change(model)
    after = plan_of(model)
    assert after != before
    assert after == plan_of(copy.deepcopy(model))


def test_the_sensitivity_of_a_class_is_seen(monkeypatch):
    model = used(tree())
    before = model.plan().coefficients
    monkeypatch.setattr(Wrapped, "sensitivity", 8.0)
    close(model.plan().coefficients[2], before[2] / 4)


def test_a_sensitivity_that_is_computed_is_seen():
    class Gain(Bond[RMS, RMS]):
        gain = 1.0

        @property
        def sensitivity(self) -> float:
            return self.gain

        def forward(self, x: Tensor) -> Tensor:
            return self.gain * x

    model = used(Gain() @ Linear(4, 5))
    model[1].gain = 4.0
    assert model.plan().coefficients == [0.25]


@pytest.mark.parametrize("kind", [ReLU, Wrapped])
def test_a_parameter_is_not_taken_by_a_bond(kind):
    model = used(tree())
    with pytest.raises(ParameterError, match="'scale' cannot be a parameter of "):
        module_of(model, kind).register_parameter("scale", nn.Parameter(torch.ones(())))
    assert len(model.weights) == 4


def test_a_parameter_inside_of_a_bond_is_refused_at_the_next_use():
    model = used(tree())
    module_of(model, Doubling).register_parameter("scale", nn.Parameter(torch.ones(())))
    with pytest.raises(ParameterError, match=r"'1\.0\.1\.2\.inner\.0\.0\.scale' of .*freeze it"):
        model.weights


def test_a_module_inside_of_a_bond_is_looked_into():
    model = used(tree())
    module_of(model, Doubling).add_module("more", nn.Linear(1, 1))
    with pytest.raises(ParameterError, match=r"more\.weight"):
        model.weights


def test_a_frozen_parameter_is_free_until_it_is_to_be_trained():
    inner = nn.Linear(4, 4).requires_grad_(False)
    model = used(Linear(3, 4) @ FunctionBond(inner, domain=RMS, codomain=RMS))
    assert model.weights.names == ("1.weight",)
    inner.bias.requires_grad_(True)
    with pytest.raises(ParameterError, match=r"'0\.function\.bias'"):
        model.weights


def test_a_graph_that_is_left_alone_is_built_once(monkeypatch):
    model = used(tree())
    monkeypatch.setattr(Linear, "flatten", None)
    gradient = model.gradient(model(torch.ones(2, 5)).square().mean())
    assert set(model.dualize(gradient)) == set(model.weights)


def test_a_replica_has_weights_of_its_own():
    """As torch's DataParallel makes it: the attributes copied, then other modules inside."""
    model = used(tree())
    replica = model._replicate_for_data_parallel()
    for name, module in copy.deepcopy(dict(model.named_children())).items():
        setattr(replica, name, module)
    assert all(
        one is other
        for one, other in zip(replica.weights.tensors, replica.parameters(), strict=True)
    )


def test_a_parametrized_weight_is_refused_by_path():
    model = used(tree())
    parametrize.register_parametrization(model[2], "weight", nn.Identity())
    with pytest.raises(
        ParameterError, match=r"'2\.parametrizations\.weight\.original'.*remove_parametrizations"
    ):
        model.weights
    parametrize.remove_parametrizations(model[2], "weight")
    assert len(model.weights) == 4


def test_a_frozen_parametrized_weight_is_refused_too():
    model = used(tree())
    parametrize.register_parametrization(model[2], "weight", nn.Identity())
    model.requires_grad_(False)
    with pytest.raises(ParameterError, match=r"'2\.weight' of .* is not a Parameter"):
        model.weights


def test_pruning_is_refused_where_it_happens():
    model, x = used(tree()), torch.ones(2, 5)
    before = model(x)
    with pytest.raises(ParameterError, match="'weight_orig' cannot be a parameter of Linear"):
        prune.l1_unstructured(model[0], "weight", 0.5)
    torch.testing.assert_close(model(x), before)
    assert len(model.weights) == 4


ROOTS = {"an atom": lambda: Linear(4, 4), "a bond": Wrapped, "a compound": tree}


@pytest.mark.parametrize("build", ROOTS.values(), ids=ROOTS)
def test_any_root_has_a_graph_again_and_again(build):
    model = used(build())
    assert plan_of(model) == plan_of(model)


@pytest.mark.parametrize("build", ROOTS.values(), ids=ROOTS)
def test_a_model_that_nobody_uses_is_freed_at_once(build):
    gc.disable()
    try:
        model = used(build())
        seen = weakref.ref(model)
        del model
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "copy", "pickle"],
)
def test_a_copy_has_a_graph_of_its_own(duplicate):
    model = used(Linear(4, 4) @ ReLU() @ FunctionBond(torch.sin, domain=RMS, codomain=RMS))
    twin = duplicate(model)
    assert twin.graph() is not model.graph()
    assert core.Compound.graph(twin) is twin.graph()
