"""The graph's two accumulations are the papers' recursion, and its radii bound activations."""

import pytest
import torch
from hypothesis import given, settings

from modula import (
    Add,
    Bias,
    Identity,
    Linear,
    Module,
    Mul,
    ReLU,
    RMSNorm,
)
from modula.graph import GraphBuilder, Tuple, total_radius
from modula.spaces import measure
from tests import reference
from tests.helpers import close, full, largest_weight_gain, rand
from tests.strategies import proved_trees, seeds, trained_trees, trees

many = settings(max_examples=60)
few = settings(max_examples=15, deadline=None)


def by_name(model: Module, numbers: dict) -> dict[str, float]:
    """Numbers by atom, as numbers by the name of the atom's weight."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(atom.weight)]: number for atom, number in numbers.items()}


def at_norm_one(model: Module, seed: int) -> Module:
    """The model with a random extreme weight of norm 1 in each atom."""
    with torch.no_grad():
        for i, atom in enumerate(reference.atoms(model)):
            dual = atom.geometry.dualize(rand(seed + i, 1, *atom.weight.shape), "svd")
            atom.weight.copy_(dual[0])
    return model


# Backwards


@many
@given(model=trees())
def test_coefficients_are_those_of_the_recursion(model):
    plan = model.plan()
    expected = by_name(model, reference.coefficients(model))
    for name, coefficient in zip(plan.names, plan.coefficients, strict=True):
        close(coefficient, expected[name], rtol=1e-12, atol=0)


@many
@given(model=trees())
def test_sensitivities_of_weights_are_those_of_the_recursion(model):
    found = model.graph().weight_sensitivities()
    expected = by_name(model, reference.downstream(model))
    assert found.keys() == expected.keys()
    for name, s in found.items():
        close(s, expected[name], rtol=1e-12, atol=0)


@many
@given(model=trees())
def test_the_sensitivity_of_the_input_is_that_of_the_whole(model):
    close(model.graph().sensitivities()[0], reference.sensitivity(model), rtol=1e-12, atol=0)


@many
@given(model=trees())
def test_every_node_reads_earlier_nodes_and_the_last_is_read_by_none(model):
    nodes = model.graph().nodes
    read = {j for node in nodes for j in node.inputs}
    assert all(j < i for i, node in enumerate(nodes) for j in node.inputs)
    assert read == set(range(len(nodes) - 1))


@many
@given(model=trees())
def test_weights_are_the_parameters_in_their_order(model):
    assert list(model.graph().weights) == [name for name, _ in model.named_parameters()]


@many
@given(model=trees())
def test_the_mass_fractions_of_a_trained_network_sum_to_one(model):
    close(sum(model.graph().mass_fractions()), 1.0 if model.mass else 0.0)


def test_a_sensitivity_is_the_sum_over_paths_of_products():
    model = Linear(2, 2) @ (3.0 * Linear(2, 2) + 5.0 * (Linear(2, 2) @ (2.0 * Identity())))
    graph = model.graph()
    assert graph.sensitivities()[0] == 3 + 5 * 2
    assert list(graph.weight_sensitivities().values()) == [3, 5, 1]


def test_a_value_that_two_nodes_read_has_the_sum_of_their_sensitivities():
    builder = GraphBuilder()
    source = builder.add("source", Mul(2.0), (0,))
    one, other = builder.add("one", Mul(3.0), (source,)), builder.add("other", Mul(4.0), (source,))
    pair = builder.add("pair", Tuple(2), (one, other))
    builder.add("sum", Add(), (pair,))
    assert builder.finish().sensitivities() == [14, 7, 1, 1, 1, 1]


def test_a_node_that_nothing_reads_has_sensitivity_zero():
    builder = GraphBuilder()
    builder.add("unread", Mul(2.0), (0,))
    builder.add("output", Mul(3.0), (0,))
    assert builder.finish().sensitivities() == [3, 0, 1]


def test_an_edited_sensitivity_is_in_the_next_accumulation():
    model = Linear(2, 2) @ ReLU() @ Linear(2, 2)
    graph = model.graph()
    assert graph.sensitivities()[0] == 1
    model[1].sensitivity = 0.5
    assert graph.sensitivities()[0] == 0.5


def test_the_sensitivities_that_a_graph_returns_are_the_callers_own():
    graph = (Linear(2, 2) @ Linear(2, 2)).graph()
    graph.sensitivities()[0] = 7.0
    graph.weight_sensitivities()["0.weight"] = 7.0
    assert graph.sensitivities()[0] == graph.weight_sensitivities()["0.weight"] == 1


# Forwards


@many
@given(model=proved_trees())
def test_radii_are_those_of_a_recursion_over_the_tree(model):
    output, read = reference.radii(model, 1.0)
    graph = model.graph()
    R = graph.radii()
    close(total_radius(R[-1]), total_radius(output), rtol=1e-12)
    entering = {graph.nodes[i].path: R[graph.nodes[i].inputs[0]] for i, _ in graph.uses()}
    assert entering.keys() == {path for path, _ in read}
    for path, expected in read:
        close(total_radius(entering[path]), total_radius(expected), rtol=1e-12)


@many
@given(model=proved_trees(), seed=seeds)
def test_radii_bound_every_activation(model, seed):
    at_norm_one(model, seed)
    graph = model.graph()
    R = {node.path: total_radius(r) for node, r in zip(graph.nodes, graph.radii(), strict=True)}
    x = full(model.domain, rand(seed, 4, model.domain.width))
    for seen in model.observe(x):
        if seen.operation is not None:
            size = float(measure(seen.codomain, seen.y))
            assert size <= R[seen.path] * (1 + 1e-9), seen.path


@few
@given(model=proved_trees(), seed=seeds)
def test_the_first_order_bound_holds_under_attack(model, seed):
    at_norm_one(model, seed)
    x = full(model.domain, rand(seed, 2, model.domain.width))
    gain = largest_weight_gain(model, x, starts=2, rounds=5)
    assert gain <= model.first_order_bound() * (1 + 1e-7)


@many
@given(model=trained_trees())
def test_with_radii_of_one_everywhere_the_bound_of_the_papers_is_one(model):
    plan = model.plan()
    reach = model.graph().weight_sensitivities()
    bound = sum(c * reach[name] for name, c in zip(plan.names, plan.coefficients, strict=True))
    close(bound, 1.0)


EXAMPLES = {
    "a residual sum": (lambda: Linear(2, 2) @ (Identity() + Linear(2, 2)), 1.5),
    "a multiple": (lambda: Linear(2, 2) @ (2.0 * Linear(2, 2)), 1.5),
    "a bias": (lambda: Linear(2, 2) @ Bias(2) @ Linear(2, 2), 4 / 3),
    "a residual average": (lambda: Linear(2, 2) @ (0.5 * Identity() + 0.5 * Linear(2, 2)), 1.0),
    "a normalised sum": (lambda: Linear(2, 2) @ RMSNorm() @ (Identity() + Linear(2, 2)), 1.0),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_first_order_bound_of_an_example(name):
    make, expected = EXAMPLES[name]
    close(make().first_order_bound(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["a residual sum", "a multiple", "a bias"])
def test_where_the_papers_hypothesis_fails_the_bound_is_attained(name):
    make, expected = EXAMPLES[name]
    model = make().double()
    with torch.no_grad():
        for weight in model.weights.tensors:
            weight.copy_(torch.eye(2) if weight.dim() == 2 else torch.ones(2))
    found = largest_weight_gain(model, torch.ones(1, 2, dtype=torch.float64))
    close(found, expected, rtol=1e-6)


@given(model=proved_trees(), seed=seeds)
@few
def test_radii_grow_with_the_input(model, seed):
    graph = model.graph()
    for small, large in zip(graph.radii(0.5), graph.radii(2.0), strict=True):
        assert total_radius(small) <= total_radius(large)


def test_a_weight_that_no_output_depends_on_has_coefficient_zero_in_the_bound():
    model = Linear(2, 2, mass=0.0) @ (4.0 * Linear(2, 2))
    assert model.first_order_bound() == 1.0


def test_total_radius_of_a_nested_tuple_is_the_sum():
    assert total_radius((1.0, (2.0, 3.0))) == 6.0
