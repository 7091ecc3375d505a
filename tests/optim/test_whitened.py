"""Whitening: a plain SOAP, known covariances, rotations, a state of shapes of its own."""

import copy
import pickle
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.tensor import distribute_module, init_device_mesh

from modula import Conv2D, Embed, HeadLinear, Linear, SteepestDescent, checkpoint
from modula.geometry.spectral import Orthogonal
from modula.optim import (
    AsDirection,
    Average,
    Dualized,
    Momentum,
    Normalized,
    Rule,
    SecondMoments,
    StateMismatchError,
    Whitened,
)
from tests.helpers import close, random_gradient
from tests.optim.helpers import frozen_copy, gpt, mlp, same, train
from tests.optim.test_steepest_descent import assign

NO_MOMENTUM = Momentum(0.0, nesterov=False)


@dataclass(frozen=True)
class Recorded(Rule):
    """Keeps what an average returns, and takes no step."""

    average: Average
    seen: list = field(default_factory=list, compare=False)

    @property
    def inner(self):
        return self.average

    def __call__(self, step):
        self.seen.append([t.clone() for t in self.average(step).tensors])
        return step.plan.dualize(step.gradient, 0.0)


def whitened(model, gradients, average):
    """What the average returns for the first weight of a model, a step for each gradient."""
    rule = Recorded(average)
    optimizer = SteepestDescent(model, 0.1, rule=rule)
    weight = model.weights.tensors[0]
    for g in gradients:
        weight.grad = g.clone()
        optimizer.step()
    return [tensors[0] for tensors in rule.seen]


def soap(gradients, momentum, beta, every, eps):
    """SOAP of one matrix, written out: the directions of all steps."""
    L, R, m, v = 0.0, 0.0, 0.0, 0.0
    directions = []
    for t, g in enumerate(gradients, 1):
        m = momentum * m + g
        L = beta * L + (1 - beta) * g @ g.T
        R = beta * R + (1 - beta) * g.T @ g
        if t <= every or t % every == 0:
            QL, QR = torch.linalg.eigh(L)[1], torch.linalg.eigh(R)[1]
        v = beta * v + (1 - beta) * (QL.T @ g @ QR) ** 2
        root = (v / (1 - beta**t)).sqrt()
        inside = QL.T @ m @ QR / (root + eps)
        directions.append(m if t == 1 else QL @ inside @ QR.T)
    return directions


def normal(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("every", [1, 3])
def test_it_is_soap_written_out(every):
    gradients = [normal(5, 3, seed=k) for k in range(7)]
    average = Whitened(Momentum(0.8, nesterov=False), beta=0.9, every=every, eps=1e-6)
    found = whitened(Linear(5, 3).double(), gradients, average)
    for ours, theirs in zip(found, soap(gradients, 0.8, 0.9, every, 1e-6), strict=True):
        close(ours, theirs, rtol=1e-7)


def test_the_steps_of_both_rules_are_the_dual_and_the_direction_at_norm_lr():
    gradients = [normal(5, 3, seed=k) for k in range(5)]
    average = Whitened(Momentum(0.8, nesterov=False), beta=0.9, every=2)
    for rule in (Dualized(average, "svd"), Normalized(AsDirection(average))):
        model = Linear(5, 3).double()
        optimizer = SteepestDescent(model, 0.1, rule=rule)
        for g, direction in zip(gradients, soap(gradients, 0.8, 0.9, 2, 1e-8), strict=True):
            before = model.weight.detach().clone()
            model.weight.grad = g.clone()
            optimizer.step()
            U, sigma, Vh = torch.linalg.svd(direction, full_matrices=False)
            expected = U @ Vh if isinstance(rule, Dualized) else direction / sigma[0]
            close(before - model.weight, 0.1 * (5 / 3) ** 0.5 * expected, rtol=1e-7, atol=1e-9)


def test_gradients_of_a_known_covariance_become_white():
    """g = A·Z·B with Z of independent entries has the factors A², B²; whitened they are 1."""
    rows, columns = normal(4, 4, seed=0), normal(6, 6, seed=1)
    gradients = [rows @ normal(4, 6, seed=k) @ columns for k in range(2, 1002)]
    found = whitened(Linear(4, 6).double(), gradients, Whitened(NO_MOMENTUM, beta=0.995, every=20))
    late = torch.stack(found[500:])
    spread = {
        "before": covariance_of(torch.stack(gradients[500:])),
        "after": covariance_of(late),
    }
    assert condition(spread["before"]) > 20
    assert condition(spread["after"]) < 1.7
    close(late.square().mean(), torch.tensor(1.0).double(), rtol=0.1)


def covariance_of(matrices):
    """The second moments of the entries, [entries, entries]."""
    flat = matrices.flatten(1)
    return flat.T @ flat / len(flat)


def condition(covariance):
    """The spread of the 5th to the 95th percent of the eigenvalues."""
    eigenvalues = torch.linalg.eigvalsh(covariance)
    return (eigenvalues.quantile(0.95) / eigenvalues.quantile(0.05)).sqrt().item()


@given(seed=st.integers(0, 1000), beta=st.floats(0.5, 0.99))
def test_rotated_inputs_and_outputs_rotate_the_result(seed, beta):
    left = torch.linalg.qr(normal(3, 3, seed=seed + 1))[0]
    right = torch.linalg.qr(normal(5, 5, seed=seed + 2))[0]
    gradients = [normal(3, 5, seed=seed + 10 + k) for k in range(4)]
    rotated = [left @ g @ right for g in gradients]
    average = Whitened(Momentum(0.9), beta=beta, every=1)
    ours, theirs = (
        whitened(Linear(3, 5).double(), some, average)[-1] for some in (gradients, rotated)
    )
    close(left @ ours @ right, theirs, rtol=1e-5, atol=1e-6)


def test_without_rotations_it_is_adam():
    gradients = [normal(3, 4, seed=k) for k in range(4)]
    average = Whitened(NO_MOMENTUM, beta=0.9, largest=0, eps=1e-3)
    found = whitened(Linear(3, 4).double(), gradients, average)
    v = 0.0
    for t, (g, ours) in enumerate(zip(gradients, found, strict=True), 1):
        v = 0.9 * v + 0.1 * g**2
        if t > 1:
            close(ours, g / ((v / (1 - 0.9**t)).sqrt() + 1e-3), rtol=1e-9)


def test_only_sides_up_to_the_largest_are_rotated():
    model = Linear(3, 6)
    optimizer = SteepestDescent(model, 0.1, rule=Dualized(Whitened(largest=4)))
    kept = {name for name in optimizer.state[model.weight] if "basis" in name}
    assert kept == {"left_basis_0"}
    train_on(model, optimizer, 3)


def train_on(model, optimizer, steps):
    for seed in range(steps):
        assign(model, random_gradient(model, seed))
        optimizer.step()


def test_each_head_and_each_tap_has_factors_of_its_own():
    heads, conv = HeadLinear(2, 4, 3), Conv2D(3, 4, kernel_size=2)
    shapes = {}
    for model in (heads, conv):
        optimizer = SteepestDescent(model, 0.1, rule=Dualized(Whitened()))
        train_on(model, optimizer, 2)
        (state,) = [optimizer.state[p] for p in model.parameters()]
        shapes[model] = [tuple(state[f"{side}_factor_0"].shape) for side in ("left", "right")]
    assert shapes[heads] == [(2, 3, 3), (2, 4, 4)] or shapes[heads] == [(2, 4, 4), (2, 3, 3)]
    assert {count for count, *_ in shapes[conv]} == {4}


def test_a_table_takes_the_average_as_it_is():
    model = Embed(6, 4).double()
    twin = copy.deepcopy(model)
    for each, rule in ((model, Dualized(Whitened())), (twin, Dualized())):
        train_on(each, SteepestDescent(each, 0.1, rule=rule), 3)
    assert same(model.weights, twin.weights)


@given(lr=st.floats(1e-4, 10), every=st.integers(1, 4), seed=st.integers(0, 1000))
def test_the_norm_of_every_step_is_the_rate(lr, every, seed):
    model = mlp()
    for rule in (
        Dualized(Whitened(every=every)),
        Normalized(AsDirection(Whitened(every=every))),
        SecondMoments(Dualized(Whitened(every=every))),
    ):
        optimizer = SteepestDescent(model, lr, rule=rule)
        for k in range(4):
            before = frozen_copy(model)
            assign(model, random_gradient(model, seed + k))
            optimizer.step()
            assert model.norm(before - model.weights).item() == pytest.approx(lr, rel=5e-3)


# State


RULE = Dualized(Whitened(Momentum(0.9), every=2))


def test_a_loaded_optimizer_goes_on_bit_for_bit(tmp_path):
    model = mlp(torch.float32)
    optimizer = SteepestDescent(model, 0.1, rule=RULE)
    train(model, optimizer, range(3))
    twins = [copy.deepcopy(model) for _ in range(3)]
    others = [SteepestDescent(twin, 0.1, rule=RULE) for twin in twins]
    others[0].load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for path, twin, other in zip(("state.pt", "folder"), twins[1:], others[1:], strict=True):
        checkpoint.save(tmp_path / path, model, optimizer)
        checkpoint.load(tmp_path / path, twin, other)
    thawed = pickle.loads(pickle.dumps(optimizer))
    for each, one in ((model, optimizer), *zip(twins, others, strict=True), (thawed.model, thawed)):
        train(each, one, range(3, 7))
        assert same(model.weights, each.weights) or each is model
    for each in (*twins, thawed.model):
        assert same(model.weights, each.weights)


def test_factors_are_kept_in_float32_under_16_bits():
    model = Linear(8, 8).bfloat16()
    optimizer = SteepestDescent(model, 0.1, rule=RULE)
    train_on(model, optimizer, 3)
    other = SteepestDescent(model, 0.1, rule=RULE)
    other.load_state_dict(optimizer.state_dict())
    for each in (optimizer, other):
        kept = {t.dtype for name, t in each.state[model.weight].items() if name != "step"}
        assert kept == {torch.float32}


def without_factors(state):
    del state["left_factor_0"]


def of_another_shape(state):
    state["right_basis_0"] = torch.zeros(1, 2, 2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_factors, "left_factor_0"),
        (of_another_shape, r"right_basis_0 of .* is \[1, 2, 2\] .* this optimizer keeps \[1, 5, 5"),
    ],
)
def test_a_foreign_state_is_refused_and_changes_nothing(damage, message):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, rule=RULE)
    train(model, optimizer, range(3))
    saved = copy.deepcopy(optimizer.state_dict())
    damage(saved["state"][0])
    before = copy.deepcopy(optimizer.state_dict())["state"]
    with pytest.raises(StateMismatchError, match=message):
        optimizer.load_state_dict(saved)
    after = optimizer.state_dict()["state"]
    assert all(torch.equal(before[i][name], t) for i in before for name, t in after[i].items())


def test_the_state_of_another_rule_is_refused():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    train(model, optimizer, range(1))
    with pytest.raises(StateMismatchError, match="second_moment_0"):
        SteepestDescent(mlp(), 0.1, rule=RULE).load_state_dict(optimizer.state_dict())


def test_a_factor_that_someone_replaced_is_refused_by_the_step():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, rule=RULE)
    train(model, optimizer, range(2))
    optimizer.state[model.weights.tensors[0]]["left_basis_0"] = torch.zeros(6, 6).double()
    with pytest.raises(StateMismatchError, match=r"'left_basis_0' .*\[1, 6, 6\]"):
        train(model, optimizer, range(1))


def test_a_gradient_that_is_not_finite_leaves_bases_that_are():
    """Without a policy for it the step is taken, and the bases stay those of before."""
    model = Linear(3, 4)
    optimizer = SteepestDescent(model, 0.0, rule=Dualized(Whitened(every=1)))
    train_on(model, optimizer, 2)
    model.weight.grad = torch.full((3, 4), torch.inf)
    optimizer.step()
    state = optimizer.state[model.weight]
    assert not state["left_factor_0"].isfinite().all()
    basis = state["left_basis_0"][0]
    close(basis.T @ basis, torch.eye(3), atol=1e-5)


def test_factors_stay_finite_where_the_square_of_a_gradient_is_not():
    model = Linear(3, 4)
    optimizer = SteepestDescent(model, 0.0, rule=Dualized(Whitened(every=1)))
    model.weight.grad = torch.full((3, 4), 1e30)
    optimizer.step()
    state = optimizer.state[model.weight]
    assert all(state[name].isfinite().all() for name in ("left_factor_0", "second_moment_0"))


# Refusals


@pytest.mark.usefixtures("one_process")
def test_dtensors_are_refused_by_name():
    model = gpt()
    mesh = init_device_mesh("cpu", (1,))
    distribute_module(model, mesh)
    assert SteepestDescent(model, 0.1).model is model
    first = next(
        name
        for name, geometry in zip(model.weights.names, model.plan().geometries, strict=True)
        if isinstance(geometry, Orthogonal)  # tables have no factors
    )
    with pytest.raises(ValueError, match=f"keeps factors of whole matrices, and '{first}' is a DT"):
        SteepestDescent(model, 0.1, rule=RULE)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Whitened(beta=1.0), ValueError, "beta is below 1"),
        (lambda: Whitened(every=0), ValueError, "every is at least 1, got 0"),
        (lambda: Whitened(every=1.5), TypeError, "every is a whole number, got 1.5"),
        (lambda: Whitened(largest=-1), ValueError, "largest is at least 0, got -1"),
        (lambda: Whitened(eps=-1.0), ValueError, "eps is a finite number"),
        (lambda: Whitened(Dualized()), TypeError, "Whitened takes an average.*got Dualized"),
        (lambda: Whitened(Whitened()), ValueError, "'beta_whitening' as well"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_checkpoints_tell_it_apart():
    assert RULE.kind == "Dualized(Whitened(Momentum))"


@pytest.mark.parametrize("failing", [[torch.float32], [torch.float32, torch.float64]])
def test_eigenvectors_that_lapack_returns_as_nan_reach_neither_bases_nor_weights(
    failing, monkeypatch
):
    """It does so for some matrices of low rank, without an error."""
    eigh = torch.linalg.eigh

    def returning_nan(matrices):
        values, vectors = eigh(matrices)
        return values, torch.full_like(vectors, torch.nan) if matrices.dtype in failing else vectors

    monkeypatch.setattr(torch.linalg, "eigh", returning_nan)
    model = Linear(4, 5)
    optimizer = SteepestDescent(model, 0.1, rule=RULE)
    for k in range(3):
        model.weight.grad = normal(4, 5, seed=k).float()
        optimizer.step()
    state = optimizer.state[model.weight]
    assert all(state[name].isfinite().all() for name in ("left_basis_0", "second_moment_0"))
    assert model.weight.isfinite().all()


def test_eigenvectors_are_found_in_float64_where_float32_returns_nan(monkeypatch):
    eigh = torch.linalg.eigh
    expected, model = Linear(4, 5), Linear(4, 5)
    model.weight.data.copy_(expected.weight)

    def train(one):
        optimizer = SteepestDescent(one, 0.1, rule=RULE)
        for k in range(3):
            one.weight.grad = normal(4, 5, seed=k).float()
            optimizer.step()

    train(expected)
    monkeypatch.setattr(
        torch.linalg,
        "eigh",
        lambda a: tuple(t * torch.nan if a.dtype == torch.float32 else t for t in eigh(a)),
    )
    train(model)
    close(model.weight, expected.weight, rtol=1e-3, atol=1e-4)
