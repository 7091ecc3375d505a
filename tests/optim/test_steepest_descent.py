"""What a step does to the weights: the plain loop's arithmetic, decay by shares, directions
normalised as they are.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import Gradient, Linear, ReLU, SteepestDescent, Update, Weights
from tests.helpers import close, random_gradient
from tests.optim.helpers import frozen_copy, gpt, loss_of, mlp, same, train


def plain_loop(model, lr, momentum, nesterov, seeds):
    """The loop that the optimizer stands for, written out."""
    average = Gradient({name: torch.zeros_like(w) for name, w in model.weights.items()})
    for seed in seeds:
        grad = model.gradient(loss_of(model, seed))
        average *= momentum
        average += grad
        model.weights -= model.dualize(
            momentum * average + grad if nesterov else average, target_norm=lr
        )


def assign(model, gradient):
    """Put a gradient where backward would."""
    for w, g in zip(model.weights.tensors, gradient.tensors, strict=True):
        w.grad = g.clone()


# Momentum and the duality map


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_plain_loop_bit_for_bit(momentum, nesterov):
    model, other = mlp(torch.float32), mlp(torch.float32)
    other.weights = model.weights
    plain_loop(other, 0.1, momentum, nesterov, range(5))
    train(model, SteepestDescent(model, 0.1, momentum, nesterov), range(5))
    assert same(model.weights, other.weights)


def test_a_step_has_the_norm_asked_for():
    model = gpt()
    before = frozen_copy(model)
    optimizer = SteepestDescent(model, lr=0.3, method="svd")
    assign(model, random_gradient(model, 0))
    optimizer.step()
    close(model.norm(before - model.weights), 0.3, rtol=1e-4)


def test_the_method_is_passed_on():
    model = mlp()
    gradient = random_gradient(model, 0)
    expected = model.weights - model.dualize(gradient, 0.1, method="svd")
    assign(model, gradient)
    SteepestDescent(model, 0.1, momentum=0.0, method="svd").step()
    assert same(model.weights, expected)


def test_momentum_is_an_average_of_gradients_and_not_of_updates():
    """A gradient a hundred times as large outweighs the next ones; updates would all count
    alike.
    """
    model = Linear(4, 4).double()
    first, second = random_gradient(model, 0), random_gradient(model, 1)
    optimizer = SteepestDescent(model, lr=1.0, nesterov=False, method="svd")
    assign(model, 100 * first)
    optimizer.step()
    before = frozen_copy(model)
    assign(model, second)
    optimizer.step()
    close(
        (before - model.weights).tensors[0],
        model.dualize(95 * first + second, method="svd").tensors[0],
        rtol=1e-8,
        atol=1e-10,
    )


@given(lr=st.floats(1e-3, 10), seed=st.integers(0, 1000))
def test_the_length_of_the_gradient_plays_no_part(lr, seed):
    model = mlp()
    start, gradient = frozen_copy(model), random_gradient(model, seed)
    signature = []
    for size in (1.0, 1000.0):
        model.weights = start
        optimizer = SteepestDescent(model, lr)
        assign(model, size * gradient)
        optimizer.step()
        signature.append(frozen_copy(model))
    for one, other in zip(signature[0].tensors, signature[1].tensors, strict=True):
        close(one, other, rtol=1e-9, atol=1e-9)


# Weight decay


def test_each_weight_decays_by_its_share():
    model = mlp()
    assign(model, Gradient({name: torch.zeros_like(w) for name, w in model.weights.items()}))
    before = frozen_copy(model)
    SteepestDescent(model, lr=0.5, weight_decay=0.1).step()
    # masses 2, 1, 1 of 4 in all; the head's neighbours stand behind a sensitivity of 0.5
    coefficients = {"4.weight": 2 / 4, "1.weight": 1 / 4 / 0.5, "0.weight": 1 / 4 / 0.5}
    for name, w in model.weights.items():
        close(w, (1 - 0.5 * 0.1 * coefficients[name]) * before[name], rtol=1e-12)


@given(seed=st.integers(0, 1000), decay=st.floats(0.05, 1.5), lr=st.floats(0.01, 0.5))
def test_decay_keeps_every_weight_in_the_ball_of_radius_one_over_it(seed, decay, lr):
    model = mlp()
    model.weights -= 3.0 * Update(dict(random_gradient(model, seed).items()))
    atoms = [model[0], model[1], model[-1]]
    for atom in atoms:
        with torch.no_grad():
            atom.weight /= atom.geometry.norm(atom.weight[None])[0] * decay
    optimizer = SteepestDescent(model, lr, weight_decay=decay, method="svd")
    for k in range(5):
        assign(model, random_gradient(model, seed + k))
        optimizer.step()
    for atom in atoms:
        assert atom.geometry.norm(atom.weight.detach()[None])[0] <= (1 + 1e-9) / decay


def test_decay_is_decoupled_from_momentum():
    model, other = mlp(), mlp()
    one, two = SteepestDescent(model, 0.0, weight_decay=0.5), SteepestDescent(other, 0.0)
    other.weights = model.weights
    train(model, one, range(3))
    train(other, two, range(3))
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.state[p]["momentum_buffer"], two.state[q]["momentum_buffer"])


# Directions as they are


@pytest.mark.parametrize("nesterov", [True, False])
def test_normalize_takes_the_average_as_the_direction(nesterov):
    model = mlp()
    gradients = [random_gradient(model, k) for k in range(3)]
    optimizer = SteepestDescent(model, 0.2, momentum=0.9, nesterov=nesterov, normalize=True)
    average = gradients[0].zeros_like()
    for gradient in gradients:
        average = 0.9 * average + gradient
        direction = 0.9 * average + gradient if nesterov else average
        expected = model.weights - model.normalize(Update(dict(direction.items())), 0.2)
        assign(model, gradient)
        optimizer.step()
        for w, e in zip(model.weights.tensors, expected.tensors, strict=True):
            close(w, e)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5)])
def test_adam_normalized_has_the_direction_of_torchs_adam(betas):
    model, other = mlp(), mlp()
    adam = torch.optim.Adam(other.parameters(), lr=1.0, betas=betas, eps=1e-3)
    optimizer = SteepestDescent(model, 0.2, normalize=True, base="adam", betas=betas, eps=1e-3)
    for k in range(4):
        gradient = random_gradient(model, k)
        before, adams = frozen_copy(model), frozen_copy(other)
        assign(model, gradient)
        assign(other, gradient)
        optimizer.step()
        adam.step()
        expected = model.normalize(adams - other.weights, 0.2)
        for u, e in zip((before - model.weights).tensors, expected.tensors, strict=True):
            close(u, e, rtol=3e-6, atol=1e-9)  # the number of steps is kept in float32


def test_normalized_steps_have_the_norm_asked_for():
    model = mlp()
    optimizer = SteepestDescent(model, 0.3, normalize=True, base="adam")
    before = frozen_copy(model)
    assign(model, random_gradient(model, 0))
    optimizer.step()
    close(model.norm(before - model.weights), 0.3)


# Parameters that are left alone


@pytest.mark.parametrize("leave", ["frozen", "no grad"])
def test_a_parameter_left_alone_keeps_weight_and_average(leave):
    model = mlp()
    optimizer = SteepestDescent(model, 0.1, weight_decay=0.1)
    train(model, optimizer, range(2))
    atom = model[0]
    before, state = (
        atom.weight.detach().clone(),
        {k: v.clone() for k, v in optimizer.state[atom.weight].items()},
    )
    assign(model, random_gradient(model, 0))
    if leave == "frozen":
        atom.weight.requires_grad_(False)
    else:
        atom.weight.grad = None
    optimizer.step()
    assert torch.equal(atom.weight, before)
    assert all(torch.equal(optimizer.state[atom.weight][k], v) for k, v in state.items())


@pytest.mark.parametrize("normalize", [False, True])
def test_the_others_step_as_if_it_had_a_zero_gradient(normalize):
    model, other = mlp(), mlp()
    other.weights = model.weights
    gradient = random_gradient(model, 0)
    gradient.tensors[0].zero_()
    for m in (model, other):
        assign(m, gradient)
    model[0].weight.grad = None
    for m in (model, other):
        SteepestDescent(m, 0.1, normalize=normalize).step()
    for w, e in zip(model.weights.tensors, other.weights.tensors, strict=True):
        close(w, e)


def test_a_parameter_thawed_later_starts_from_zero():
    model, twin = mlp(), mlp()
    twin.weights = model.weights
    model[0].requires_grad_(False)
    optimizer = SteepestDescent(model, 0.1)
    assert model[0].weight not in optimizer.state
    model[0].requires_grad_(True)
    train(model, optimizer, range(2))
    train(twin, SteepestDescent(twin, 0.1), range(2))
    assert same(model.weights, twin.weights)


def test_a_module_of_mass_zero_does_not_move():
    model = mlp()
    model[0].tare(0)
    before = model[0].weight.detach().clone()
    train(model, SteepestDescent(model, 0.1, weight_decay=0.1), range(2))
    assert torch.equal(model[0].weight, before)


def test_no_gradient_at_all_is_no_step():
    model = mlp()
    before = frozen_copy(model)
    SteepestDescent(model, 0.1, weight_decay=0.1).step()
    assert same(model.weights, before)


def test_masses_edited_between_steps_count():
    model = mlp()
    optimizer = SteepestDescent(model, 1.0, momentum=0.0, method="svd")
    model[-1].tare(6)
    before = frozen_copy(model)
    assign(model, random_gradient(model, 0))
    optimizer.step()
    update = (before - model.weights)["4.weight"]
    close(model[-1].geometry.norm(update[None])[0], 6 / 8, rtol=1e-8)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"lr": -0.1}, ValueError, "lr is finite and at least 0, got -0.1"),
        ({"lr": float("nan")}, ValueError, "lr is finite"),
        ({"lr": "0.1"}, TypeError, "lr is a number, got str"),
        ({"lr": torch.ones(2)}, ValueError, r"no axes, got the shape \[2\]"),
        ({"lr": torch.tensor(1)}, TypeError, "floating-point"),
        ({"momentum": 1.0}, ValueError, "momentum is below 1"),
        ({"momentum": -0.1}, ValueError, "momentum is finite and at least 0"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay is finite and at least 0"),
        ({"nonfinite": "ignore"}, ValueError, "'propagate', 'skip', 'raise'; got 'ignore'"),
        ({"method": "qr"}, ValueError, "no method 'qr'"),
        ({"base": "lion"}, ValueError, 'base is "sgd" or "adam"'),
        ({"base": "adam"}, ValueError, "needs normalize=True"),
        ({"base": "adam", "normalize": True, "momentum": 0.9}, ValueError, "averages with betas"),
        (
            {"base": "adam", "normalize": True, "betas": (0.9, 1.0)},
            ValueError,
            "each of betas is below 1",
        ),
        ({"base": "adam", "normalize": True, "betas": 0.9}, TypeError, "betas are two numbers"),
        ({"betas": (0.8, 0.9)}, ValueError, "betas and eps are Adam's"),
        ({"normalize": True, "method": "svd"}, ValueError, "orthogonalises none"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        SteepestDescent(mlp(), **{"lr": 0.1, **arguments})


def test_parameters_are_refused():
    with pytest.raises(TypeError, match="takes the model itself, got generator"):
        SteepestDescent(mlp().parameters(), lr=0.1)


def test_a_wrapper_is_refused():
    with pytest.raises(TypeError, match="got Sequential: if it wraps one"):
        SteepestDescent(torch.nn.Sequential(mlp()), lr=0.1)


def test_a_model_without_weights_is_refused():
    with pytest.raises(ValueError, match="empty parameter list"):
        SteepestDescent(ReLU(), lr=0.1)


def test_replaced_parameters_are_noticed():
    model = mlp()
    optimizer = SteepestDescent(model, lr=0.1)
    model[0].weight = torch.nn.Parameter(model[0].weight.detach().clone())
    with pytest.raises(RuntimeError, match="make the optimizer after"):
        optimizer.step()


def test_weights_is_a_live_view_for_the_optimizer_too():
    model = mlp()
    optimizer = SteepestDescent(model, lr=0.1)
    assert isinstance(model.weights, Weights)
    assert all(
        p is w
        for p, w in zip(optimizer.param_groups[0]["params"], model.weights.tensors, strict=True)
    )
