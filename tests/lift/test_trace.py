"""The recorder sees what autograd sees, and leaves everything as it was."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import modula
from modula import LiftError, ParameterError
from modula.lift import Inputs
from modula.lift.trace import trace
from tests.lift.models import NanoGPT, ResNet, features, ids, vision

X = features(6)


class Called(nn.Module):
    """Two linear maps and a function of them and the input."""

    def __init__(self, f) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
        self.f = f

    def forward(self, *args, **kwargs):
        return self.f(self, *args, **kwargs)


def into_slices(m: Called, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 12)
    out[:, :6] = m.a(x)
    out[:, 6:].copy_(m.b(x))
    return out


def through_a_view(m: Called, x: Tensor) -> Tensor:
    base = torch.zeros_like(x)
    part = base[:3]
    base.add_(m.a(x))
    return part * m.b(x).mean()


def with_operators(m: Called, x: Tensor) -> Tensor:
    y = m.a(x)
    y += m.b(x)
    y *= 2
    return y.relu_()


def in_a_list(m: Called, x: Tensor) -> Tensor:
    return torch.cat([m.a(x), m.b(x)], dim=-1)


def many_times(m: Called, x: Tensor) -> Tensor:
    for _ in range(3):
        x = m.b(m.a(x).tanh())
    return x


class Sine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, g):
        return g * torch.cos(ctx.saved_tensors[0])


def custom_function(m: Called, x: Tensor) -> Tensor:
    return m.b(Sine.apply(m.a(x)))


def checkpointed(m: Called, x: Tensor) -> Tensor:
    return m.b(checkpoint(m.a, x, use_reentrant=False).relu())


def reentrant(m: Called, x: Tensor) -> Tensor:
    return m.b(checkpoint(m.a, m.b(x), use_reentrant=True).relu())


def branching(m: Called, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y) if int(y.abs().amax().item() > 0) else y


FLOWS = [
    into_slices,
    through_a_view,
    with_operators,
    in_a_list,
    many_times,
    custom_function,
    checkpointed,
    reentrant,
    branching,
]


@pytest.mark.parametrize("f", FLOWS, ids=lambda f: f.__name__)
def test_every_parameter_is_followed_and_measured(f):
    net = modula.lift(Called(f), X)
    assert list(net.graph().weights) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert all(row.sensitivity > 0 and row.norm_claim == "proved" for row in net.report())


def test_calls_have_names_paths_and_sources():
    run = trace(NanoGPT(), (ids(),), {})
    linear = next(c for c in run.calls if c.path == "blocks.1.c_fc")
    assert linear.operation == "linear"
    slots = {a.slot: a.source.parameter or a.source.kind for a in linear.arguments}
    assert slots == {
        "input": "call",
        "weight": "blocks.1.c_fc.weight",
        "bias": "blocks.1.c_fc.bias",
    }
    before = run.calls[linear.arguments[0].source.call]
    assert (before.operation, before.path) == ("layer_norm", "blocks.1.ln_2")


def test_fused_attention_is_recorded_by_its_calls():
    run = trace(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), (X[None],), {})
    names = [call.operation for call in run.calls]
    assert "scaled_dot_product_attention" in names
    assert names.count("linear") == 4


# Nesting


@dataclasses.dataclass
class Pair:
    left: object
    right: object


def nested(m: Called, data: dict[str, list[Tensor]], *, more: Pair) -> object:
    return {"first": [m.a(data["x"][0])], "second": Pair(None, (m.b(more.left),))}


def ordered(m: Called, data: dict[str, list[Tensor]], *, more: Pair) -> object:
    return OrderedDict(logits=m.a(data["x"][0]) + m.b(more.left), text="no tensor")


@pytest.mark.parametrize("f", [nested, ordered])
def test_inputs_and_outputs_are_nested_in_any_way(f):
    net = modula.lift(Called(f), {"x": [X]}, more=Pair(X, None))
    assert all(row.sensitivity > 0 for row in net.report())


def test_options_of_lift_can_be_arguments_of_the_model():
    def f(m: Called, x: Tensor, *, probes: int) -> Tensor:
        return m.b(m.a(x))[:probes]

    assert len(modula.lift(Called(f), Inputs(X, probes=2)).weights) == 4
    with pytest.raises(LiftError, match="Inputs takes all arguments"):
        modula.lift(Called(f), Inputs(X), X)


# Everything is as it was


class Stateful(nn.Module):
    """Dropout, running statistics, a buffer that is replaced, hooks, a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.drop = ResNet(), nn.Dropout(0.5)
        self.register_buffer("steps", torch.zeros(()))
        self.net.stem.requires_grad_(False)
        self.seen: list[str] = []
        self.net.fc.register_forward_hook(lambda *_: self.seen.append("hook"))

    def forward(self, x: Tensor) -> Tensor:
        self.steps = self.steps + 1
        return self.drop(self.net(x))


@pytest.mark.parametrize("training", [True, False])
def test_state_is_restored(training):
    model = Stateful().train(training)
    model.net.bn.eval()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    identities = {name: id(t) for name, t in model.state_dict(keep_vars=True).items()}
    modes = [m.training for m in model.modules()]
    grads = {name: p.requires_grad for name, p in model.named_parameters()}
    random = torch.get_rng_state()
    modula.lift(model, vision())
    assert torch.equal(torch.get_rng_state(), random)
    for name, t in model.state_dict().items():
        assert torch.equal(t, before[name]), name
    after = model.state_dict(keep_vars=True)
    assert {name: id(t) for name, t in after.items()} == identities
    assert [m.training for m in model.modules()] == modes
    assert {name: p.requires_grad for name, p in model.named_parameters()} == grads
    assert all(p.grad is None for p in model.parameters())
    assert len(model.net.fc._forward_hooks) == 1
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_an_error_inside_of_the_model_leaves_no_hooks_behind():
    def fails(m: Called, x: Tensor) -> Tensor:
        raise RuntimeError(f"{m.a(x).shape} is wrong")

    with pytest.raises(RuntimeError, match="is wrong"):
        modula.lift(Called(fails), X)
    assert not torch.nn.modules.module._global_forward_hooks


def test_gradients_of_inputs_are_as_they_were():
    x = X.clone().requires_grad_()
    x.grad = torch.ones_like(x)
    modula.lift(Called(many_times), x)
    assert torch.equal(x.grad, torch.ones_like(x))


def test_activations_are_freed_as_the_run_goes_on():
    alive: list[weakref.ref[Tensor]] = []
    counts: list[int] = []

    def f(m: Called, x: Tensor) -> Tensor:
        for _ in range(5):
            x = m.b(m.a(x).relu())
            alive.append(weakref.ref(x))
            gc.collect()
            counts.append(sum(one() is not None for one in alive))
        return x

    trace(Called(f), (X,), {})
    assert max(counts) <= 2


def test_the_same_lift_gives_the_same_numbers():
    model = Stateful()
    one, other = (modula.lift(model, vision()).report() for _ in range(2))
    assert one == other
    first, second = (
        modula.lift(model, vision(), generator=torch.Generator().manual_seed(7)).report()
        for _ in range(2)
    )
    assert first == second != one


# Wrappers


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_wrappers_are_looked_through(wrap):
    model = Called(many_times)
    net = modula.lift(wrap(model), X)
    assert net.torch_module is model
    assert next(iter(net.graph().weights)) == "a.weight"


# What is refused, and what is not seen


def test_a_scripted_module_is_refused_by_name():
    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.out = nn.Linear(6, 6), nn.Linear(6, 6)
            self.inner = torch.jit.trace(nn.Linear(6, 6), X)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.inner(self.a(x)))

    with pytest.raises(LiftError, match=r"'a.weight'.*lost before 'linear in out'"):
        modula.lift(Scripted(), X)


def test_parameters_that_the_run_did_not_use_are_listed_with_mass_0():
    net = modula.lift(Called(lambda m, x: m.a(x)), X)
    row = net.report()["b.weight"]
    assert (row.norm_claim, row.mass_fraction, row.coefficient) == ("unused", 0, 0)
    assert "the recorded run did not use it" in str(net)
    loss = net(X).square().mean()
    update = net.dualize(net.gradient(loss))
    assert not update["b.weight"].any()
    assert update["a.weight"].any()


def test_a_model_without_trained_parameters_in_its_output_is_refused():
    model = Called(lambda m, x: m.a(x).detach())
    with pytest.raises(LiftError, match="depends on no parameter that requires a gradient"):
        modula.lift(model, X)


def test_a_model_that_writes_its_parameters_is_refused():
    def f(m: Called, x: Tensor) -> Tensor:
        with torch.no_grad():
            m.a.weight.mul_(0.5)
        return m.b(m.a(x))

    with pytest.raises(LiftError, match=r"wrote or replaced the parameter 'a.weight'"):
        modula.lift(Called(f), X)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
def test_parameters_without_a_duality_map_are_refused_unless_frozen(dtype):
    model = Called(many_times)
    model.c = nn.Parameter(torch.zeros(2).to(dtype))
    with pytest.raises(ParameterError, match=rf"'c' of Called is a tensor of dtype {dtype}"):
        modula.lift(model, X)
    model.c.requires_grad_(False)
    assert "c" not in modula.lift(model, X).weights.names


def test_what_is_no_module_is_refused():
    with pytest.raises(LiftError, match="takes a torch module, got function"):
        modula.lift(F.relu, X)
