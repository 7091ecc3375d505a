"""Calibration: what is measured is declared, on the instance, and everything that is derived
follows.
"""

import copy
import math
import pickle

import pytest
import torch

from modula import (
    GPT,
    MLP,
    RMS,
    Bond,
    Embed,
    Enumerate,
    FunctionBond,
    Linear,
    ReLU,
    RMSNorm,
    SquaredReLU,
)
from modula.instruments import calibrate, sensitivity
from tests.helpers import assert_unchanged, close, full, rand, random_gradient, snapshot


def small(seed=0, size=0.5):
    """Inputs of RMS `size` and width 4."""
    return size * torch.nn.functional.normalize(rand(seed, 6, 4), dim=-1) * 2


def normed():
    return (Linear(3, 4) @ RMSNorm()).double()


def test_a_bond_declares_what_was_measured():
    model = normed()
    report = calibrate(model, small())
    close(model[0].sensitivity, 2.0, rtol=1e-6)
    assert (report["0"].before, report["0"].after) == (1.0, model[0].sensitivity)
    close([report.before, report.after], [1.0, model.sensitivity])


def test_a_second_calibration_changes_nothing():
    model = GPT(7, d_embed=8, num_heads=2, num_blocks=1)
    x = torch.tensor([[1, 2, 3]])
    calibrate(model, x)
    assert len(calibrate(model, x)) == 0


def test_afterwards_every_bond_keeps_its_declaration():
    model = GPT(7, d_embed=8, num_heads=2, num_blocks=1)
    x = torch.tensor([[1, 2, 3]])
    calibrate(model, x, steps=10)
    for row in sensitivity(model, x, steps=5):
        if isinstance(model.get_submodule(row.path), Bond) and row.worst is not None:
            assert row.tightness <= 1 + 2e-3


def test_updates_follow_at_once():
    model = (Linear(3, 4) @ RMSNorm() @ Linear(4, 4)).double()
    gradient = random_gradient(model, 0)
    before = model.dualize(gradient, method="svd")
    model[0].weight.data.mul_(0.5)
    calibrate(model, small(size=1.0))
    s = model[1].sensitivity
    close(model.dualize(gradient, method="svd")["0.weight"], before["0.weight"] / s)
    assert s > 1.5


def test_the_class_is_left_alone():
    calibrate(normed(), small())
    assert (RMSNorm.sensitivity, RMSNorm().sensitivity, RMSNorm.claim) == (1.0, 1.0, "conditional")


def test_the_claim_is_an_estimate_now():
    model = normed()
    calibrate(model, small())
    assert model[0].claim == "estimate"


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],
    ids=["deepcopy", "pickle"],
)
def test_copies_keep_it(copied):
    model = normed()
    calibrate(model, small())
    twin = copied(model)
    assert (twin.sensitivity, twin[0].claim) == (model.sensitivity, "estimate")


def test_a_confirmed_declaration_stays_as_it_is():
    model = (Linear(3, 4) @ ReLU() @ Linear(4, 4)).double()
    report = calibrate(model, small())
    assert len(report) == 0
    assert "sensitivity" not in vars(model[1])
    assert str(report) == "no bond changed; the model's sensitivity was 1 and is 1"


def test_random_directions_find_the_average():
    model = (Linear(3, 4096) @ ReLU() @ Linear(4096, 4)).double()
    calibrate(model, rand(0, 1, 4), by="random")
    close(model[1].sensitivity, 1 / math.sqrt(2), rtol=0.1)


def test_a_bond_in_several_places_gets_the_largest():
    relu = SquaredReLU()
    model = MLP(3, 4, width=8, depth=3, activation=relu).double()
    x = 3 * full(model.domain, rand(0, 6, 4))
    measured = [
        row.worst for row in sensitivity(model, x, directions=8) if row.module == "SquaredReLU()"
    ]
    calibrate(model, x)
    assert len(measured) == 2
    close(relu.sensitivity, max(measured), rtol=1e-3)


def test_token_bonds_are_left_alone():
    model = Embed(4, 7) + Embed(4, 3) @ Enumerate()
    assert len(calibrate(model, torch.tensor([[1, 2]]))) == 0


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        (torch.zeros_like, "0"),
        (lambda x: x.abs().sqrt(), "inf|nan"),
        (lambda x: math.nan * x, "nan"),
    ],
    ids=["constant", "infinite slope", "nan"],
)
def test_what_cannot_be_declared_is_refused_before_anything_changes(function, shown):
    bond = FunctionBond(function, domain=RMS, codomain=RMS)
    model = (bond @ Linear(4, 4) @ RMSNorm()).double()
    x = small()
    model[1].weight.data[0] = 0  # so that an entry of exactly 0 reaches the bond
    before = snapshot(model)
    with pytest.raises(
        ValueError,
        match=(
            rf"at 2 was measured to have the sensitivity ({shown}), which must be positive and "
            r"finite"
        ),
    ):
        calibrate(model, x)
    assert_unchanged(model, before)


class Computed(Bond[RMS, RMS]):
    """A bond that computes its sensitivity."""

    @property
    def sensitivity(self):
        return 1.0

    def forward(self, x):
        return 3 * x


def test_a_computed_sensitivity_is_refused_before_anything_changes():
    model = (Computed() @ RMSNorm()).double()
    before = snapshot(model)
    with pytest.raises(
        ValueError,
        match=r"Computed\(\) at 1 computes its sensitivity, 1, and cannot be given the 3",
    ):
        calibrate(model, small())
    assert_unchanged(model, before)


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="by='mean'"):
        calibrate(normed(), small(), by="mean")
