"""Rules around rules: the norm of a step, plain implementations, and what is refused."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import Conv2D, Embed, HeadLinear, Linear, SteepestDescent
from modula.optim import (
    Adam,
    AsDirection,
    Cautious,
    Dualized,
    KeepFrobenius,
    Momentum,
    Normalized,
    Rule,
    SecondMoments,
    StateMismatchError,
    Steepest,
)
from tests.helpers import close, random_gradient
from tests.optim.helpers import frozen_copy, gpt, mlp, same, train
from tests.optim.test_steepest_descent import assign

INNER = [
    Dualized(),
    Dualized(Momentum(0.5, nesterov=False), method="svd"),
    Normalized(Adam()),
    Normalized(AsDirection(Momentum(0.9))),
]


RULES_WITHIN = st.one_of(
    *map(st.just, INNER),
    st.builds(Cautious, st.sampled_from(INNER)),
    st.builds(SecondMoments, st.sampled_from(INNER), st.floats(0, 0.999), st.just("rows")),
    st.builds(
        Cautious,
        st.builds(SecondMoments, st.sampled_from(INNER), st.floats(0, 0.999), st.just("columns")),
    ),
    st.builds(
        SecondMoments,
        st.builds(
            SecondMoments,
            st.builds(Cautious, st.sampled_from(INNER)),
            st.floats(0, 0.999),
            st.just("columns"),
        ),
        st.floats(0, 0.999),
        st.just("rows"),
    ),
)


@given(
    rule=RULES_WITHIN,
    lr=st.floats(1e-4, 10),
    steps=st.integers(1, 4),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 1000),
)
def test_the_norm_of_every_step_is_the_rate(rule, lr, steps, scale, seed):
    model = mlp()
    optimizer = SteepestDescent(model, lr, rule=rule)
    gradient = random_gradient(model, seed)
    for k in range(steps):
        before = frozen_copy(model)
        assign(model, scale * gradient + 0.1 * random_gradient(model, seed + k))
        optimizer.step()
        moved = model.norm(before - model.weights).item()
        assert moved == pytest.approx(lr, rel=2e-3)  # the iteration's error under accuracy "high"


@pytest.mark.parametrize("rule", [Cautious(), SecondMoments(), Cautious(SecondMoments())])
def test_every_weight_takes_its_share_of_the_step(rule):
    model = gpt()
    optimizer = SteepestDescent(model, 0.1, rule=rule)
    before = frozen_copy(model)
    gradient = random_gradient(model, 0)
    assign(model, gradient)
    optimizer.step()
    plan = model.plan()
    norms = plan.norms((before - model.weights).tensors)
    close(norms, 0.1 * torch.tensor(plan.coefficients), rtol=1e-3)


# Against plain implementations


def lines(u, v, dim):
    """√(mean(v)/mean(vᵢ))·u of one matrix."""
    means = v.mean(dim, keepdim=True)
    return u * (v.mean() / means).sqrt()


@pytest.mark.parametrize(("of", "dim"), [("rows", 1), ("columns", 0)])
def test_second_moments_of_a_matrix(of, dim):
    model = Linear(5, 3).double()
    rule = SecondMoments(Dualized(Momentum(0.8, nesterov=False), "svd"), 0.7, of)
    optimizer = SteepestDescent(model, 0.1, rule=rule)
    m, v = torch.zeros(5, 3).double(), torch.zeros(5, 3).double()
    expected = model.weight.detach().clone()
    for seed in range(4):
        g = random_gradient(model, seed)
        assign(model, g)
        optimizer.step()
        m = 0.8 * m + g.tensors[0]
        U, _, Vh = torch.linalg.svd(m, full_matrices=False)
        u = (5 / 3) ** 0.5 * U @ Vh
        v = 0.7 * v + 0.3 * u**2
        u = lines(u, v, dim)
        expected -= 0.1 * (5 / 3) ** 0.5 * u / torch.linalg.matrix_norm(u, 2)
        close(model.weight, expected, rtol=1e-9)


@pytest.mark.parametrize("factor", [1e-35, 1e-20, 1e20, 1e35])
@pytest.mark.parametrize("rule", [SecondMoments(), Cautious(SecondMoments(lines="columns"))])
def test_second_moments_under_coefficients_of_any_size(rule, factor):
    plain = Linear(6, 4)
    scaled = factor * copy.deepcopy(plain)  # whose coefficient is 1/factor
    one = SteepestDescent(plain, 0.1, rule=rule)
    other = SteepestDescent(scaled, 0.1 * factor, rule=rule)
    for seed in range(4):
        for model, optimizer in ((plain, one), (scaled, other)):
            assign(model, random_gradient(model, seed))
            optimizer.step()
    close(scaled.weights.tensors[0], plain.weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [1e20, 1e30, 3e37])
def test_an_average_of_squares_that_overflows_forgets(size):
    model = Linear(6, 4)
    optimizer = SteepestDescent(model, 0.1, rule=Normalized(Adam(betas=(0.5, 0.5))))
    for k in range(300):
        before = frozen_copy(model)
        assign(model, random_gradient(model, k) * (size if k < 3 else 1.0))
        optimizer.step()
        assert model.norm(before - model.weights).item() == pytest.approx(0.1, rel=1e-3)
    assert optimizer.state[model.weight]["exp_avg_sq"].max() < 100


@given(beta=st.floats(0, 0.99), seed=st.integers(0, 1000))
def test_rows_of_a_kept_frobenius_norm(beta, seed):
    """NorMuon of one matrix, written out; its norm is at least the rate and at most √3 of it."""
    model = Linear(5, 3).double()
    rule = SecondMoments(Dualized(Momentum(0.8), "svd"), beta, rescaling=KeepFrobenius())
    optimizer = SteepestDescent(model, 0.1, rule=rule)
    m, v = torch.zeros(5, 3).double(), torch.zeros(5).double()
    for k in range(3):
        g = random_gradient(model, seed + k)
        before = model.weight.detach().clone()
        assign(model, g)
        optimizer.step()
        m = 0.8 * m + g.tensors[0]
        U, _, Vh = torch.linalg.svd(0.8 * m + g.tensors[0], full_matrices=False)
        v = beta * v + (1 - beta) * (U @ Vh).square().mean(dim=1)
        u = U @ Vh / v.sqrt()[:, None]
        u *= (5 / 3) ** 0.5 * 3**0.5 / u.norm()
        moved = before - model.weight.detach()
        close(moved, 0.1 * u, rtol=1e-8, atol=1e-12)
        size = torch.linalg.matrix_norm(moved, 2).item() / (5 / 3) ** 0.5
        assert 0.1 * (1 - 1e-9) <= size <= 0.1 * 3**0.5


def test_weights_whose_entries_stay_keep_their_length_under_either_rescaling():
    model = Embed(6, 4).double()
    twin = copy.deepcopy(model)
    rule = SecondMoments(rescaling=KeepFrobenius())
    train_on_rows(model, SteepestDescent(model, 0.1, rule=rule))
    train_on_rows(twin, SteepestDescent(twin, 0.1))
    close(next(model.parameters()), next(twin.parameters()), rtol=1e-9)


def test_second_moments_make_rows_of_equal_length_if_they_forget_at_once():
    model = Linear(5, 3).double()
    optimizer = SteepestDescent(model, 0.1, rule=SecondMoments(beta=0.0))
    before = model.weight.detach().clone()
    assign(model, random_gradient(model, 0))
    optimizer.step()
    lengths = (before - model.weight).norm(dim=1)
    close(lengths, lengths[:1].expand(5), rtol=1e-9)


def test_second_moments_leave_the_rows_of_a_table_as_they_are():
    model = Embed(6, 4).double()
    twin = copy.deepcopy(model)
    train_on_rows(model, SteepestDescent(model, 0.1, rule=SecondMoments()))
    train_on_rows(twin, SteepestDescent(twin, 0.1))
    close(next(model.parameters()), next(twin.parameters()), rtol=1e-9)


def train_on_rows(model, optimizer):
    """Two steps, of which the second touches half of the rows."""
    for seed in range(2):
        g = random_gradient(model, seed)
        if seed:
            next(iter(g.tensors))[3:] = 0
        assign(model, g)
        optimizer.step()


def test_second_moments_of_each_head_are_its_own():
    """A head's rows are compared with each other, and not with those of another head."""
    model = HeadLinear(2, 4, 3).double()
    optimizer = SteepestDescent(model, 0.1, rule=SecondMoments(beta=0.0))
    before = model.weight.detach().clone()
    g = random_gradient(model, 0)
    assign(model, g)
    optimizer.step()
    moved = (before - model.weight).view(2, 4, 3)
    lengths = moved.norm(dim=-1)
    close(lengths, lengths[:, :1].expand_as(lengths), rtol=1e-9)


def test_cautious_leaves_out_what_the_gradient_opposes():
    model = Linear(5, 3).double()
    twin = copy.deepcopy(model)
    inner = Dualized(Momentum(0.9, nesterov=False), "svd")
    optimizer, other = (
        SteepestDescent(model, 0.1, rule=Cautious(inner)),
        SteepestDescent(twin, 0.1, rule=inner),
    )
    first = random_gradient(model, 0)
    for g in (first, -0.3 * first + 0.5 * random_gradient(model, 1)):
        before = (model.weight.detach().clone(), twin.weight.detach().clone())
        for each, one in ((model, optimizer), (twin, other)):
            assign(each, g.clone())
            one.step()
        u = before[1] - twin.weight.detach()
        u = u * (u * g.tensors[0] >= 0)
        u *= 0.1 * (5 / 3) ** 0.5 / torch.linalg.matrix_norm(u, 2)
        close(before[0] - model.weight, u, rtol=1e-7, atol=1e-12)
    assert (u == 0).any()  # the second gradient opposes some entries
    assert (u != 0).any()


@given(seed=st.integers(0, 1000), share=st.floats(-1, 1))
def test_a_cautious_step_never_raises_the_loss_to_first_order(seed, share):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, rule=Cautious())
    first = random_gradient(model, seed)
    for g in (first, share * first + random_gradient(model, seed + 1)):
        before = frozen_copy(model)
        assign(model, g.clone())
        optimizer.step()
        for w, old, grad in zip(model.weights.tensors, before.tensors, g.tensors, strict=True):
            assert ((old - w) * grad).min() >= -1e-12


@given(
    seed=st.integers(0, 1000),
    lr=st.floats(1e-3, 1.0),
    scale=st.floats(1e-3, 1e3),
    beta=st.floats(0, 0.99),
)
def test_the_norm_of_a_steepest_step_is_the_rate_times_the_dual_norm(seed, lr, scale, beta):
    model = mlp()
    rule = Steepest(Momentum(beta, nesterov=False), method="svd")
    optimizer = SteepestDescent(model, lr, rule=rule)
    average = None
    for k in range(2):
        g = scale * random_gradient(model, seed + k)
        average = g if average is None else beta * average + g
        before = frozen_copy(model)
        assign(model, g)
        optimizer.step()
        moved = model.norm(before - model.weights).item()
        assert moved == pytest.approx(lr * model.dual_norm(average).item(), rel=1e-6)


def test_a_steepest_step_minimises_its_quadratic():
    """No other step has a lower <m, t> + ‖t‖²/(2·lr)."""
    model, lr = mlp(), 0.3
    optimizer = SteepestDescent(model, lr, rule=Steepest(Momentum(0.0), method="svd"))
    g = random_gradient(model, 0)
    before = frozen_copy(model)
    assign(model, g.clone())
    optimizer.step()

    def quadratic(t):
        return (g @ t + model.norm(t).square() / (2 * lr)).item()

    taken = model.weights - before
    lowest = quadratic(taken)
    assert lowest == pytest.approx(-lr / 2 * model.dual_norm(g).item() ** 2, rel=1e-6)
    for seed in range(20):
        other = model.dualize(random_gradient(model, seed + 1))
        for size in (0.1, 1.0, 10.0):
            assert quadratic(size * other) > lowest
            assert quadratic(taken + 0.1 * size * other) > lowest


# State, settings, refusals


@pytest.mark.parametrize(
    "rule",
    [
        SecondMoments(),
        SecondMoments(rescaling=KeepFrobenius()),
        Cautious(SecondMoments(lines="columns")),
        Steepest(Momentum(0.5)),
    ],
)
def test_a_loaded_optimizer_goes_on_bit_for_bit(rule):
    model = mlp(torch.float32)
    optimizer = SteepestDescent(model, 0.1, rule=rule)
    train(model, optimizer, range(3))
    twin = copy.deepcopy(model)
    other = SteepestDescent(twin, 0.1, rule=rule)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    thawed = pickle.loads(pickle.dumps(optimizer))
    assert thawed.rule == rule
    for each, one in ((model, optimizer), (twin, other), (thawed.model, thawed)):
        train(each, one, range(3, 6))
    assert same(model.weights, twin.weights)
    assert same(model.weights, thawed.model.weights)


def test_second_moments_are_kept_in_float32_under_16_bits():
    model = Linear(8, 8).bfloat16()
    optimizer = SteepestDescent(model, 0.1, rule=SecondMoments())
    model.weight.grad = torch.randn(8, 8).bfloat16()
    optimizer.step()
    assert optimizer.state[model.weight]["second_moment_of_rows_0"].dtype == torch.float32


@pytest.mark.parametrize(
    ("model", "rows", "columns"),
    [
        (Linear(3, 5), {"0": (1, 3)}, {"0": (1, 5)}),
        (HeadLinear(2, 4, 3), {"0": (2, 4)}, {"0": (2, 3)}),
        (Conv2D(3, 2, 3), {"0": (9, 3)}, {"0": (9, 2)}),
        (Embed(6, 4), {}, {}),
    ],
)
def test_one_number_is_kept_for_each_line(model, rows, columns):
    rule = SecondMoments(SecondMoments(lines="columns"))
    optimizer = SteepestDescent(model, 0.1, rule=rule)
    state = optimizer.state[next(model.parameters())]
    for lines, shapes in (("rows", rows), ("columns", columns)):
        name = f"second_moment_of_{lines}_"
        found = {
            key.removeprefix(name): tuple(kept.shape)
            for key, kept in state.items()
            if key.startswith(name)
        }
        assert found == shapes


def test_the_state_of_a_rule_without_second_moments_is_refused():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1)
    train(model, optimizer, range(1))
    with pytest.raises(StateMismatchError, match="second_moment_of_rows"):
        SteepestDescent(mlp(), 0.1, rule=SecondMoments()).load_state_dict(optimizer.state_dict())


def test_the_share_is_read_from_the_group_and_checked_before_anything_changes():
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, rule=SecondMoments(beta=0.5))
    assert optimizer.param_groups[0]["beta_rows"] == 0.5
    train(model, optimizer, range(1))
    before = frozen_copy(model)
    optimizer.param_groups[0]["beta_rows"] = 1.0
    with pytest.raises(ValueError, match="beta_rows is below 1, got"):
        train(model, optimizer, range(1))
    assert same(model.weights, before)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SecondMoments(beta=1.0), ValueError, "beta is below 1"),
        (lambda: SecondMoments(beta="0.9"), TypeError, "beta is a number, got str"),
        (lambda: SecondMoments(lines="row"), ValueError, "\"rows\" or .*, got 'row'"),
        (lambda: SecondMoments(SecondMoments()), ValueError, "'beta_rows' as well"),
        (
            lambda: SecondMoments(Cautious(SecondMoments(lines="columns")), lines="columns"),
            ValueError,
            "'beta_columns' as well",
        ),
        (lambda: SecondMoments(Momentum()), TypeError, "SecondMoments holds a rule.*got Momentum"),
        (lambda: SecondMoments(rescaling="l2"), TypeError, "takes a rescaling.*got str"),
        (lambda: Cautious(Adam()), TypeError, "Cautious holds a rule.*got Adam"),
        (lambda: Steepest(Dualized()), TypeError, "Steepest takes an average.*got Dualized"),
        (lambda: Steepest(method="spectral"), ValueError, "no method 'spectral'"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (Cautious(), "Cautious(Dualized(Momentum))"),
        (SecondMoments(lines="columns"), "SecondMoments(Dualized(Momentum), columns, ToNorm)"),
        (
            SecondMoments(rescaling=KeepFrobenius()),
            "SecondMoments(Dualized(Momentum), rows, KeepFrobenius)",
        ),
        (Steepest(), "Steepest(Momentum)"),
    ],
)
def test_checkpoints_tell_rules_apart(rule: Rule, kind: str):
    assert rule.kind == kind
