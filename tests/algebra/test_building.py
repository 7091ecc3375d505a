"""What it costs to build networks, in calls of Python functions: linear in their size. Large ones
are built, printed, copied and used without deep recursion.
"""

import copy
import operator
import pickle
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import pytest
import torch

from modula import MLP, Add, Gain, Gradient, Identity, Linear, Module, ReLU, residual
from tests.helpers import close


def calls(work: Callable[[], object]) -> int:
    """How many Python functions `work` calls."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    work()  # once before, so that nothing is counted that is done only once
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def chain_at_the_output(n: int) -> Module:
    model: Module = Gain(2)
    for _ in range(n):
        model = Gain(2) @ ReLU() @ model
    return model


def chain_at_the_input(n: int) -> Module:
    model: Module = Gain(2)
    for _ in range(n):
        model = model @ ReLU() @ Gain(2)
    return model


def sum_at_the_right(n: int) -> Module:
    model: Module = Gain(2)
    for _ in range(n):
        model = model + Gain(2)
    return model


def sum_at_the_left(n: int) -> Module:
    model: Module = Gain(2)
    for _ in range(n):
        model = Gain(2) + model
    return model


BUILDERS = {
    "a chain, at the output": chain_at_the_output,
    "a chain, at the input": chain_at_the_input,
    "a sum, at the right": sum_at_the_right,
    "a sum, at the left": sum_at_the_left,
    "a sum of all at once": lambda n: sum([Gain(2) for _ in range(n)], 0.5 * Identity()),
    "a tuple": lambda n: Add() @ tuple(Gain(2) for _ in range(n)),
    "a power": lambda n: (Gain(2) @ ReLU()) ** n,
    "residual blocks": lambda n: residual(Gain(2) @ ReLU(), n) ** n,
    "an MLP": lambda n: MLP(2, 2, width=2, depth=n),
}
USES = {
    "graph": lambda model: model.graph(),
    "plan": lambda model: model.plan(),
    "print": str,
    "deepcopy": copy.deepcopy,
    "mass": lambda model: model.mass,
}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_to_build_twice_as_much_takes_about_twice_as_many_calls(build):
    assert calls(lambda: build(120)) <= 2.6 * calls(lambda: build(60))


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("build", [chain_at_the_output, sum_at_the_right])
def test_to_use_twice_as_much_takes_about_twice_as_many_calls(build, use):
    small, large = build(60), build(120)
    assert calls(lambda: use(large)) <= 2.6 * calls(lambda: use(small))


def test_a_network_that_is_asked_again_is_not_flattened_again():
    model = chain_at_the_output(100)
    first = calls(lambda: copy.deepcopy(model).graph()) - calls(lambda: copy.deepcopy(model))
    assert calls(model.graph) < first / 10


# 10,000 atoms


ATOMS = 10_000


def joined(parts: Sequence[Module], join: Callable[[Module, Module], Module]) -> Module:
    """All parts joined in pairs, and the pairs in pairs, so that few intermediates are made."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return join(joined(parts[:half], join), joined(parts[half:], join))


@pytest.fixture(scope="module", params=[operator.matmul, operator.add], ids=["chain", "sum"])
def large(request) -> Module:
    return joined([Linear(1, 1) @ ReLU() for _ in range(ATOMS)], request.param)


def test_10_000_atoms_are_10_000_weights(large):
    assert len(large.weights) == large.mass == ATOMS


def test_10_000_atoms_are_printed(large):
    assert "Linear(1, 1)" in str(large)
    assert len(repr(large)) < 1000


def test_10_000_atoms_are_called(large):
    assert large(torch.ones(1, 1)).shape == (1, 1)


def test_10_000_atoms_are_dualized(large):
    gradient = Gradient({name: torch.ones_like(w) for name, w in large.weights.items()})
    update = large.dualize(gradient)
    assert {float(u) for u in update.tensors} == {float(update.tensors[0])}
    close(large.norm(update), 1.0, rtol=1e-2)


@pytest.mark.parametrize("make", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_10_000_atoms_are_copied(large, make):
    clone = make(large)
    assert clone.weights.names == large.weights.names
