"""Bad input gets an error that names the module and the way out, and leaves the model as it was."""

import math
import types

import pytest
import torch
from torch import nn

from modula import (
    L1,
    RMS,
    Add,
    Bond,
    ChannelRMS,
    CompositionError,
    Concatenation,
    Embed,
    Enumerate,
    Gradient,
    Identity,
    LayoutError,
    Linear,
    Linf,
    Mul,
    NormPairError,
    OneHot,
    ParameterError,
    ReLU,
    Update,
)
from tests.helpers import assert_unchanged, random_gradient, random_update, snapshot

X = torch.ones(2, 4)


@pytest.fixture
def model():
    """A network of two layers, which every test must leave as it was."""
    made = Linear(3, 4) @ ReLU() @ Linear(4, 4)
    before = snapshot(made)
    yield made
    assert_unchanged(made, before)


def other() -> Linear:
    return Linear(3, 4) @ ReLU() @ Linear(4, 5)


# Composing


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        (
            lambda model: model @ Linear(5, 4),
            [
                r"Linear\(4, 4\)",
                r"Linear\(5, 4\)",
                r"RMS\(4\)",
                r"RMS\(5\)",
                "make both widths 5 or both 4",
            ],
        ),
        (
            lambda model: Linear(2, 4) @ model,
            [r"Linear\(2, 4\)", r"RMS\(3\)", "make both widths 3 or both 4"],
        ),
        (lambda model: model + Linear(3, 5), [r"Linear\(3, 5\)", r"RMS\(5\)"]),
        (
            lambda model: Concatenation(model, Linear(3, 5)),
            [r"Linear\(3, 5\)", r"RMS\(5\)", r"RMS\(4\)"],
        ),
        (
            lambda model: Embed(4, 3) @ model,
            [r"Embed\(4, 3\)", "OneHot", "RMS", "only at its start"],
        ),
    ],
)
def test_modules_that_do_not_fit(model, operation, told):
    with pytest.raises(CompositionError) as caught:
        operation(model)
    for pattern in told:
        caught.match(pattern)


@pytest.mark.parametrize(
    "operation",
    [
        lambda model, it: model @ it,
        lambda model, it: it @ model,
        lambda model, it: model + it,
        lambda model, it: it + model,
        lambda model, it: Add() @ (model, it),
        lambda model, it: model @ (it,),
    ],
)
def test_a_torch_module_is_told_to_be_wrapped(model, operation):
    with pytest.raises(TypeError, match=r"FunctionBond\(Tanh"):
        operation(model, nn.Tanh())


@pytest.mark.parametrize(
    ("thing", "advice"),
    [
        (None, "modules compose with modules"),
        ("x", "modules compose with modules"),
        (torch.relu, "modules compose with modules"),
        (3, "modules compose with modules"),
        ([ReLU()], "tuple"),
        (ReLU, r"write ReLU\(…\)"),
        (torch.ones(2), r"module\(x\)"),
    ],
    ids=["None", "str", "function", "int", "list", "class", "tensor"],
)
def test_what_is_no_module_does_not_compose(model, thing, advice):
    with pytest.raises(TypeError, match=f"has no meaning: .*{advice}"):
        model @ thing


def test_modules_do_not_subtract(model):
    with pytest.raises(TypeError, match=r"f \+ \(-1\) \* g"):
        model - Linear(3, 4)


@pytest.mark.parametrize("factor", ["2", None, torch.ones(2), [2.0], True])
def test_what_is_no_number_does_not_scale(model, factor):
    with pytest.raises(TypeError, match="a module is scaled by a number"):
        model * factor


def test_modules_do_not_multiply(model):
    with pytest.raises(TypeError, match="to compose modules use @"):
        model * model


@pytest.mark.parametrize("factor", [0, 0.0, math.nan, math.inf])
def test_a_multiple_by_zero_or_infinity(model, factor):
    with pytest.raises(ValueError, match=r"cannot multiply a module by .*tare\(0\)"):
        factor * model


def test_division_by_zero(model):
    with pytest.raises(ValueError, match=r"cannot divide Linear\(3, 4\) .* by zero"):
        model / 0


@pytest.mark.parametrize("divisor", [math.inf, math.nan])
def test_division_by_what_has_no_inverse(model, divisor):
    with pytest.raises(ValueError, match="cannot multiply a module by"):
        model / divisor


@pytest.mark.parametrize("power", [-1, 1.5, "2", True, None])
def test_an_impossible_power(power):
    with pytest.raises(
        (ValueError, TypeError), match=r"whole number of copies, at least 0; got Linear\(4, 4\)"
    ):
        Linear(4, 4) ** power


@pytest.mark.parametrize("power", [0, 1, 2])
def test_a_power_of_a_map_between_different_spaces(model, power):
    with pytest.raises(CompositionError, match=r"Linear\(3, 4\).*RMS\(4\).*RMS\(3\)"):
        model**power


def test_a_bond_between_what_is_no_norm():
    with pytest.raises(TypeError, match="int is no norm type: Broken maps between norm types"):
        types.new_class("Broken", (Bond[int, RMS],))


def test_an_empty_concatenation():
    with pytest.raises(ValueError, match="at least one module"):
        Concatenation()


@pytest.mark.parametrize(
    "operation",
    [
        lambda atom: atom @ ReLU() @ atom,
        lambda atom: atom + atom,
        lambda atom: Add() @ (atom, ReLU() @ atom),
        lambda atom: (atom @ ReLU()) @ (atom @ ReLU()),
        lambda atom: 2 * atom + atom,
    ],
)
def test_an_atom_that_stands_twice_is_one_weight_used_twice(operation):
    model = operation(Linear(4, 4))
    assert (len(model.weights), model.mass) == (1, 1.0)


def test_a_bond_may_stand_twice():
    bond = ReLU()
    assert (Linear(4, 4) @ bond @ Linear(4, 4) @ bond).mass == 2


class WithParameters(Bond[RMS, RMS]):
    sensitivity = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))


class WithModule(Bond[RMS, RMS]):
    sensitivity = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)


def test_a_bond_that_holds_a_parameter():
    with pytest.raises(ParameterError, match=r"'scale'.*WithParameters.*is a bond.*an Atom"):
        WithParameters()


def test_a_bond_whose_module_holds_parameters(model):
    with pytest.raises(ParameterError, match=r"'0\.inner\.weight', '0\.inner\.bias' of .*an Atom"):
        (model @ WithModule()).weights


def test_an_impossible_norm_pair():
    with pytest.raises(NormPairError, match=r"Linf → RMS: .*NP-hard.*; use RMS → RMS"):
        Linear(3, 4, domain=Linf)


@pytest.mark.parametrize(
    ("signature", "atom"),
    [((OneHot, RMS), "Embed"), ((ChannelRMS, ChannelRMS), "Conv2D")],
    ids=["ids", "images"],
)
def test_a_linear_between_spaces_that_have_an_atom_of_their_own(signature, atom):
    with pytest.raises(NormPairError, match=f"use {atom}"):
        Linear(3, 4, domain=signature[0], codomain=signature[1])


# Mass and sensitivity


IMPOSSIBLE_MASSES = [-1.0, -1e-9, math.nan, math.inf, "1", None, True]


@pytest.mark.parametrize("mass", IMPOSSIBLE_MASSES)
def test_an_impossible_mass_at_construction(mass):
    with pytest.raises(ValueError, match=r"mass of .*Linear.* must be a finite number ≥ 0"):
        Linear(3, 4, mass=mass)


@pytest.mark.parametrize("mass", IMPOSSIBLE_MASSES)
def test_an_impossible_mass_of_an_atom(model, mass):
    with pytest.raises(ValueError, match=r"mass of Linear\(4, 4\) must be a finite number ≥ 0"):
        model[0].mass = mass


@pytest.mark.parametrize("sensitivity", [0.0, -1.0, math.nan, math.inf, "1", None])
@pytest.mark.parametrize("place", [0, 1])
def test_an_impossible_sensitivity(model, sensitivity, place):
    with pytest.raises(
        ValueError, match=r"sensitivity of (Linear\(4, 4\)|ReLU\(\)) must be a finite number > 0"
    ):
        model[place].sensitivity = sensitivity


def test_a_bond_has_no_mass(model):
    with pytest.raises(ValueError, match=r"ReLU\(\) is a bond"):
        model[1].mass = 1.0


@pytest.mark.parametrize(
    ("name", "fix"), [("mass", r"tare\(mass\)"), ("sensitivity", r"0\.5 \* module")]
)
def test_derived_numbers_of_a_compound_cannot_be_set(model, name, fix):
    with pytest.raises(
        AttributeError,
        match=rf"{name} of Linear\(3, 4\).* follows from the modules inside.*{fix}",
    ):
        setattr(model, name, 2.0)


# Gradients


def test_a_missing_grad(model):
    with pytest.raises(
        ValueError,
        match=(
            r"no \.grad in '0\.weight', '2\.weight' of Linear\(3, "
            r"4\).*loss\.backward\(\).*model\.gradient\(loss\)"
        ),
    ):
        model.gradient()


def test_one_missing_grad_among_many(model):
    model[2].weight.grad = torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"no \.grad in '0\.weight' of"):
        model.gradient()


@pytest.mark.parametrize(
    "reduce", [lambda y: y, lambda y: y.sum(dim=0), lambda y: y.sum().reshape(1)]
)
def test_a_loss_that_is_no_scalar(model, reduce):
    with pytest.raises(ValueError, match=r"scalar loss, got one of shape .*loss\.mean\(\)"):
        model.gradient(reduce(model(X)))


@pytest.mark.parametrize(
    "loss",
    [
        lambda model: torch.tensor(1.0),
        lambda model: torch.tensor(1.0, requires_grad=True) * 2,
        lambda model: model(X).detach().sum(),
        lambda model: other()(torch.ones(2, 5)).sum(),
    ],
    ids=["constant", "unrelated", "detached", "another model"],
)
def test_a_loss_that_does_not_depend_on_the_model(model, loss):
    with pytest.raises(
        ValueError, match=r"the loss depends on no weight of Linear\(3, 4\).*torch\.no_grad\(\)"
    ):
        model.gradient(loss(model))


def test_a_loss_computed_without_grad(model):
    with torch.no_grad():
        loss = model(X).sum()
    with pytest.raises(ValueError, match=r"outside torch\.no_grad"):
        model.gradient(loss)


def test_a_loss_of_a_frozen_model():
    frozen = other().requires_grad_(False)
    with pytest.raises(ValueError, match="weights that require gradients"):
        frozen.gradient(frozen(torch.ones(2, 5)).sum())


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_an_integer_gradient(dtype):
    with pytest.raises(
        TypeError, match=rf"floating-point tensors, got a tensor of dtype {dtype} for 'weight'"
    ):
        Gradient({"weight": torch.ones(3, 4, dtype=dtype)})


GRADIENT_METHODS = ["dualize", "dual_norm"]
UPDATE_METHODS = ["norm", "normalize"]


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_the_gradient_of_another_model(model, method):
    with pytest.raises(
        LayoutError,
        match=(
            rf"{method}: .*'0\.weight' of shape \[4, 5\] where Linear\(3, 4\).*\[4, "
            r"4\].*model\.gradient\(loss\)"
        ),
    ):
        getattr(model, method)(random_gradient(other(), 0))


@pytest.mark.parametrize("method", UPDATE_METHODS)
def test_the_update_of_another_model(model, method):
    with pytest.raises(
        LayoutError, match=rf"{method}: .*'0\.weight' of shape \[4, 5\] where Linear\(3, 4\)"
    ):
        getattr(model, method)(random_update(other(), 0))


@pytest.mark.parametrize("method", GRADIENT_METHODS)
@pytest.mark.parametrize(
    "foreign",
    [
        {},
        {"0.weight": torch.ones(4, 4)},
        {"a": torch.ones(4, 4), "b": torch.ones(3, 4)},
        {"2.weight": torch.ones(3, 4), "0.weight": torch.ones(4, 4)},
    ],
    ids=["empty", "fewer", "names", "order"],
)
def test_a_gradient_of_another_layout(model, method, foreign):
    with pytest.raises(LayoutError, match="take the gradient from this very model"):
        getattr(model, method)(Gradient(foreign))


@pytest.mark.parametrize("method", GRADIENT_METHODS)
@pytest.mark.parametrize("wrong", ["update", "weights", "tensors"])
def test_what_is_no_gradient(model, method, wrong):
    value = {
        "update": random_update(model, 0),
        "weights": model.weights,
        "tensors": list(model.parameters()),
    }[wrong]
    with pytest.raises(
        TypeError,
        match=rf"{method} of Linear\(3, 4\).* takes a Gradient.*; got {type(value).__name__}",
    ):
        getattr(model, method)(value)


@pytest.mark.parametrize("method", UPDATE_METHODS)
@pytest.mark.parametrize("wrong", ["gradient", "weights"])
def test_what_is_no_update(model, method, wrong):
    value = {"gradient": random_gradient(model, 0), "weights": model.weights}[wrong]
    with pytest.raises(
        TypeError,
        match=rf"{method} of Linear\(3, 4\).* takes an Update.*; got {type(value).__name__}",
    ):
        getattr(model, method)(value)


@pytest.mark.parametrize(
    "move",
    [
        lambda w, g: w - g,
        lambda w, g: w + g,
        lambda w, g: w.__isub__(g),
        lambda w, g: w.__iadd__(g),
    ],
)
def test_a_gradient_does_not_move_weights(model, move):
    with pytest.raises(
        TypeError, match=r"Weights .*Gradient has no meaning: .*model\.dualize\(grad\)"
    ):
        move(model.weights, random_gradient(model, 0))


def test_an_update_of_another_model_does_not_move_weights(model):
    with pytest.raises(LayoutError, match="different models"):
        model.weights -= random_update(other(), 0)


def test_a_failed_update_moves_no_part(model):
    """The first tensor fits and the second does not: neither is written."""
    update = Update({"0.weight": torch.ones(4, 4), "2.weight": torch.ones(3, 5)})
    with pytest.raises(
        LayoutError, match=r"'2\.weight' is \[3, 4\] in one and \[3, 5\] in the other"
    ):
        model.weights -= update


# Shared weights, and coefficients


def shared(first: Linear, second: Linear) -> Linear:
    second.weight = first.weight
    return first + second


def test_a_shared_weight_with_two_masses():
    model = shared(Linear(4, 4), Linear(4, 4, mass=2))
    with pytest.raises(
        ParameterError, match=r"shared by Linear\(4, 4\) and .*different masses.*the same"
    ):
        model.weights


def test_a_shared_weight_with_two_norms_that_have_no_common_duality_map():
    first, second = Linear(4, 4, domain=L1), Linear(4, 4, domain=L1, codomain=Linf)
    second.weight = first.weight
    model = Concatenation(first, second)
    with pytest.raises(
        ParameterError, match=r"codomain=Linf\), which measure it by different norms: .*its own"
    ):
        model.weights


def test_a_coefficient_that_float32_cannot_represent():
    model = 1e30 * (1e30 * Linear(4, 4))
    with pytest.raises(
        ValueError, match=r"'0\.0?\.?weight' of .*mass fraction 1.*1e\+60.*range of float32: bring"
    ):
        model.dualize(random_gradient(model, 0))


# Inputs


@pytest.mark.parametrize("x", [torch.ones(2, 5), torch.ones(4, 3), torch.ones(())])
def test_an_input_of_another_width(model, x):
    with pytest.raises(ValueError, match=r"Linear\(4, 4\) takes RMS\(4\).*got a tensor of shape"):
        model(x)


@pytest.mark.parametrize("ids", [torch.tensor([4]), torch.tensor([-1])])
def test_token_ids_out_of_range(ids):
    network = Linear(2, 3) @ Embed(3, 4)
    before = snapshot(network)
    with pytest.raises(IndexError, match=r"Embed\(3, 4\) takes ids from 0 to 3"):
        network(ids)
    assert_unchanged(network, before)


def test_token_ids_that_are_not_integers():
    with pytest.raises(
        TypeError,
        match=r"Embed\(3, 4\) takes token ids of dtype int32 or int64, got torch\.float32",
    ):
        (Linear(2, 3) @ Embed(3, 4))(torch.ones(2))


@pytest.mark.parametrize(
    "compose",
    [
        lambda: Embed(3, 4) @ (Identity() + Enumerate()),
        lambda: Embed(3, 4) @ (Identity() + Identity()),
        lambda: Embed(3, 4) @ Mul(2.0),
        lambda: Enumerate() / 2,
        lambda: Add() @ (Enumerate(), Enumerate()),
        lambda: Mul(2.0) @ (Identity(), Linear(3, 4)) @ Enumerate(),
    ],
    ids=["sum", "sum of identities", "Mul", "quotient", "Add", "tuple"],
)
def test_ids_are_neither_added_nor_multiplied(compose):
    with pytest.raises(CompositionError, match="OneHot"):
        compose()
