"""The report of radii: one row an operation, a bound that every run stays below."""

import math

import pytest
import torch
from hypothesis import given, settings

from modula import (
    GPT,
    MLP,
    Add,
    Bias,
    Embed,
    FunctionBond,
    Gain,
    Identity,
    Linear,
    Linf,
    ReLU,
    RMSNorm,
)
from modula.instruments import radii
from modula.instruments.radii import Radii
from tests.helpers import close, full, rand
from tests.strategies import proved_trees, seeds

few = settings(max_examples=20, deadline=None)


def residual() -> torch.nn.Module:
    return Linear(3, 4) @ (Identity() + Linear(4, 4, mass=3.0)) @ Bias(4)


# Rows


def test_there_is_one_row_for_each_node_but_the_input():
    model = residual()
    assert [row.path for row in radii(model).rows] == [
        node.path for node in model.graph().nodes[1:]
    ]


def test_rows_name_radius_claim_and_mass_fraction():
    report = radii(residual())
    rows = {row.path: row for row in report.rows}
    assert [rows[path].radius for path in ("0", "1.0.1", "1", "2") if path in rows] == [2, 2, 4]
    assert rows["0"].mass_fraction == 1 / 5
    assert rows["2"].weight_sensitivity == 4
    assert {row.claim for row in report.rows} == {"proved"}


def test_a_bias_is_moved_with_sensitivity_one_whatever_enters():
    row = radii(Bias(4) @ (3.0 * Linear(4, 4)))["2"]
    assert (row.radius, row.weight_sensitivity) == (4, 1)


def test_an_operation_without_weight_has_no_mass_fraction():
    row = radii(Linear(3, 4) @ ReLU())["0"]
    assert row.mass_fraction is row.weight_sensitivity is None


def test_an_estimate_is_shown_as_one():
    sine = FunctionBond(torch.sin, domain=Linf, codomain=Linf)
    assert radii(sine @ Linear(3, 4, codomain=Linf))["1"].claim == "estimate"


def test_the_bound_is_that_of_the_network():
    model = residual()
    assert radii(model).bound == model.first_order_bound()


# Measured


@few
@given(model=proved_trees(), seed=seeds)
def test_measured_norms_stay_below_radii(model, seed):
    model.initialize()
    report = radii(model, full(model.domain, rand(seed, 5, model.domain.width)))
    for row in report.rows:
        assert row.measured is None or row.measured <= row.radius * (1 + 1e-6), row


def test_measured_norms_are_those_of_the_run():
    model = (Linear(3, 4) @ ReLU() @ Linear(4, 5)).double()
    x = rand(0, 7, 5)
    report = radii(model, x)
    for row, layer in zip(report.rows, model, strict=True):
        x = layer(x)
        close(row.measured, x.square().mean(-1).sqrt().amax())


def test_without_an_input_nothing_is_measured():
    assert {row.measured for row in radii(residual()).rows} == {None}


def test_a_bond_that_stands_twice_is_measured_in_both_places():
    relu = ReLU()
    model = relu @ (2.0 * relu) @ Gain(4)
    assert [row.measured for row in radii(model, torch.ones(1, 4)).rows] == [1, 1, 2, 2]


def test_where_the_space_is_not_known_nothing_is_measured():
    assert radii(2.0 * ReLU(), torch.ones(1, 4))["1"].measured is None


def test_a_module_that_is_used_twice_is_measured_at_each_use():
    layer = Linear(4, 4, dtype=torch.float64)
    layer.weight.data.copy_(torch.eye(4) / 2)
    report = radii(layer @ layer, torch.ones(1, 4, dtype=torch.float64))
    assert [row.measured for row in report.rows] == [0.5, 0.25]


def test_a_gpt_is_measured_below_its_radii_after_its_norms():
    torch.manual_seed(0)
    report = radii(GPT(11, d_embed=16, num_heads=2, num_blocks=2), torch.randint(11, (3, 6)))
    measured = [row for row in report.rows if row.measured is not None]
    assert len(measured) > 20
    for row in measured:
        if row.module.startswith(("RMSNorm", "Linear", "Embed")):
            assert row.measured <= row.radius * (1 + 1e-5), row


# Report


def test_printed_it_shows_the_path_the_bound_and_the_verdict():
    text = str(radii(residual()))
    assert "0" in text
    assert "Σ p·R" in text
    assert "not well-normed" in text


def test_a_network_within_the_hypothesis_is_printed_as_well_normed():
    assert str(radii(MLP(3, 4, width=8))).endswith(": well-normed")


def test_scalars_hold_the_bound_and_all_that_was_measured():
    model = Linear(3, 4) @ RMSNorm() @ Linear(4, 4)
    found = radii(model, torch.ones(1, 4)).scalars()
    assert set(found) == {"radii/bound", *[f"radii/measured/{i}" for i in range(3)]}
    assert all(map(math.isfinite, found.values()))


def test_plotted_every_row_has_a_name_and_a_mark():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = radii(residual(), torch.ones(1, 4)).plot()
    assert len(axes.get_yticklabels()) == len(radii(residual()).rows)
    assert axes.get_xscale() == "log"
    assert len(axes.collections) == 2


def test_a_torch_module_is_refused():
    with pytest.raises(TypeError, match="networks of modula's; got Linear"):
        radii(torch.nn.Linear(2, 2))


# What enters a part


def test_entering_is_the_radius_of_what_a_part_reads():
    found = Radii.of(Linear(3, 4) @ (Identity() + Linear(4, 4)) @ (2.0 * Linear(4, 4)))
    assert [found.entering(path) for path in ("0", "1", "2", "3")] == [1, 1, 2, 4]
    assert found.entering("2.0.1") == 2


def test_a_part_that_reads_a_tuple_has_a_radius_for_each_of_its_values():
    found = Radii.of(Add() @ (3.0 * Linear(4, 4), Identity()))
    assert found.entering("1") == (3, 1)


def test_entering_the_embedding_is_a_one_hot_vector():
    assert Radii.of(Linear(3, 4) @ Embed(4, 5)).entering("0") == 1
