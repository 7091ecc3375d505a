"""Gradients of every kind of tensor: used, or refused by name before anything changes."""

import copy
import math
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.masked import masked_tensor
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

import modula
from modula import (
    Gradient,
    LayoutError,
    Linear,
    ParameterError,
    ReLU,
    StateMismatchError,
    SteepestDescent,
    Update,
    Weights,
)
from tests.helpers import random_gradient, random_update
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
    "nested tensor": lambda: torch.nested.nested_tensor([torch.ones(2)] * 2, layout=torch.jagged),
    "MaskedTensor": lambda: masked_tensor(torch.ones(2, 2), torch.ones(2, 2) > 0),
    "mkldnn": lambda: torch.ones(2, 2).to_mkldnn(),
    "sparse_csc": lambda: torch.ones(2, 2).to_sparse_csc(),
    "sparse_bsr": lambda: torch.ones(2, 2).to_sparse_bsr((1, 1)),
    "complex32": lambda: torch.ones(2, 2, dtype=torch.complex32),
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


WEIGHTS = {
    **{kind: make for kind, make in KINDS.items() if kind not in ("ndarray", "NoneType")},
    "share memory": lambda: torch.ones(1, 2).expand(2, 2),
    "negated": lambda: torch._neg_view(torch.ones(2, 2)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_weight_of_another_kind_is_refused_in_one_line(kind):
    model = Linear(2, 2)
    value = WEIGHTS[kind]()
    model.weight = nn.Parameter(value, requires_grad=value.is_floating_point())
    for use in (lambda: model.weights, lambda: SteepestDescent(model, 0.1)):
        with pytest.raises(ParameterError, match=f"'weight' of Linear is .*{kind}") as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["nested", "nested tensor", "MaskedTensor"])
def test_a_lifted_weight_of_another_kind_is_refused_in_one_line(kind):
    module = nn.Linear(2, 2)
    module.weight = nn.Parameter(KINDS[kind]())
    with pytest.raises(ParameterError, match=f"'weight' of Linear is .*{kind}") as caught:
        modula.lift(module, torch.ones(2, 2))
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_a_masked_grad_is_refused_before_anything_changes():
    model = Linear(2, 2)
    optimizer = SteepestDescent(model, 0.1)
    before = frozen_copy(model)
    model.weight.grad = KINDS["MaskedTensor"]()
    for use in (optimizer.step, model.gradient):
        with pytest.raises(TypeError, match=r"a MaskedTensor for 'weight"):
            use()
    assert same(model.weights, before)


def test_a_fake_grad_changes_nothing():
    """Tensors without entries, of a mode by which torch traces; the error is torch's."""
    model = Linear(2, 2)
    optimizer = SteepestDescent(model, 0.1)
    before = frozen_copy(model)
    with FakeTensorMode():
        model.weight.grad = torch.ones(2, 2)
    with pytest.raises(Exception, match="FakeTensor"):
        optimizer.step()
    assert same(model.weights, before)
    assert not optimizer.state[model.weight]["momentum_buffer"].any()


def test_an_update_without_entries_is_not_added_in_silence():
    model = Linear(2, 2)
    update = Update({"weight": torch.ones(2, 2, device="meta")})
    gradient = Gradient({"weight": torch.ones(2, 2)})
    weights = model.weights
    with pytest.raises(LayoutError, match="'weight' is on cpu in one and on meta"):
        weights -= update
    with pytest.raises(LayoutError, match="'weight' is on cpu in one and on meta"):
        gradient @ update


@pytest.mark.parametrize(
    "make",
    [
        lambda g: torch._neg_view(-g),
        lambda g: g.T.contiguous().T,
        lambda g: torch.stack([g, g], dim=-1)[..., 0],
        lambda g: g.as_subclass(nn.Parameter),
    ],
)
def test_a_gradient_in_any_memory_layout_gives_the_same_step(make):
    model, twin = Linear(3, 4), Linear(3, 4)
    twin.weights = model.weights
    gradient = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    for one, g in ((model, gradient), (twin, make(gradient))):
        one.weight.grad = g
        SteepestDescent(one, 0.1).step()
    torch.testing.assert_close(model.weight, twin.weight, rtol=0, atol=1e-6)


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
        ("nesterov", "0"),
        ("nesterov", 1),
        ("nesterov", torch.ones(3)),
        ("momentum", torch.ones(3)),
        ("momentum", torch.tensor(1)),
        ("weight_decay", torch.ones(2)),
        ("lr", torch.ones(2)),
        ("lr", True),
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


@pytest.mark.parametrize("nesterov", ["0", 1, torch.ones(3), None])
def test_a_saved_nesterov_that_is_damaged_is_refused_before_anything_changes(nesterov):
    optimizer = SteepestDescent(mlp(), 0.1)
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["nesterov"] = nesterov
    with pytest.raises(StateMismatchError, match="nesterov is True or False"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["nesterov"] is True


@pytest.mark.parametrize("betas", [(0.9, 1.0), (0.9,), None])
def test_betas_that_a_schedule_breaks_are_refused(betas):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, normalize=True, base="adam")
    optimizer.param_groups[0]["betas"] = betas
    with pytest.raises((TypeError, ValueError), match="betas"):
        train(model, optimizer, range(1))


TARGETS = {
    "nan": (math.nan, ValueError),
    "inf": (math.inf, ValueError),
    "1e39": (1e39, ValueError),
    "10**400": (10**400, ValueError),
    "text": ("1", TypeError),
    "None": (None, TypeError),
    "True": (True, TypeError),
    "two numbers": (torch.ones(2), ValueError),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", ["dualize", "normalize"])
def test_a_target_norm_that_is_none_is_refused(target, method):
    value, error = TARGETS[target]
    model = mlp()
    given = random_gradient(model, 0) if method == "dualize" else random_update(model, 0)
    with pytest.raises(error, match="target_norm"):
        getattr(model, method)(given, value)


@pytest.mark.parametrize("rate", [1e39, 10**400])
def test_a_rate_beyond_float32_is_refused(rate):
    with pytest.raises(ValueError, match=r"lr is at most 3\.4e\+38"):
        SteepestDescent(mlp(), rate)


@pytest.mark.parametrize("value", [10**400, -(10**400)])
def test_numbers_beyond_all_floats_are_refused_as_others_are(value):
    with pytest.raises(ValueError, match="the mass of"):
        Linear(2, 2, mass=value)
    with pytest.raises(ValueError, match="the mass of"):
        (Linear(2, 2) @ ReLU()).tare(value)


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


def test_an_optimizer_that_is_made_in_inference_mode_trains_outside():
    model, twin = mlp(), mlp()
    twin.weights = model.weights
    with torch.inference_mode():
        optimizer = SteepestDescent(model, 0.1, adapt_masses=0.1, nonfinite="skip")
    other = SteepestDescent(twin, 0.1, adapt_masses=0.1, nonfinite="skip")
    for one, o in ((model, optimizer), (twin, other)):
        train(one, o, range(2))
    assert same(model.weights, twin.weights)


def test_optimizers_of_several_threads_do_not_disturb_each_other():
    start = mlp()
    models = [copy.deepcopy(start) for _ in range(4)]

    def work(model):
        train(model, SteepestDescent(model, 0.1), range(10))

    threads = [threading.Thread(target=work, args=(model,)) for model in models[:3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    work(models[3])
    assert all(same(model.weights, models[3].weights) for model in models[:3])


SCHEDULES = {
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
    "lambda of NumPy": lambda o: lr_scheduler.LambdaLR(o, lambda i: np.float32(1 / (1 + i))),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
    "multiplicative": lambda o: lr_scheduler.MultiplicativeLR(o, lambda _: 0.95),
    "averaging": lambda o: SWALR(o, swa_lr=0.05),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_steps_have_the_length_that_a_schedule_of_torchs_writes(schedule):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, method="svd")
    turning = SCHEDULES[schedule](optimizer)
    for seed in range(4):
        before = frozen_copy(model)
        train(model, optimizer, range(seed, seed + 1))
        rate = float(optimizer.param_groups[0]["lr"])
        assert float(model.norm(model.weights - before)) == pytest.approx(rate, rel=1e-6)
        turning.step()


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
