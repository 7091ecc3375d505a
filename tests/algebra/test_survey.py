"""The atoms of a tree are listed once and kept: whatever changes afterwards, by whatever way, is
seen at the next use.
"""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from modula import RMS, Bond, Composition, Concatenation, FunctionBond, Linear, ReLU
from tests.helpers import close


class Doubling(nn.Module):
    """Something of torch's inside of a bond."""

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
    model._plan()
    return model


def module_of(model: nn.Module, kind: type[nn.Module]) -> nn.Module:
    return next(module for module in model.modules() if isinstance(module, kind))


def rename(model: Composition) -> None:
    model._modules["last"] = model._modules.pop("2")


def swap_by_hand(model: Composition) -> None:
    model._modules["0"], model._modules["2"] = model._modules["2"], model._modules["0"]


CHANGES = {
    "the mass of an atom": lambda model: setattr(model[0], "mass", 3.0),
    "the sensitivity of an atom": lambda model: setattr(model[2], "sensitivity", 3.0),
    "the sensitivity of a bond": lambda model: setattr(module_of(model, ReLU), "sensitivity", 3.0),
    "a module": lambda model: model.__setitem__(0, Linear(4, 5).tare(2.0)),
    "a module, by hand": lambda model: model._modules.__setitem__("0", Linear(4, 5).tare(2.0)),
    "a module deep inside": lambda model: module_of(model, Concatenation).__setitem__(
        0, Linear(4, 4).tare(2.0)
    ),
    "the order, by hand": swap_by_hand,
    "a name, by hand": rename,
    "a weight": lambda model: setattr(model[0], "weight", nn.Parameter(torch.ones(4, 5))),
    "a weight, by hand": lambda model: model[0]._parameters.__setitem__(
        "weight", nn.Parameter(torch.ones(4, 5))
    ),
    "the mass of a part": lambda model: model.tare(7.0, at="1"),
}


def what_a_plan_holds(model: Composition) -> tuple[list[str], list[float], list[float]]:
    plan = model._plan()
    return plan.names, plan.coefficients, [weight.sum().item() for weight in plan.weights]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen(change):
    model = tree()
    before = what_a_plan_holds(model)
    change(model)
    after = what_a_plan_holds(model)
    assert after != before
    assert after == what_a_plan_holds(copy.deepcopy(model))


def test_the_sensitivity_of_a_class_is_seen(monkeypatch):
    model = used(tree())
    before = model._plan().coefficients
    monkeypatch.setattr(Wrapped, "sensitivity", 8.0)
    close(model._plan().coefficients[2], before[2] / 4)


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
    assert model._plan().coefficients == [0.25]


@pytest.mark.parametrize("kind", [ReLU, Wrapped, Doubling], ids=lambda kind: kind.__name__)
def test_a_parameter_that_a_bond_was_given_is_refused(kind):
    model = used(tree())
    module_of(model, kind).register_parameter("scale", nn.Parameter(torch.ones(())))
    with pytest.raises(TypeError, match="is a bond and holds parameters"):
        model._plan()


def test_a_module_that_a_bond_was_given_is_looked_into():
    model = used(tree())
    module_of(model, Doubling).add_module("more", nn.Linear(1, 1))
    with pytest.raises(TypeError, match="is a bond and holds parameters"):
        model._plan()


def test_an_atom_that_was_put_in_twice_is_refused():
    atom = Linear(4, 4)
    model = used(atom @ Linear(4, 4))
    model._modules["0"] = atom
    with pytest.raises(ValueError, match="stands twice"):
        model._plan()


def test_a_tree_that_is_left_alone_is_walked_through_once(monkeypatch):
    model = used(tree())
    monkeypatch.setattr(Linear, "_walk", None)
    model.dualize(model.gradient(model(torch.ones(2, 5)).square().mean()))


def test_a_replica_has_weights_of_its_own():
    """As torch's DataParallel makes it: the attributes copied, then other modules inside."""
    model = used(tree())
    replica = model._replicate_for_data_parallel()
    replica._modules.update(copy.deepcopy(dict(model._modules)))
    assert all(
        one is other
        for one, other in zip(replica.weights.tensors, replica.parameters(), strict=True)
    )


def parametrized() -> Linear:
    return parametrize.register_parametrization(Linear(4, 4), "weight", nn.Identity())


ROOTS = {
    "an atom": lambda: Linear(4, 4),
    "an atom with modules inside": parametrized,
    "a bond": Wrapped,
    "a compound": tree,
}


@pytest.mark.parametrize("build", ROOTS.values(), ids=ROOTS)
def test_any_root_is_listed_again_and_again(build):
    model = used(build())
    assert what_a_plan_holds(model) == what_a_plan_holds(model)


@pytest.mark.parametrize(
    "build", [lambda: Linear(4, 4), Wrapped, tree], ids=["an atom", "a bond", "a compound"]
)
def test_a_model_that_nobody_holds_is_freed_at_once(build):
    gc.disable()
    try:
        model = used(build())
        seen = weakref.ref(model)
        del model
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_copy_makes_its_own(duplicate):
    model = used(Linear(4, 4) @ ReLU() @ FunctionBond(torch.sin, domain=RMS, codomain=RMS))
    assert "_last_survey" not in duplicate(model).__dict__
