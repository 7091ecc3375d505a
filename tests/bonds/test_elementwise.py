"""Functions of single entries: the declared sensitivity is the largest slope, and it is reached."""

import math

import pytest
import torch
from hypothesis import given

from modula import (
    GELU,
    L1,
    L2,
    RMS,
    Abs,
    Identity,
    Linf,
    Module,
    Mul,
    ReLU,
    ScaledGELU,
    ScaledReLU,
    SiLU,
    SquaredReLU,
    Tanh,
)
from modula.spaces import Space
from tests.helpers import close, largest_gain, rand, step_gain
from tests.strategies import seeds

BONDS = [ReLU(), ScaledReLU(), GELU(), ScaledGELU(), SiLU(), Tanh(), Abs(), Identity(), Mul(-1.7)]
NORMS = [RMS, L1, L2, Linf]

every_bond = pytest.mark.parametrize("bond", BONDS, ids=repr)
every_norm = pytest.mark.parametrize("norm", NORMS)


def slopes(bond) -> torch.Tensor:
    x = torch.linspace(-12, 12, 240_001, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(bond(x).sum(), x)
    return slope.abs()


@every_bond
def test_no_slope_exceeds_the_sensitivity(bond):
    assert slopes(bond).max() <= bond.sensitivity * (1 + 1e-12)


@every_bond
def test_the_sensitivity_is_the_largest_slope(bond):
    close(slopes(bond).max(), bond.sensitivity, rtol=1e-7)


@pytest.mark.parametrize(
    ("bond", "worst"), [(ReLU(), 1.0), (GELU(), math.sqrt(2)), (SiLU(), 2.3993572805)], ids=repr
)
@every_norm
def test_the_bound_is_attained_at_the_worst_input(bond, worst, norm):
    x = torch.full((2, 4), worst, dtype=torch.float64)
    close(largest_gain(bond, x, (Space(norm), Space(norm))), bond.sensitivity, rtol=1e-9)


@pytest.mark.parametrize(
    ("bond", "function"),
    [
        (ReLU(), lambda x: max(x, 0.0)),
        (ScaledReLU(), lambda x: math.sqrt(2) * max(x, 0.0)),
        (GELU(), lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
        (ScaledGELU(), lambda x: math.sqrt(2) * x * (1 + math.erf(x / math.sqrt(2))) / 2),
        (SiLU(), lambda x: x / (1 + math.exp(-x))),
        (Tanh(), math.tanh),
        (Abs(), abs),
        (Mul(-1.7), lambda x: -1.7 * x),
    ],
    ids=lambda value: repr(value) if isinstance(value, Module) else "",
)
def test_it_is_the_function_of_its_name(bond, function):
    x = rand(0, 9)
    close(bond(x), [function(entry) for entry in x.tolist()])


@pytest.mark.parametrize("bond", [ScaledReLU(), ScaledGELU()], ids=repr)
def test_a_scaled_bond_is_its_plain_one_times_root_two(bond):
    plain = {ScaledReLU: ReLU, ScaledGELU: GELU}[type(bond)]()
    close(bond.sensitivity, math.sqrt(2) * plain.sensitivity)


def test_relu_halves_the_mean_square_of_symmetric_inputs_but_not_of_aligned_changes():
    x = torch.tensor([[1.0, -1.0]])
    close(RMS.measure(ReLU()(x)), 1 / math.sqrt(2), rtol=1e-6)
    close(step_gain(ReLU(), x, torch.tensor([[1.0, 0.0]]), (Space(RMS), Space(RMS))), 1.0)


@pytest.mark.parametrize("scale", [0, 0.0, math.nan, math.inf, -math.inf])
def test_mul_refuses_what_has_no_inverse(scale):
    with pytest.raises(ValueError, match=f"cannot multiply a module by {scale}"):
        Mul(scale)


@every_norm
@given(seed=seeds)
def test_squared_relu_keeps_its_bound_where_entries_are_at_most_one(norm, seed):
    bond = SquaredReLU()
    x = rand(seed, 2, 4).clamp(-1, 1)
    assert largest_gain(bond, x, (Space(norm), Space(norm)), starts=3) <= bond.sensitivity * (
        1 + 1e-9
    )


def test_squared_relu_reaches_its_bound_at_one():
    x = torch.ones(2, 4, dtype=torch.float64)
    close(largest_gain(SquaredReLU(), x, (Space(RMS), Space(RMS))), 2.0, rtol=1e-9)
