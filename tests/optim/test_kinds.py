"""Gradients of every kind of tensor: used, or refused by name before anything changes."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

import modula
from modula import Gradient, Linear, ReLU, SteepestDescent, Update, Weights
from tests.optim.helpers import frozen_copy, loss_of, mlp, same, train
from tests.optim.test_nonfinite import RULES, every_rule
from tests.optim.test_steepest_descent import assign


class Tokens(nn.Module):
    def __init__(self, *, sparse):
        super().__init__()
        self.table = nn.Embedding(20, 8, sparse=sparse)
        self.head = nn.Linear(8, 20)

    def forward(self, ids):
        return self.head(self.table(ids))


IDS = torch.tensor([[1, 2, 2, 3]])


def lifted(*, sparse):
    torch.manual_seed(0)
    return modula.lift(Tokens(sparse=sparse), IDS)


def token_loss(net):
    return F.cross_entropy(net.torch_module(IDS).flatten(0, 1), IDS.flatten())


@every_rule
@pytest.mark.parametrize("coalesced", [False, True])
def test_a_sparse_gradient_trains_as_a_dense_one(rule, coalesced):
    nets = [lifted(sparse=sparse) for sparse in (False, True)]
    for net in nets:
        optimizer = SteepestDescent(net, 0.1, nonfinite="skip", **RULES[rule])
        for _ in range(3):
            optimizer.zero_grad()
            token_loss(net).backward()
            table = net.torch_module.table.weight
            if coalesced and table.grad.is_sparse:
                table.grad = table.grad.coalesce()
            optimizer.step()
    assert same(nets[0].weights, nets[1].weights)


@pytest.mark.parametrize("from_loss", [False, True])
def test_a_sparse_gradient_is_collected_as_a_dense_one(from_loss):
    net, twin = lifted(sparse=True), lifted(sparse=False)
    gradients = []
    for one in (net, twin):
        loss = token_loss(one)
        if from_loss:
            gradients.append(one.gradient(loss))
        else:
            loss.backward()
            gradients.append(one.gradient())
    assert all(map(torch.equal, gradients[0].tensors, gradients[1].tensors))


KINDS = {
    "float8": lambda: torch.ones(2, 2).to(torch.float8_e4m3fn),
    "sparse_coo": lambda: torch.ones(2, 2).to_sparse(),
    "sparse_csr": lambda: torch.ones(2, 2).to_sparse_csr(),
    "qint8": lambda: torch.quantize_per_tensor(torch.ones(2, 2), 1.0, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(2)]),
    "complex64": lambda: torch.ones(2, 2, dtype=torch.complex64),
    "int64": lambda: torch.ones(2, 2, dtype=torch.int64),
    "bool": lambda: torch.ones(2, 2, dtype=torch.bool),
    "ndarray": lambda: np.ones((2, 2)),
    "NoneType": lambda: None,
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.filterwarnings("ignore")
@every_kind
@pytest.mark.parametrize("vector", [Gradient, Update, Weights])
def test_a_vector_of_another_kind_is_refused_in_one_line(kind, vector):
    with pytest.raises(TypeError, match=f"{vector.__name__} takes.*{kind}.*'weight'") as caught:
        vector({"weight": KINDS[kind]()})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["float8", "complex64", "int64", "bool"])
def test_a_grad_of_another_kind_is_refused_before_anything_changes(kind):
    model = Linear(2, 2)
    optimizer = SteepestDescent(model, 0.1)
    before = frozen_copy(model)
    model.weight.grad_dtype = None
    try:
        model.weight.grad = KINDS[kind]()
    except RuntimeError:
        pytest.skip("this torch refuses it itself")
    for use in (optimizer.step, model.gradient):
        with pytest.raises(TypeError, match=rf"{kind}.*'weight"):
            use()
    assert same(model.weights, before)


def test_a_loss_is_differentiated_twice_where_its_graph_is_retained():
    model = Linear(2, 2)
    loss = model(torch.randn(3, 2)).square().mean()
    first = model.gradient(loss, retain_graph=True)
    assert torch.equal(first["weight"], model.gradient(loss)["weight"])
    with pytest.raises(ValueError, match="retain_graph goes with a loss"):
        model.gradient(retain_graph=True)


def test_a_weight_that_a_loss_does_not_reach_has_no_gradient_or_zero():
    model = Linear(2, 2) @ ReLU() @ Linear(2, 2)
    loss = model[0](torch.randn(3, 2)).square().mean()
    gradient = model.gradient(loss, retain_graph=True)
    assert gradient["0.weight"].any()
    assert not gradient["2.weight"].any()
    loss.backward()
    with pytest.raises(ValueError, match=r"no \.grad in '2\.weight'"):
        model.gradient()


# Settings


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lr", -0.1),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", "0.1"),
        ("momentum", 1.0),
        ("momentum", math.nan),
        ("momentum", None),
        ("weight_decay", -1.0),
        ("weight_decay", math.inf),
        ("adapt_masses", math.nan),
        ("adapt_masses", 0.1),
    ],
)
def test_a_setting_that_a_schedule_breaks_is_refused_before_anything_changes(setting, value):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    train(model, optimizer, range(1))
    twin = copy.deepcopy(model)
    before = copy.deepcopy(optimizer.state_dict()["state"])
    optimizer.param_groups[0][setting] = value
    with pytest.raises((TypeError, ValueError), match=setting):
        train(model, optimizer, range(1, 2))
    assert same(model.weights, twin.weights)
    now = optimizer.state_dict()["state"]
    assert all(torch.equal(now[i][k], v) for i, one in before.items() for k, v in one.items())


@pytest.mark.parametrize("betas", [(0.9, 1.0), (0.9,), None])
def test_betas_that_a_schedule_breaks_are_refused(betas):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, normalize=True, base="adam")
    optimizer.param_groups[0]["betas"] = betas
    with pytest.raises((TypeError, ValueError), match="betas"):
        train(model, optimizer, range(1))


def test_a_rate_of_zero_moves_nothing_and_averages_on():
    model = mlp()
    optimizer = SteepestDescent(model, 0.0, weight_decay=0.1)
    before = frozen_copy(model)
    train(model, optimizer, range(2))
    assert same(model.weights, before)
    assert all(state["momentum_buffer"].any() for state in optimizer.state.values())


@every_rule
@pytest.mark.parametrize("number", [np.float32, np.float64])
def test_numpy_scalars_are_numbers(rule, number):
    model, twin = mlp(), mlp()
    twin.weights = model.weights
    optimizer = SteepestDescent(model, number(0.5), weight_decay=number(0.25), **RULES[rule])
    other = SteepestDescent(twin, 0.5, weight_decay=0.25, **RULES[rule])
    for one, o in ((model, optimizer), (twin, other)):
        train(one, o, range(3))
    assert same(model.weights, twin.weights)
    grad = model.gradient(loss_of(model, 0))
    plain, scaled = model.dualize(grad, 0.5), model.dualize(grad, number(0.5))
    assert all(map(torch.equal, plain.tensors, scaled.tensors))
    assert all(
        map(
            torch.equal,
            model.normalize(plain, 0.5).tensors,
            model.normalize(plain, number(0.5)).tensors,
        )
    )


@every_rule
@pytest.mark.parametrize("name", ["cyclic", "one cycle"])
def test_cycles_turn_rate_and_momentum_of_every_rule(rule, name):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, **RULES[rule])
    if name == "cyclic":
        schedule = lr_scheduler.CyclicLR(
            optimizer, 0.01, 0.2, step_size_up=2, base_momentum=0.5, max_momentum=0.9
        )
    else:
        schedule = lr_scheduler.OneCycleLR(
            optimizer, 0.2, total_steps=8, base_momentum=0.5, max_momentum=0.9
        )
    group = optimizer.param_groups[0]
    seen = set()
    for seed in range(6):
        train(model, optimizer, range(seed, seed + 1))
        schedule.step()
        seen.add(round(group["betas"][0] if "betas" in group else group["momentum"], 6))
    assert len(seen) > 2
    assert min(seen) >= 0.5
    assert max(seen) <= 0.9


def test_a_model_inside_data_parallel_trains_through_its_optimizer():
    model = mlp(torch.float32)
    wrapped = nn.DataParallel(model)
    optimizer = SteepestDescent(model, 0.1)
    before = frozen_copy(model)
    loss_of(wrapped.module, 0).backward()
    optimizer.step()
    assert not same(model.weights, before)
    with pytest.raises(TypeError, match="DataParallel: if it wraps one"):
        SteepestDescent(wrapped, 0.1)


def test_a_parameter_that_is_appended_to_the_group_is_noticed():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    optimizer.param_groups[0]["params"].append(nn.Parameter(torch.ones(2)))
    assign(model, Gradient({name: torch.ones_like(w) for name, w in model.weights.items()}))
    with pytest.raises(RuntimeError, match="no longer has the parameters"):
        optimizer.step()
