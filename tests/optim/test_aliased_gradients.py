"""A `.grad` that is a view of what the optimizer keeps counts as the gradient that it was."""

import copy

import pytest
import torch

from modula import Linear, ReLU, SteepestDescent, Update
from modula.optim import Cautious, Dualized, Momentum, Rule, Sphere
from tests.optim.helpers import same

RULES = {
    "Nesterov": {},
    "momentum": {"nesterov": False},
    "Adam": {"normalize": True, "base": "adam"},
    "cautious": {"rule": Cautious(Dualized(Momentum()))},
    "adaptive masses": {"adapt_masses": 0.3},
    "decay and a sphere": {"weight_decay": 0.1, "constraint": Sphere(1.0)},
}
VIEWS = {
    "itself": lambda t: t,
    "transposed": lambda t: t.T,
    "a part of it, repeated": lambda t: t[:1].expand_as(t),
}


def network():
    torch.manual_seed(0)
    return Linear(4, 4) @ ReLU() @ Linear(4, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("arguments", RULES.values(), ids=RULES)
def test_a_gradient_in_the_memory_of_a_buffer(arguments, view, dtype):
    model = network().to(dtype)
    optimizer = SteepestDescent(model, 0.1, **arguments)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    first = next(model.parameters())
    for name in [name for name, t in optimizer.state[first].items() if t.shape == first.shape]:
        twin_model, twin = copy.deepcopy((model, optimizer))
        aliased_model, aliased = copy.deepcopy((model, optimizer))
        buffers = [aliased.state[p][name] for p in aliased_model.parameters()]
        for p, t, buffer in zip(
            aliased_model.parameters(), twin_model.parameters(), reversed(buffers), strict=True
        ):
            p.grad, t.grad = view(buffer), view(buffer).clone()
        aliased.step()
        twin.step()
        assert same(aliased_model.weights, twin_model.weights), name
        for p, t in zip(aliased_model.parameters(), twin_model.parameters(), strict=True):
            for key, value in twin.state[t].items():
                assert torch.equal(aliased.state[p][key], value), (name, key)


def test_one_tensor_as_the_gradient_of_two_weights():
    model, twin = network(), network()
    optimizers = [SteepestDescent(each, 0.1) for each in (model, twin)]
    for _ in range(3):
        g = torch.randn(4, 4)
        for p, t in zip(model.parameters(), twin.parameters(), strict=True):
            p.grad, t.grad = g, g.clone()
        for optimizer in optimizers:
            optimizer.step()
        assert same(model.weights, twin.weights)


class Returned(Rule):
    """A rule of a user's that returns memory which is not its own to give away."""

    def __init__(self, what):
        self.what = what

    def buffers(self, p):
        return {"sum": torch.float32}

    def __call__(self, step):
        torch._foreach_add_(step.buffers("sum"), step.gradient.tensors)
        return Update.from_tensors(step.gradient.names, self.what(step))


GIVEN = {
    "the gradient": lambda step: step.gradient.tensors,
    "the weights": lambda step: [w.detach() for w in step.plan.weights],
    "its buffer": lambda step: step.buffers("sum"),
    "a view of its buffer": lambda step: [t.T for t in step.buffers("sum")],
}


@pytest.mark.parametrize("what", GIVEN.values(), ids=GIVEN)
def test_a_rule_that_returns_what_it_was_given(what):
    model, twin = network(), network()
    rules = [Returned(what), Returned(lambda step: [t.clone() for t in what(step)])]
    optimizers = [
        SteepestDescent(each, 0.1, rule=rule, adapt_masses=0.3, weight_decay=0.1)
        for each, rule in zip((model, twin), rules, strict=True)
    ]
    sums = [torch.zeros(4, 4), torch.zeros(4, 4)]
    for step in range(4):
        gradients = [torch.randn(4, 4), (-1) ** step * torch.ones(4, 4)]
        for g, total, p, t in zip(
            gradients, sums, model.parameters(), twin.parameters(), strict=True
        ):
            total += g
            p.grad, t.grad = g.clone(), g.clone()
        for optimizer in optimizers:
            optimizer.step()
        assert same(model.weights, twin.weights)
        for p, g, total in zip(model.parameters(), gradients, sums, strict=True):
            assert p.grad is not None
            assert torch.equal(p.grad, g)
            assert torch.equal(optimizers[0].state[p]["sum"], total)
