"""Networks of several inputs: `Parallel`, `Select`, `Keep`, and their exact coefficients."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import (
    RMS,
    Add,
    CompositionError,
    Concat,
    Concatenation,
    Embed,
    Identity,
    Keep,
    Linear,
    OneHot,
    Parallel,
    ParameterError,
    ReLU,
    Select,
    SteepestDescent,
)
from modula.instruments import well_normed
from modula.testing import check_bond, check_network
from tests.helpers import close, rand

scales = st.floats(0.1, 10.0)


def layer(scale=1.0):
    return scale * Linear(3, 3)


def pair(seed=0):
    return rand(seed, 2, 4, dtype=torch.float32), torch.tensor([1, 8])


def test_each_module_gets_its_own_entry():
    f, g = Linear(8, 4), Embed(8, 9)
    x, ids = pair()
    y, z = Parallel(f, g)((x, ids))
    assert torch.equal(y, f(x))
    assert torch.equal(z, g(ids))


def test_its_spaces_are_tuples_of_those_of_its_modules():
    model = Parallel(Linear(8, 4), Embed(8, 9))
    assert str(model.domain) == "(RMS(4), OneHot(9))"
    assert str(model.codomain) == "(RMS(8), RMS(8))"


def test_a_neighbour_s_space_reaches_the_entries():
    model = Parallel(Identity(), ReLU()) @ (Linear(3, 4), Linear(5, 4))
    assert str(model.codomain) == "(RMS(3), RMS(5))"


def test_a_tuple_among_the_modules_is_a_concatenation():
    model = Parallel(Linear(2, 4), (Linear(3, 5), Linear(4, 5)))
    assert str(model.codomain) == "(RMS(2), (RMS(3), RMS(4)))"


@given(s=st.tuples(scales, scales))
def test_the_sensitivity_is_the_largest_of_the_modules(s):
    close(Parallel(layer(s[0]), layer(s[1])).sensitivity, max(s))


@given(s=st.tuples(scales, scales), t=st.tuples(scales, scales))
def test_after_a_tuple_it_is_the_tuple_of_the_compositions(s, t):
    """f × g after (h, k) is (f @ h, g @ k), with the same coefficients."""
    f, g, h, k = (Linear(3, 3) for _ in range(4))
    product = Add() @ Parallel(s[0] * f, s[1] * g) @ (t[0] * h, t[1] * k)
    pairs = Add() @ ((s[0] * f) @ (t[0] * h), (s[1] * g) @ (t[1] * k))
    close(product.sensitivity, pairs.sensitivity)
    for atom in (f, g, h, k):
        mine, theirs = (coefficient_of(model, atom) for model in (product, pairs))
        close(mine, theirs)
    x = torch.randn(2, 3)
    assert torch.equal(product(x), pairs(x))


def coefficient_of(model, atom):
    plan = model.plan()
    return next(c for w, c in zip(plan.weights, plan.coefficients, strict=True) if w is atom.weight)


def test_readers_of_different_entries_do_not_add_up_and_readers_of_one_do():
    one = Add() @ (layer(2.0) @ Select(0), layer(3.0) @ Select(0))
    other = Add() @ (layer(2.0) @ Select(0), layer(3.0) @ Select(1))
    both = Parallel(Keep(RMS), Keep(RMS))
    close((one @ both).sensitivity, 5.0)
    close((other @ both).sensitivity, 3.0)


def test_a_reader_of_the_whole_tuple_adds_to_those_of_its_entries():
    model = Add() @ (Add(), layer(2.0) @ Select(0), layer(4.0) @ Select(1))
    close((model @ Parallel(Keep(RMS), Keep(RMS))).sensitivity, 1.0 + 4.0)


def test_radii_follow_the_entries():
    model = Parallel(layer(2.0), layer(3.0))
    assert model.graph().radii((1.0, 0.5))[-1] == (2.0, 1.5)


NETWORKS = [
    lambda: Linear(2, 8) @ Add() @ Parallel(Linear(8, 4), 3 * Embed(8, 9)),
    lambda: Select(0) @ Parallel(Linear(3, 4), Keep(OneHot)),
    lambda: Parallel(Linear(3, 4) @ ReLU() @ Linear(4, 4), Embed(2, 9) @ Identity()),
]


@pytest.mark.parametrize("build", NETWORKS)
def test_the_laws_of_networks_hold(build):
    check_network(build(), pair(), steps=5)


def test_a_network_with_a_skip_connection_is_well_normed():
    up, down = Linear(3, 4) @ ReLU(), ReLU() @ Linear(4, 3)
    model = Linear(2, 6) @ Concat() @ Parallel(Keep(RMS), up) @ (Identity(), down)
    check_network(model, torch.randn(5, 3), steps=5)
    assert well_normed(model, torch.randn(5, 3)).holds


def test_it_trains_prints_copies_and_compiles():
    model = NETWORKS[0]()
    optimizer = SteepestDescent(model, lr=0.1)
    x = pair()
    losses = []
    compiled = torch.compile(model, backend="eager")
    for _ in range(5):
        loss = (compiled(x) - 1).square().mean()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    assert "Parallel" in str(model)
    assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_a_weight_from_which_no_path_leads_to_the_output_is_refused():
    model = Select(0) @ (Linear(3, 3), Linear(3, 3))
    with pytest.raises(ParameterError, match=r"does not depend on '0\.1\.weight'"):
        _ = model.weights


@settings(max_examples=5)
@given(index=st.integers(0, 2))
def test_select_takes_one_entry_and_is_proved(index):
    x = tuple(rand(i, 2, 3) for i in range(3))
    assert torch.equal(Select(index)(x), x[index])
    ratios = check_bond(Select(index), x, steps=5)
    close(ratios.input, 1.0)


def test_keep_is_the_identity():
    x = rand(0, 2, 3)
    assert Keep(RMS)(x) is x
    close(check_bond(Keep(RMS), x, steps=3).input, 1.0)


def test_select_and_parallel_refuse_other_values():
    with pytest.raises(TypeError, match="a tuple of at least 2, got a tensor"):
        Select(1)(torch.ones(3))
    with pytest.raises(TypeError, match="a tuple of at least 2, got a tuple of 1"):
        Select(1)((torch.ones(3),))
    with pytest.raises(TypeError, match=r"as in model\(\(x, y\)\); got a tensor"):
        Parallel(Linear(2, 2), Linear(2, 2))(torch.ones(2, 2))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Parallel(),
        lambda: Select(-1),
        lambda: Select(2, RMS, RMS),
    ],
)
def test_what_is_not_there_is_refused(build):
    with pytest.raises(ValueError, match=r"Parallel takes at least one|Select takes an index"):
        build()


@pytest.mark.parametrize("build", [lambda: Parallel(torch.nn.ReLU()), lambda: Keep(3)])
def test_what_is_no_module_or_norm_is_refused(build):
    with pytest.raises(TypeError):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Parallel(Linear(2, 3), Linear(2, 3)) @ Linear(3, 3),
        lambda: Select(2) @ (Linear(2, 3), Linear(2, 3)),
        lambda: Parallel(Linear(2, 3), Linear(2, 3)) @ (Linear(3, 3), Linear(4, 3)),
    ],
)
def test_tuples_that_do_not_fit_are_refused(build):
    with pytest.raises(CompositionError):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda f, g, h, k: Add() @ (f, g) @ (h, k),
        lambda f, g, h, k: Concatenation(f, g) @ (h, k),
        lambda f, g, h, k: (f, g) @ Concatenation(h, k),
    ],
)
def test_a_tuple_on_both_sides_shows_the_parentheses(build):
    with pytest.raises(CompositionError) as error:
        build(Linear(2, 3), Linear(2, 3), Linear(3, 5), Linear(3, 5))
    assert "(Linear(2, 3) @ Linear(3, 5), Linear(2, 3) @ Linear(3, 5))" in str(error.value)
    assert "Parallel(Linear(2, 3), Linear(2, 3))" in str(error.value)
