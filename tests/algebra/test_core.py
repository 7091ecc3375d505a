"""The algebra of modules: the map, the spaces and the constants of composed modules."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modula import (
    L1,
    RMS,
    Add,
    Atom,
    Bias,
    Bond,
    Composition,
    CompositionError,
    Concatenation,
    Conv2D,
    Embed,
    FunctionBond,
    Gain,
    HeadRMS,
    Identity,
    Linear,
    Linf,
    MergeHeads,
    Module,
    Mul,
    ReLU,
    Softmax,
    SplitIntoHeads,
    Tanh,
)
from modula.spaces import Product, Space
from tests import reference
from tests.helpers import assert_unchanged, close, rand, random_gradient, snapshot
from tests.strategies import feature_trees, scalars, seeds, trees

WIDTH = 3
few = settings(max_examples=20)
three = st.tuples(*[feature_trees(WIDTH)] * 3)


def linear() -> Linear:
    return Linear(WIDTH, WIDTH)


def numbers(model: Module, seed: int = 0) -> list[torch.Tensor]:
    """Mass, sensitivity, and the dual norm and update of one gradient, in parameter order."""
    gradient = random_gradient(model, seed)
    return [
        torch.tensor([model.mass, model.sensitivity]),
        model.dual_norm(gradient),
        *model.dualize(gradient, method="svd").tensors,
    ]


def assert_same_module(one: Module, other: Module) -> None:
    """The same map and the same numbers."""
    x = rand(0, 5, WIDTH)
    close(one(x), other(x))
    for a, b in zip(numbers(one), numbers(other), strict=True):
        close(a, b)


# Composition


@few
@given(parts=three)
def test_composition_is_associative(parts):
    f, g, h = parts
    assert_same_module((f @ g) @ h, f @ (g @ h))


@few
@given(parts=three)
def test_a_chain_is_flat_however_it_is_bracketed(parts):
    f, g, h = parts
    assert list(map(id, (f @ g) @ h)) == list(map(id, f @ (g @ h)))


def test_composition_applies_the_right_hand_first():
    model = FunctionBond(lambda x: x + 1, domain=RMS, codomain=RMS) @ FunctionBond(
        lambda x: 2 * x, domain=RMS, codomain=RMS
    )
    assert model(torch.ones(3)).tolist() == [3, 3, 3]


def test_parameters_come_in_the_order_of_the_data():
    first, second, third, last = Linear(2, 3), Gain(2), Bias(2), Linear(4, 2)
    model = last @ third @ (second @ first)
    assert list(map(id, model.parameters())) == [
        id(atom.weight) for atom in (first, second, third, last)
    ]


def test_weights_of_a_tuple_come_in_the_order_of_the_tuple():
    entrance, left, right, last = linear(), linear(), linear(), linear()
    model = last @ Add() @ (left, right) @ entrance
    assert list(map(id, model.weights.tensors)) == [
        id(atom.weight) for atom in (entrance, left, right, last)
    ]


@given(model=trees())
def test_weights_are_the_parameters_in_order(model):
    assert list(map(id, model.weights.tensors)) == list(map(id, model.parameters()))


@given(model=trees())
def test_weights_carry_the_names_of_the_parameters(model):
    assert list(model.weights.names) == [name for name, _ in model.named_parameters()]


@given(model=trees())
def test_mass_is_the_sum_over_atoms(model):
    close(model.mass, sum(atom.mass for atom in model.modules() if isinstance(atom, Atom)))


# Sums, multiples, concatenations


@few
@given(parts=three)
def test_sums_associate(parts):
    f, g, h = parts
    assert_same_module((f + g) + h, f + (g + h))


@few
@given(parts=three)
def test_sum_is_add_of_a_concatenation(parts):
    f, g, _ = parts
    assert_same_module(f + g, Add() @ Concatenation(f, g))


@few
@given(parts=three)
def test_a_tuple_stands_for_a_concatenation(parts):
    assert_same_module(Add() @ parts, Add() @ Concatenation(*parts))


@few
@given(parts=three)
def test_sensitivities_of_a_sum_add_up(parts):
    f, g, h = parts
    close((f + g + h).sensitivity, f.sensitivity + g.sensitivity + h.sensitivity)


@few
@given(parts=three)
def test_sensitivities_of_a_chain_multiply(parts):
    f, g, h = parts
    close((f @ g @ h).sensitivity, f.sensitivity * g.sensitivity * h.sensitivity)


@few
@given(f=feature_trees(WIDTH))
def test_sum_adds_the_outputs(f):
    x = rand(0, 5, WIDTH)
    close((f + copy.deepcopy(f))(x), 2 * f(x))


@few
@given(f=feature_trees(WIDTH), a=scalars)
def test_a_multiple_is_composition_with_mul(f, a):
    assert_same_module(a * f, Mul(a) @ f)


@few
@given(f=feature_trees(WIDTH), a=scalars)
def test_multiplication_by_a_scalar_commutes(f, a):
    assert_same_module(a * f, f * a)


@few
@given(f=feature_trees(WIDTH), a=scalars)
def test_division_is_multiplication_by_the_inverse(f, a):
    assert_same_module(f / a, (1 / a) * f)


@few
@given(f=feature_trees(WIDTH), a=scalars)
def test_a_multiple_scales_output_and_sensitivity(f, a):
    x = rand(0, 5, WIDTH)
    close((a * f)(x), a * f(x))
    close((a * f).sensitivity, abs(a) * f.sensitivity)


@few
@given(f=feature_trees(WIDTH), a=scalars)
def test_a_multiple_has_the_same_mass(f, a):
    assert (a * f).mass == f.mass


def test_mul_scales_every_part_of_a_tuple():
    doubled = 2 * Concatenation(Identity(), (Identity(), Identity()))
    assert doubled(torch.ones(1)) == (torch.full((1,), 2.0), (torch.full((1,), 2.0),) * 2)


def test_a_numpy_scalar_scales_a_composition():
    model = linear() @ ReLU() @ linear()
    assert isinstance(np.float64(2) * model, Module)


def test_a_numpy_float32_scales_a_module():
    assert (linear() * np.float32(2)).sensitivity == 2


def test_a_tuple_composes_from_the_left():
    x = rand(0, 5, WIDTH).float()
    f, g, h = linear(), linear(), linear()
    left, right = ((f, g) @ h)(x)
    close(left, f(h(x)))
    close(right, g(h(x)))


def test_a_tuple_adds_from_the_left():
    f, pair = Concatenation(linear(), linear()), (Identity(), Identity())
    assert (pair + f).sensitivity == 4


def test_a_nested_tuple_is_a_nested_concatenation():
    x = torch.ones(2, WIDTH)
    model = Identity() @ ((Identity(), Mul(2.0)), Mul(3.0)) @ Linear(WIDTH, WIDTH)
    (one, two), three = model(x)
    close(two + one, three, rtol=1e-6)


def test_a_named_composition_has_the_same_constants():
    class Block(Composition[RMS, RMS]):
        pass

    plain = linear() @ ReLU() @ linear().tare(3.0)
    named = Block(copy.deepcopy(plain))
    outer = linear()
    for a, b in zip(numbers(copy.deepcopy(outer) @ plain), numbers(outer @ named), strict=True):
        close(a, b)


def test_a_named_composition_is_one_component():
    class Block(Composition[RMS, RMS]):
        pass

    assert len(linear() @ Block(linear() @ ReLU())) == 2


# Powers


@few
@given(f=feature_trees(WIDTH), n=st.integers(1, 4))
def test_power_multiplies_mass_and_sensitivity(f, n):
    power = f**n
    close(power.mass, n * f.mass)
    close(power.sensitivity, f.sensitivity**n)


def test_power_is_flat():
    assert len((linear() @ ReLU()) ** 4) == 8


def test_power_shares_no_weights():
    f = linear()
    power = f**3
    assert len({id(p) for p in [*power.parameters(), f.weight]}) == 4


@pytest.mark.parametrize("n", [1, 3])
def test_power_draws_fresh_weights(n):
    f = Linear(4, 4)
    drawn = [f.weight, *(f**n).parameters()]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_power_copies_masses_and_sensitivities():
    f = linear() @ ReLU()
    f[0].sensitivity, f[1].mass = 0.5, 0.25
    assert [part.mass for part in f**2] == [0, 0.25, 0, 0.25]
    assert (f**2).sensitivity == 0.25


def test_power_zero_is_the_identity():
    x = torch.ones(2, WIDTH)
    assert torch.equal((linear() ** 0)(x), x)


def test_power_of_a_map_between_different_spaces_is_refused():
    with pytest.raises(CompositionError, match=r"RMS\(4\) is not RMS\(3\)"):
        Linear(3, 4) ** 2


# Tare


@given(model=trees(), mass=st.floats(1e-3, 1e3))
def test_tare_sets_the_mass(model, mass):
    if model.mass:
        close(model.tare(mass).mass, mass)


@given(model=trees(), mass=st.floats(1e-3, 1e3))
def test_tare_keeps_proportions(model, mass):
    before = [atom.mass / model.mass for atom in reference.atoms(model)] if model.mass else []
    if model.mass:
        model.tare(mass)
        close([atom.mass / model.mass for atom in reference.atoms(model)], before)


def test_tare_returns_the_module_itself():
    model = linear()
    assert model.tare(2.0) is model


def test_tare_to_zero_stops_training():
    model = linear() @ linear().tare(0)
    gradient = random_gradient(model, 0)
    assert [bool(part.any()) for part in model.dualize(gradient).tensors] == [False, True]


def test_a_massless_module_may_be_tared_to_zero():
    assert ReLU().tare(0).mass == 0


@pytest.mark.parametrize(
    "model", [ReLU(), ReLU() @ Tanh(), linear().tare(0)], ids=["bond", "bonds", "tared"]
)
def test_a_massless_module_cannot_be_tared_to_something(model):
    with pytest.raises(ValueError, match=r"has mass 0.*set the mass of its atoms"):
        model.tare(1.0)


@pytest.mark.parametrize("mass", [-1.0, math.nan, math.inf, True, "1"])
def test_tare_refuses_an_invalid_mass(mass):
    model = linear() @ linear()
    before = snapshot(model)
    with pytest.raises(ValueError, match="must be a finite number ≥ 0"):
        model.tare(mass)
    assert_unchanged(model, before)


def test_tare_of_a_path_is_tare_of_the_module_there():
    model = linear() @ (ReLU() @ linear() @ linear()).tare(3.0)
    model.tare(0.5, "0")
    close([atom.mass for atom in reference.atoms(model)], [0.5, 1.5, 1.0])


def test_tare_of_a_class_keeps_the_ratios_among_its_modules():
    model = Gain(WIDTH) @ linear().tare(3.0) @ Bias(WIDTH) @ linear()
    model.tare(8.0, "Linear")
    close([atom.mass for atom in reference.atoms(model)], [2.0, 1.0, 6.0, 1.0])


def test_tare_of_several_modules_changes_no_other_mass():
    model = Gain(WIDTH) @ linear() @ Bias(WIDTH) @ linear()
    close(
        [atom.mass for atom in reference.atoms(model.tare({"Linear": 8.0, "1": 0.0}))],
        [4.0, 0.0, 4.0, 1.0],
    )


@pytest.mark.parametrize(
    ("masses", "message"),
    [
        ({"Linear": 1.0, "Gain": 1.0}, r"no part 'Gain' in .*such as '0', or a class: .*Linear"),
        ({"0": 1.0, "Linear": 2.0}, r"'0' and 'Linear' in .* share Linear"),
        ({"0": 1.0, "": 2.0}, r"'0' and '' in .* share Linear"),
        ({"2": 1.0, "0": -1.0}, r"the mass of '0' in .* must be a finite number ≥ 0, got -1.0"),
        ({"2": 1.0, "1": 1.0}, r"'1' in .* has mass 0, so there is nothing to scale"),
    ],
    ids=["missing", "overlapping", "whole and part", "negative", "massless"],
)
def test_a_failed_tare_changes_nothing(masses, message):
    model = linear() @ ReLU() @ linear()
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        model.tare(masses)
    assert_unchanged(model, before)


def test_tare_refuses_a_mapping_with_a_path():
    with pytest.raises(TypeError, match=r"as in \{'0': 1.0\}, or one part as at='0'; got both"):
        (linear() @ linear()).tare({"0": 1.0}, "0")


# Spaces and widths


@pytest.mark.parametrize(
    ("model", "signature"),
    [
        (Linear(3, 4), ("RMS(4)", "RMS(3)")),
        (Linear(3, 4) @ ReLU(), ("RMS(4)", "RMS(3)")),
        (ReLU() @ Linear(3, 4), ("RMS(4)", "RMS(3)")),
        (Linear(3, 4) @ Embed(4, 9), ("OneHot(9)", "RMS(3)")),
        (Softmax() @ Linear(3, 4, codomain=Linf), ("RMS(4)", "L1")),
        (Add() @ (Linear(3, 4), Linear(3, 4)), ("RMS(4)", "RMS(3)")),
        (Concatenation(Linear(3, 4), Linear(2, 4)), ("RMS(4)", "(RMS(3), RMS(2))")),
        (Concatenation(Linear(3, 4), Identity()), ("RMS(4)", "(RMS(3), RMS(4))")),
        (SplitIntoHeads(2) @ Linear(6, 4), ("RMS(4)", "HeadRMS(3)")),
        (Linear(3, 3) + Identity(), ("RMS(3)", "RMS(3)")),
        (ReLU(), ("any dense space", "any dense space")),
        (Identity(), ("any space", "any space")),
    ],
    ids=str,
)
def test_signatures_are_inferred(model, signature):
    assert (str(model.domain), str(model.codomain)) == signature


def test_widths_travel_through_elementwise_bonds_from_either_side():
    chain = ReLU() @ Tanh() @ Linear(5, 4)
    assert chain.codomain == Space(RMS, 5)
    assert (Linear(4, 5) @ ReLU() @ Tanh()).domain == Space(RMS, 5)


def test_the_width_of_a_vector_follows_from_its_heads():
    assert (
        FunctionBond(torch.sin, domain=HeadRMS, codomain=HeadRMS) @ SplitIntoHeads(2) @ Linear(6, 4)
    ).domain == Space(RMS, 4)
    assert MergeHeads().domain == Space(HeadRMS)


MISMATCHES = [
    (lambda: Linear(3, 4) @ Linear(5, 6), ["Linear(3, 4)", "Linear(5, 6)", "RMS(4)", "RMS(5)"]),
    (lambda: Linear(3, 4) @ ReLU() @ Linear(5, 6), ["Linear(3, 4)", "ReLU()", "RMS(4)", "RMS(5)"]),
    (
        lambda: Linear(3, 4) @ (ReLU() @ Linear(5, 6)),
        ["Linear(3, 4)", "Linear(5, 6)", "RMS(4)", "RMS(5)"],
    ),
    (lambda: Embed(4, 4) @ Linear(4, 4), ["Embed(4, 4)", "Linear(4, 4)", "OneHot(4)", "RMS(4)"]),
    (lambda: Linear(3, 4, domain=L1) @ Linear(4, 5), ["L1(4)", "RMS(4)"]),
    (lambda: Linear(3, 4) @ Conv2D(4, 4), ["RMS(4)", "ChannelRMS(4)", "AvgPool() or Flatten()"]),
    (lambda: Linear(3, 4) @ SplitIntoHeads(2), ["RMS(4)", "HeadRMS", "MergeHeads()"]),
    (
        lambda: SplitIntoHeads(3) @ Linear(4, 4),
        ["SplitIntoHeads(3)", "Linear(4, 4)", "a width of 4 does not split into 3 heads"],
    ),
    (lambda: MergeHeads() @ Linear(4, 4), ["MergeHeads()", "Linear(4, 4)", "SplitIntoHeads"]),
    (lambda: Linear(3, 4) + Linear(3, 5), ["Linear(3, 4)", "Linear(3, 5)", "RMS(4)", "RMS(5)"]),
    (lambda: Linear(3, 4) + Linear(2, 4), ["Linear(3, 4)", "Linear(2, 4)", "RMS(3)", "RMS(2)"]),
    (lambda: Linear(3, 4) + Identity(), ["Linear(3, 4)", "Identity()"]),
    (
        lambda: Concatenation(Linear(3, 4), Linear(3, 5)),
        ["Linear(3, 4)", "Linear(3, 5)", "RMS(4)", "RMS(5)"],
    ),
    (lambda: Add() @ (Linear(3, 4), Linear(2, 4)), ["Add()", "RMS(3)", "RMS(2)"]),
    (lambda: Add() @ Linear(3, 4), ["Add()", "Linear(3, 4)", "tuple"]),
    (lambda: Linear(3, 4) @ (Linear(4, 4), Linear(4, 4)), ["Linear(3, 4)", "(RMS(4), RMS(4))"]),
    (lambda: Linear(3, 4) ** 2, ["Linear(3, 4)", "RMS(4)", "RMS(3)"]),
]


@pytest.mark.parametrize(("build", "named"), MISMATCHES, ids=range(len(MISMATCHES)))
def test_an_error_of_composition_names_both_modules_and_spaces(build, named):
    with pytest.raises(CompositionError) as caught:
        build()
    assert [word for word in named if word not in str(caught.value)] == []


class Gated(nn.Module):
    """A torch module with a parameter to train."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.ones(WIDTH))


@pytest.mark.parametrize(
    ("operand", "advice"),
    [
        (nn.Linear(3, 3), r"Linear\(fan_out, fan_in\), with Bias\(fan_out\) @ before it"),
        (nn.Embedding(9, 3), r"Embed\(d_embed, num_embed\)"),
        (nn.Conv2d(3, 3, 1), r"Conv2D\(out_channels, in_channels\)"),
        (nn.Tanh(), r"FunctionBond\(Tanh\(…\), domain=RMS, codomain=RMS, sensitivity=…\)"),
        (Gated(), r"Gated has parameters to train: write an Atom for each, or compose atoms"),
        (Gated().requires_grad_(False), r"FunctionBond\(Gated\(…\)"),
        (nn.Linear, r"this is a class; write Linear\(…\) to make a module"),
        (ReLU, r"this is a class; write ReLU\(…\) to make a module"),
    ],
    ids=["Linear", "Embedding", "Conv2d", "weightless", "trained", "frozen", "class", "own class"],
)
def test_the_error_for_a_torch_layer_says_how_to_write_it(operand, advice):
    with pytest.raises(TypeError, match=f"has no meaning: .*{advice}"):
        linear() @ operand


def test_the_advice_for_a_torch_linear_computes_the_same_map():
    layer = nn.Linear(4, 3, dtype=torch.float64)
    model = Bias(3, dtype=torch.float64) @ Linear(3, 4, dtype=torch.float64)
    model[0].weight.data, model[1].weight.data = layer.weight.data, layer.bias.data
    x = rand(0, 5, 4)
    close(model(x), layer(x))


def test_the_advice_for_a_torch_embedding_computes_the_same_map():
    layer, ids = nn.Embedding(9, 4), torch.tensor([[0, 8, 3]])
    model = Embed(4, 9)
    model.weight.data = layer.weight.data
    close(model(ids), layer(ids))


def test_the_advice_for_a_weightless_torch_module_computes_the_same_map():
    bond = FunctionBond(nn.Tanh(), domain=RMS, codomain=RMS, sensitivity=1.0)
    x = rand(0, 5, WIDTH)
    close((bond @ Identity())(x), torch.tanh(x))


def test_a_composition_error_is_a_type_error():
    assert issubclass(CompositionError, TypeError)


def test_a_failed_composition_leaves_the_operands_as_they_were():
    one, other = Linear(3, 4) @ ReLU(), Linear(5, 6)
    before = snapshot(one), snapshot(other)
    with pytest.raises(CompositionError):
        one @ other
    assert_unchanged(one, before[0])
    assert_unchanged(other, before[1])


def test_an_input_of_another_width_is_refused_by_name():
    with pytest.raises(ValueError, match=r"Linear\(3, 4\) takes RMS\(4\).*shape \[2, 5\]"):
        (Linear(3, 4) @ ReLU())(torch.ones(2, 5))


# Replacing a component


def test_a_component_is_replaced_by_index():
    model = linear() @ ReLU() @ linear()
    model[1] = Tanh()
    x = torch.ones(2, WIDTH)
    close(model(x), model[2](torch.tanh(model[0](x))))


def test_a_component_is_replaced_by_a_negative_index():
    model = linear() @ ReLU() @ linear()
    last = linear()
    model[-1] = last
    assert model[2] is last


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ((ReLU(), Tanh()), r"write Concatenation\(f, g\)"),
        (nn.Tanh(), r"FunctionBond\(Tanh\(…\)"),
        (None, "a component is a module"),
    ],
    ids=["tuple", "torch module", "None"],
)
def test_a_component_that_is_not_a_module_is_refused(value, advice):
    model = linear() @ ReLU() @ linear()
    before = snapshot(model)
    with pytest.raises(TypeError, match=rf"\[1\] = .* has no meaning: .*{advice}"):
        model[1] = value
    assert_unchanged(model, before)


def test_the_order_of_parameters_survives_replacement():
    model = linear() @ ReLU() @ linear()
    model[0] = linear()
    assert list(map(id, model.parameters())) == [id(model[0].weight), id(model[2].weight)]


@pytest.mark.parametrize(
    "replacement",
    [Linear(WIDTH, 4), Linear(4, WIDTH), Embed(WIDTH, 9), Softmax(), SplitIntoHeads(1)],
    ids=repr,
)
def test_a_replacement_that_does_not_fit_is_refused(replacement):
    model = linear() @ ReLU() @ linear()
    before = snapshot(model)
    with pytest.raises(CompositionError, match="cannot put"):
        model[0] = replacement
    assert_unchanged(model, before)


def test_a_replacement_with_another_signature_is_refused():
    model = Linear(3, 4) @ Linear(4, 5)
    before = snapshot(model)
    with pytest.raises(CompositionError, match=r"from RMS\(5\) → RMS\(3\) to RMS\(6\) → RMS\(3\)"):
        model[0] = Linear(4, 6)
    assert_unchanged(model, before)


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range_is_an_index_error(index):
    model = linear() @ ReLU() @ linear()
    with pytest.raises(IndexError):
        model[index] = ReLU()


def test_a_component_used_twice_has_one_weight():
    model = linear() @ ReLU() @ linear()
    model[0] = model[2]
    assert model.weights.names == ("0.weight",)


def test_a_component_shared_with_the_outer_network_has_one_weight():
    class Block(Composition[RMS, RMS]):
        pass

    outside, block = linear(), Block(linear() @ ReLU())
    model = outside @ block
    assert len(model.weights) == 2
    block[0] = outside
    assert len(model.weights) == 2
    block[1] = ReLU()
    assert len(model.weights) == 1


def test_a_component_may_replace_itself():
    model = linear() @ ReLU()
    child = model[1]
    model[1] = child
    assert model[1] is child


def test_iteration_is_in_the_order_of_the_data():
    f, g, h = linear(), ReLU(), linear()
    assert list(h @ g @ f) == [f, g, h]


# Modules written by a user


def test_a_bond_needs_forward_and_sensitivity_only():
    class Shift(Bond[RMS, RMS]):
        sensitivity = 0.5

        def forward(self, x):
            return x + 1

    model = linear() @ Shift() @ linear()
    assert (model.sensitivity, model.mass) == (0.5, 2)


def test_a_function_bond_declares_its_spaces():
    bond = FunctionBond(torch.sin, domain=L1, codomain=Linf, sensitivity=2.0)
    assert (bond.domain, bond.codomain, bond.sensitivity) == (Space(L1), Space(Linf), 2.0)


def test_a_tuple_of_types_is_a_product():
    class Swap(Bond[tuple[RMS, L1], tuple[L1, RMS]]):
        pass

    assert Swap().domain == Product((Space(RMS), Space(L1)))


@pytest.mark.parametrize("sensitivity", [0.0, -1.0, math.nan, math.inf])
def test_a_class_cannot_declare_an_impossible_sensitivity(sensitivity):
    with pytest.raises(ValueError, match=r"sensitivity of .*Broken.* must be a finite number > 0"):
        type("Broken", (Bond,), {"sensitivity": sensitivity})


@pytest.mark.parametrize("mass", [-1.0, math.nan, math.inf])
def test_a_class_cannot_declare_an_impossible_mass(mass):
    with pytest.raises(ValueError, match=r"mass of .*Broken.* must be a finite number ≥ 0"):
        type("Broken", (Atom,), {"mass": mass})


def test_a_bare_module_says_what_to_subclass():
    class Bare(Module[RMS, RMS]):
        pass

    with pytest.raises(NotImplementedError, match="Bare is neither an Atom nor a Bond"):
        Bare().sensitivity


# Initialisation and projection


@given(model=trees(), seed=seeds)
@few
def test_initialize_is_reproducible(model, seed):
    model.initialize(torch.Generator().manual_seed(seed))
    first = [w.detach().clone() for w in model.weights.tensors]
    model.initialize(torch.Generator().manual_seed(seed))
    assert all(map(torch.equal, model.weights.tensors, first))


@given(model=trees())
@few
def test_initialize_writes_the_same_parameters(model):
    before = list(map(id, model.parameters()))
    model.initialize()
    assert list(map(id, model.parameters())) == before


@given(model=trees())
@few
def test_initialized_weights_have_norm_one_but_for_biases(model):
    for atom in reference.atoms(model):
        close(
            reference.atom_norm(atom, atom.weight.detach().numpy()),
            0.0 if isinstance(atom, Bias) else 1.0,
            rtol=1e-5,
        )


@given(model=trees(), seed=seeds)
@few
def test_projected_weights_have_norms_of_at_most_one(model, seed):
    model.weights += 10 * model.normalize(
        type(model.weights - model.weights)(dict(random_gradient(model, seed).items()))
    )
    model.project()
    for atom in reference.atoms(model):
        assert reference.atom_norm(atom, atom.weight.detach().numpy()) <= 1.01


def test_project_hardly_changes_initial_weights():
    model = Linear(3, 4) @ Bias(4) @ Gain(4) @ Embed(4, 7)
    before = [w.detach().clone() for w in model.weights.tensors]
    model.project()
    for now, then in zip(model.weights.tensors, before, strict=True):
        close(now, then, atol=5e-3)


# The gradient


def regression(model: Module) -> torch.Tensor:
    return model(rand(0, 5, WIDTH).float()).square().mean()


def test_gradient_of_a_loss_is_that_of_autograd():
    model = linear() @ ReLU() @ linear()
    gradient = model.gradient(regression(model))
    regression(model).backward()
    assert all(
        torch.equal(g, p.grad) for g, p in zip(gradient.tensors, model.parameters(), strict=True)
    )


def test_gradient_of_a_loss_does_not_write_grad():
    model = linear()
    model.gradient(regression(model))
    assert model.weight.grad is None


def test_collected_gradient_is_a_live_view():
    model = linear()
    regression(model).backward()
    assert model.gradient().tensors[0].data_ptr() == model.weight.grad.data_ptr()


def test_a_frozen_weight_has_a_zero_gradient():
    model = linear() @ ReLU() @ linear()
    model[0].requires_grad_(False)
    assert [bool(g.any()) for g in model.gradient(regression(model)).tensors] == [False, True]


def test_a_frozen_weight_needs_no_grad_when_collected():
    model = linear() @ ReLU() @ linear()
    model[0].requires_grad_(False)
    regression(model).backward()
    assert [bool(g.any()) for g in model.gradient().tensors] == [False, True]


def test_a_frozen_weight_does_not_move():
    model = linear() @ ReLU() @ linear()
    model[0].requires_grad_(False)
    update = model.dualize(model.gradient(regression(model)))
    assert [bool(u.any()) for u in update.tensors] == [False, True]


def test_a_weight_that_the_loss_does_not_depend_on_has_a_zero_gradient():
    model = linear() @ linear()
    assert [
        bool(g.any()) for g in model.gradient(model[0](rand(0, 5, WIDTH).float()).sum()).tensors
    ] == [True, False]


# print(model)


@given(model=trees())
def test_print_names_every_atom_shape(model):
    for atom in reference.atoms(model):
        assert "×".join(map(str, atom.weight.shape)) in str(model)


def test_print_shows_mass_fractions_and_sensitivities_in_the_order_of_the_data():
    lines = str((2 * Linear(3, 4)) @ ReLU() @ Linear(4, 5).tare(3.0)).splitlines()
    assert [line.split()[-2] for line in lines[2:3]] == ["1"]
    assert "75.0%" in lines[2]
    assert "Linear(4, 5)" in lines[2]
    assert "25.0%" in lines[4]


def test_print_shows_equal_neighbours_once():
    assert len(str(Linear(3, 3) ** 50).splitlines()) == 4  # with the header and the count


@given(model=trees())
def test_repr_of_any_tree_is_one_line(model):
    assert "\n" not in repr(model)
