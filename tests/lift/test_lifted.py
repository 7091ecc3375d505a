"""A lifted network stays what it was: over several examples, copies and edits of the module."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import modula
from modula import LiftError, ParameterError, SteepestDescent, instruments
from modula.lift import Inputs
from tests.helpers import close
from tests.lift.models import NanoGPT, ResNet, features, ids, vision
from tests.lift.test_calibration import MODELS, mlp

X = features(4)


class Branch(nn.Module):
    """One of two layers, by the sign of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.left(h) if bool(x.sum() > 0) else self.right(h)


# Several examples


def test_several_examples_are_merged() -> None:
    left, right = X.abs(), -X.abs()
    only = modula.lift(Branch(), left).report()
    assert only["right.weight"].norm_claim == "unused"
    both = modula.lift(Branch(), Inputs(left), Inputs(right))
    report = both.report()
    assert all(row.norm_claim == "proved" and row.sensitivity > 0 for row in report)
    close(sum(row.mass_fraction for row in report), 1.0)
    assert "left.weight" in {node.weight for node in both.graph().nodes}
    assert "right.weight" in {node.weight for node in both.graph().nodes}


def test_a_branch_is_as_sensitive_as_if_its_example_were_alone() -> None:
    model, right = Branch(), -X.abs()
    both = modula.lift(model, Inputs(X.abs()), Inputs(right), probes=64)
    alone = modula.lift(model, right, probes=64)
    ratio = {n: both.report()[n].sensitivity / alone.report()[n].sensitivity for n in ROWS}
    close(list(ratio.values()), [1.0] * len(ROWS), rtol=0.1)


ROWS = ["right.weight", "right.bias"]


def test_other_arguments_beside_inputs_are_refused() -> None:
    with pytest.raises(LiftError, match=r"Inputs\(…\), Inputs\(…\)\) for several calls"):
        modula.lift(Branch(), Inputs(X), X)


def test_it_is_measured_again_on_other_examples() -> None:
    net = modula.lift(Branch(), Inputs(X.abs()), Inputs(-X.abs()))
    before = dict(net.weight_sensitivities())
    net.recalibrate(inputs=[Inputs(3 * X.abs()), Inputs(-3 * X.abs())])
    after = net.weight_sensitivities()
    close(after["first.weight"] / before["first.weight"], 3.0, rtol=1e-4)


# Copies


@pytest.mark.parametrize("name", MODELS)
def test_it_pickles_and_copies(name: str) -> None:
    build, inputs = MODELS[name]
    net = modula.lift(build(), inputs())
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert other.report() == net.report()
        assert other.torch_module is not net.torch_module
        own = dict(other.torch_module.named_parameters())
        assert all(own[n] is w for n, w in other.weights.items())
        other.recalibrate()
        assert other.report() == net.report()


def test_a_step_after_a_load_is_the_step_without_one() -> None:
    model, other = NanoGPT(), NanoGPT()
    nets = [modula.lift(m, ids()) for m in (model, other)]
    optimizers = [SteepestDescent(net, lr=0.1) for net in nets]

    def step(k: int) -> None:
        optimizers[k].zero_grad()
        F.cross_entropy(nets[k](ids()).flatten(0, 1), ids(1).flatten()).backward()
        optimizers[k].step()

    step(0)
    other.load_state_dict(model.state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    step(0)
    step(1)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        close(mine, theirs)


# Edits


def replaced_head(m: nn.Sequential) -> None:
    m[2] = nn.Linear(8, 7, bias=False)


def grown(m: nn.Sequential) -> None:
    m[0].weight = nn.Parameter(torch.zeros(9, 4))


def frozen(m: nn.Sequential) -> None:
    m[0].requires_grad_(False)


def added(m: nn.Sequential) -> None:
    m.extra = nn.Parameter(torch.zeros(3))


def removed(m: nn.Sequential) -> None:
    m[2] = nn.Identity()


EDITS: dict[Callable[[nn.Sequential], None], str] = {
    replaced_head: r"'2\.weight' .* of a module that was replaced.*lift the model again",
    grown: r"'0\.weight' .* had the shape \[8, 4\] .* became \[9, 4\].*lift the model again",
    frozen: r"'0\.weight' .* was frozen since: lift the model again",
    added: r"no duality map reaches 'extra'",
    removed: r"'2\.weight' .* is not any more: lift the model again",
}


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_an_edit_of_the_module_is_noticed(edit: Callable[[nn.Sequential], None]) -> None:
    model = mlp()
    net = modula.lift(model, X)
    edit(model)
    with pytest.raises(ParameterError, match=EDITS[edit]):
        net.plan()


def test_a_parameter_may_be_replaced_by_one_of_its_shape() -> None:
    model = mlp()
    net = modula.lift(model, X)
    model.load_state_dict({n: p + 1 for n, p in model.state_dict().items()}, assign=True)
    assert net.weights["0.weight"] is model[0].weight


# What a run leaves behind


class Counting(nn.Module):
    """Attributes that the forward method sets, which are no buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 4), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.cache = self.layer(x)
        return self.cache


def test_attributes_are_put_back() -> None:
    model = Counting()
    modula.lift(model, X)
    assert model.calls == 0
    assert not hasattr(model, "cache")


def test_a_forward_pass_that_fails_leaves_everything_as_it_was() -> None:
    class Fails(Counting):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            self.layer.bias.grad = None
            raise RuntimeError("no memory")

    model = Fails()
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no memory"):
        modula.lift(model, X)
    assert model.calls == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_an_input_that_was_computed_keeps_its_graph() -> None:
    w = torch.ones(4, requires_grad=True)
    x = X * w
    modula.lift(mlp(), x)
    x.sum().backward()
    close(w.grad, X.sum(0))


def test_a_module_under_two_names_keeps_its_parameters() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.b = nn.ModuleList([self.a, nn.Linear(4, 4)])

        def forward(self, x: Tensor) -> Tensor:
            return self.b[1](self.b[0](self.a(x)).relu())

    model = Twice()
    before = dict(model.named_parameters())
    net = modula.lift(model, X)
    assert dict(model.named_parameters()) == before
    assert list(net.weights.names) == ["a.weight", "a.bias", "b.1.weight", "b.1.bias"]


# Parameters of special kinds


def test_a_parameter_without_a_shape_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"'weight' of LazyLinear has no shape .* call the"):
        modula.lift(nn.LazyLinear(3), X)


def test_a_parameter_without_entries_has_mass_0() -> None:
    class Registers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.registers, self.layer = nn.Parameter(torch.empty(0, 4)), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.cat([self.registers, x]))

    net = modula.lift(Registers(), X)
    assert net.report()["registers"].warning == "it has no entries"
    update = net.dualize(net.gradient(net(X).square().mean()))
    close(net.norm(update), 1.0, rtol=0.1)


class Routed(nn.Module):
    """Experts in one tensor, of which a fixed router takes some."""

    def __init__(self, chosen: list[int]) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.randn(4, 4, 4))
        self.chosen = chosen

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x @ self.experts[k] for k in self.chosen])


def test_experts_that_no_token_reaches_get_a_warning() -> None:
    report = modula.lift(Routed([0, 2]), X).report()
    assert "the runs reached 2 of its 4 experts" in report["experts"].warning
    assert not modula.lift(Routed([0, 1, 2, 3]), X).report()["experts"].warning


def test_experts_that_few_tokens_reach_get_a_warning() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList([nn.Linear(4, 4, bias=False) for _ in range(4)])

        def forward(self, x: Tensor) -> Tensor:
            sizes = [40, 40, 40, 2]
            parts = [e(part) for e, part in zip(self.experts, x.split(sizes), strict=True)]
            return torch.cat(parts)

    report = modula.lift(Mixture(), torch.randn(122, 4)).report()
    assert re.match("it read 2 vectors, and 30 of its like", report["experts.3.weight"].warning)
    assert not report["experts.0.weight"].warning


# Everything that takes a network


@pytest.mark.parametrize("name", MODELS)
def test_gradients_in_all_forms_are_one(name: str) -> None:
    build, inputs = MODELS[name]
    model, x = build(), inputs()
    net = modula.lift(model, x)
    by_loss = net.gradient(model(x).square().mean())
    model.zero_grad()
    model(x).square().mean().backward()
    for mine, other in zip(by_loss.tensors, net.gradient().tensors, strict=True):
        close(mine, other)


def test_a_run_that_is_watched_is_the_same_run() -> None:
    def trained(is_watched: bool) -> tuple[list[Tensor], dict[int, Mapping[str, float]]]:
        torch.manual_seed(0)
        model, x = NanoGPT(), ids()
        net = modula.lift(model, x)
        written: dict[int, Mapping[str, float]] = {}
        with instruments.watch(net, every=2, log=written.__setitem__) as watcher:
            for _ in range(4):
                loss = model(x).square().mean()
                gradient = net.gradient(loss)
                update = net.dualize(gradient, 0.05)
                if is_watched:
                    watcher.step(x, gradient=gradient, update=update, loss=loss)
                net.weights -= update
        return list(model.parameters()), written

    watched, written = trained(True)
    alone, _ = trained(False)
    assert all(map(torch.equal, watched, alone))
    assert sorted(written) == [0, 2]
    assert written[2]["loss"] < written[0]["loss"]


def test_a_compiled_step_is_the_step() -> None:
    # in float64, since PyTorch 2.11 rounds products in a compiled step in another order
    model, x = mlp().double(), X.double()
    net = modula.lift(model, x)
    gradient = net.gradient(model(x).square().mean())
    compiled = torch.compile(net.dualize, backend="eager")(gradient)
    for mine, other in zip(compiled.tensors, net.dualize(gradient).tensors, strict=True):
        close(mine, other)


def test_buffers_of_a_resnet_are_its_own_after_a_calibration() -> None:
    model = ResNet().train()
    net = modula.lift(model, vision())
    before = {name: t.clone() for name, t in model.named_buffers()}
    net.recalibrate("quadrature")
    assert all(torch.equal(t, before[name]) for name, t in model.named_buffers())


@pytest.mark.parametrize("name", ["nanogpt", "gru", "experts"])
def test_quadrature_is_near_what_is_measured(name: str) -> None:
    build, inputs = MODELS[name]
    model, x = build(), inputs()
    whole = modula.lift(model, x, calibrate="drawn", probes=16).report()
    added_up = modula.lift(model, x, calibrate="quadrature").report()
    for row in whole:
        if row.mass_fraction:
            close(added_up[row.name].sensitivity / row.sensitivity, 1.0, rtol=0.5)
