"""The two inequalities: they hold where they are proved, they fail where they must, and the report
says which is which.
"""

import math

import pytest
import torch

import modula
from modula import (
    GPT,
    MLP,
    RMS,
    Atom,
    Bias,
    Bond,
    CausalMask,
    Conv2D,
    Embed,
    FunctionBond,
    Gain,
    HeadLinear,
    Identity,
    Linear,
    Linf,
    ReLU,
    ResCNN,
    ResMLP,
    RMSNorm,
)
from modula.algebra.primitive import Primitive
from modula.geometry import Vectors
from modula.instruments import well_normed
from tests.helpers import PAIRS, close, full, largest_weight_gain, rand


def unit(model, *shape, seed=0):
    """An input in which every vector has norm 1."""
    return full(model.domain, rand(seed, *shape))


# What is proved holds


PROVED = {
    "Linear": (lambda: Linear(3, 4), (5, 4)),
    "Gain": (lambda: Gain(4), (5, 4)),
    "Bias": (lambda: Bias(4), (5, 4)),
    "Conv2D": (lambda: Conv2D(3, 2), (2, 2, 4, 4)),
    "MLP": (lambda: MLP(3, 4, width=8, depth=3), (5, 4)),
    "ResMLP": (lambda: ResMLP(3, 4, width=8, num_blocks=3), (5, 4)),
    "ResCNN": (lambda: ResCNN(3, 2, width=4, num_blocks=2), (2, 2, 4, 4)),
    **{
        f"{a.__name__}→{b.__name__}": (lambda a=a, b=b: Linear(3, 4, domain=a, codomain=b), (5, 4))
        for a, b in PAIRS
    },
}


@pytest.mark.parametrize("name", PROVED)
def test_every_bound_holds_at_initialisation(name):
    build, shape = PROVED[name]
    torch.manual_seed(0)
    model = build().double()
    report = well_normed(model, unit(model, *shape), steps=8)
    assert [row.path for row in report if row.verdict != "holds"] == []
    assert {row.claim for row in report} == {"proved"}


@pytest.mark.parametrize(
    "name", ["Linear", "Gain", "Bias", *[name for name in PROVED if "→" in name]]
)
def test_the_bound_on_the_weights_of_an_atom_is_attained(name):
    build, shape = PROVED[name]
    torch.manual_seed(0)
    model = build().double()
    close(well_normed(model, unit(model, *shape), steps=100)[""].weights, 1.0, rtol=1e-6)


def test_an_embedding_attains_its_bound():
    close(well_normed(Embed(4, 7).double(), torch.tensor([1, 2]))[""].weights, 1.0)


@pytest.mark.parametrize("seed", range(4))
def test_the_search_in_weight_space_agrees_with_one_over_the_whole_jacobian(seed):
    model = (Linear(2, 5) @ ReLU() @ Linear(5, 4)).double()
    model.initialize(torch.Generator().manual_seed(seed))
    x = unit(model, 3, 4, seed=seed)
    assert well_normed(model, x, steps=20)[""].weights >= 0.95 * largest_weight_gain(
        model, x, starts=2, rounds=6
    )


# What is wrong is found


class Diagonal(Atom[RMS, RMS]):
    """A gain that is measured by the mean square of its entries, which does not bound it."""

    claim = "proved"

    def __init__(self, d: int) -> None:
        super().__init__((d,), Vectors(RMS, axes=1), fan_out=d, fan_in=d)

    def forward(self, x):
        return self.weight * x


class Double(Bond[RMS, RMS]):
    """x ↦ 2x, with a sensitivity that is too small."""

    sensitivity = 1.0
    claim = "proved"

    def forward(self, x):
        return 2 * x


def test_a_wrong_geometry_is_found():
    model = Diagonal(4).double()
    model.weight.data.fill_(1.0)
    report = well_normed(model, torch.tensor([[2.0, 0.0, 0.0, 0.0]]).double())
    close(report[""].weights, 2.0)
    assert (report.holds, report[""].verdict) == (False, "VIOLATED")


def test_a_wrong_sensitivity_is_found_in_the_bond_and_in_what_holds_it():
    model = Double() @ Linear(4, 4)
    report = well_normed(model, full(model.domain, torch.randn(3, 4)))
    assert [row.path for row in report.violated] == ["", "1"]


# Radii above 1


def identities(model):
    """The network in float64 with identities for matrices, which attain every bound."""
    for weight in model.double().parameters():
        weight.data.copy_(torch.eye(len(weight)) if weight.dim() == 2 else torch.ones(len(weight)))
    return model


BEYOND_ONE = {
    "residual": (lambda: Linear(4, 4) @ (Identity() + Linear(4, 4)), 3 / 2),
    "multiple": (lambda: Linear(4, 4) @ (2.0 * Linear(4, 4)), 3 / 2),
    "bias": (lambda: Linear(4, 4) @ Bias(4) @ Linear(4, 4), 4 / 3),
}


@pytest.mark.parametrize("name", BEYOND_ONE)
def test_the_bound_beyond_one_is_attained_and_holds(name):
    build, bound = BEYOND_ONE[name]
    model = identities(build())
    report = well_normed(model, torch.ones(1, 4).double())
    close(report[""].weights, bound, rtol=1e-9)
    close(report[""].bound, bound)
    assert {row.verdict for row in report} == {"holds"}


def test_the_bound_of_a_compound_is_that_of_its_input_in_the_network():
    model = identities(Linear(4, 4) @ (Identity() + Linear(4, 4)) @ (2.0 * Linear(4, 4)))
    row = well_normed(model, torch.ones(1, 4).double())["2"]
    close([row.bound, row.weights], [2.0, 2.0])
    assert row.verdict == "holds"


@pytest.mark.parametrize("multiple", [1.5, 3.0])
def test_the_bound_on_the_weights_is_attained_after_any_multiple(multiple):
    model = identities(Linear(4, 4) @ (multiple * Identity()))
    close(well_normed(model, torch.ones(1, 4).double())["2"].tightness, 1.0)


class Blind(Linear):
    """A linear map that ignores how large its input is."""

    def weight_sensitivity(self, *inputs):
        return 1.0


def test_a_weight_sensitivity_that_is_too_small_is_found():
    model = identities(Blind(4, 4) @ (2.0 * Identity()))
    report = well_normed(model, torch.ones(1, 4).double())
    assert [row.path for row in report.violated] == ["", "2"]


class Shift(Bond[RMS, RMS]):
    """x ↦ x + 1, whose default radius s·R is too small."""

    claim = "proved"

    def forward(self, x):
        return x + 1


def test_a_radius_that_is_too_small_is_found_in_the_bond_and_in_what_holds_it():
    model = identities(Linear(4, 4) @ Shift())
    report = well_normed(model, torch.ones(1, 4).double())
    close(report["0"].output, 2.0)
    assert [row.path for row in report.violated] == ["", "0"]
    assert report["1"].verdict == "exceeded: ‖x‖ = 2 at 1"


def test_a_radius_that_allows_for_a_constant_holds():
    shift = FunctionBond(lambda x: x + 1, domain=RMS, codomain=RMS, radius=lambda R: R + 1)
    shift.claim = "proved"
    report = well_normed(identities(Linear(4, 4) @ shift), torch.ones(1, 4).double())
    close([report["1"].bound, report["1"].weights, report["0"].output], [2.0, 2.0, 1.0])
    assert {row.verdict for row in report} == {"holds"}


def test_a_wrong_geometry_is_found_where_radii_exceed_one():
    model = Diagonal(4) @ (2.0 * Identity())
    model[2].weight.data.fill_(1.0)
    report = well_normed(model.double(), torch.tensor([[2.0, 0.0, 0.0, 0.0]]).double())
    close([report["2"].weights, report["2"].bound], [4.0, 2.0])
    assert report["2"].verdict == "VIOLATED"


def test_masked_scores_have_the_norm_of_those_that_are_kept():
    model = CausalMask() @ Linear(3, 3, domain=RMS, codomain=Linf)
    row = well_normed(model.double(), unit(model, 3, 3))["1"]
    assert row.output <= 1
    assert row.verdict == "holds"


# Rounding in 16 bits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("seed", range(3))
def test_rounding_in_16_bits_is_no_violation(dtype, seed):
    torch.manual_seed(seed)
    model = (Linear(8, 16) @ ReLU() @ Linear(16, 16) @ (2.0 * Linear(16, 16))).to(dtype)
    report = well_normed(model, unit(model, 4, 16, seed=seed).to(dtype), steps=8)
    assert {row.verdict for row in report} == {"holds"}


def test_the_tolerance_is_that_of_the_coarsest_dtype():
    rounding = {}
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        model = Linear(4, 4).to(dtype)
        rounding[dtype] = well_normed(model, unit(model, 2, 4).to(dtype), steps=1)[""].rounding
    assert rounding[torch.float64] == rounding[torch.float32] == 1e-4
    assert rounding[torch.float16] == 8 * 2**-10
    assert rounding[torch.bfloat16] == 8 * 2**-7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_wrong_sensitivity_is_found_in_16_bits(dtype):
    model = (Double() @ Linear(4, 4)).to(dtype)
    report = well_normed(model, unit(model, 3, 4).to(dtype))
    assert [row.path for row in report.violated] == ["", "1"]


# What no proof covers is told


def test_a_weight_beyond_norm_one_is_no_violation():
    model = (ReLU() @ Linear(4, 4)).double()
    model[0].weight.data.mul_(3)
    report = well_normed(model, unit(model, 5, 4))
    close(report["0"].input, 3.0, rtol=1e-6)
    assert report.holds
    assert report["0"].verdict == report[""].verdict == "exceeded: ‖w‖ = 3 at 0"


def test_an_input_beyond_norm_one_is_no_violation():
    model = Linear(4, 4).double()
    report = well_normed(model, 2 * unit(model, 5, 4))
    close(report[""].weights, 2.0, rtol=1e-6)
    assert report[""].verdict == "exceeded: ‖x‖ = 2 at model"


def test_a_condition_that_is_not_met_is_named():
    model = (RMSNorm() @ Linear(4, 4)).double()
    report = well_normed(model, 0.5 * unit(model, 5, 4))
    close(report["1"].input, 2.0, rtol=1e-6)
    assert report["1"].verdict == "exceeded: RMSNorm() at 1 is conditional"
    assert report[""].claim == "conditional"


def test_an_estimate_is_named():
    half = FunctionBond(torch.relu, domain=RMS, codomain=RMS, sensitivity=0.5)
    report = well_normed(half, torch.rand(5, 4))
    assert report[""].verdict == "exceeded: FunctionBond(relu) at model is an estimate"


def test_the_worst_excess_comes_first():
    model = (RMSNorm() @ Linear(4, 4)).double()
    model[0].weight.data.mul_(0.25)
    worst = [row.worst for row in well_normed(model, unit(model, 5, 4)).exceeded]
    assert len(worst) == 2
    assert worst == sorted(worst, reverse=True)


@pytest.mark.parametrize(("projection", "claim"), [(None, "estimate"), (HeadLinear, "conditional")])
def test_a_gpt_claims_no_more_than_its_parts(projection, claim):
    model = GPT(7, d_embed=8, num_heads=2, num_blocks=1, projection=projection)
    report = well_normed(model, torch.tensor([[1, 2, 3]]), steps=3)
    assert report[""].claim == claim
    assert report.holds


def test_a_module_without_mass_has_no_bound_on_its_weights():
    model = Linear(3, 4) @ Linear(4, 4).tare(0)
    assert well_normed(model, torch.randn(2, 4))["0"].weights is None


def test_every_bond_and_atom_of_the_library_makes_a_claim():
    kinds = [
        value
        for value in vars(modula).values()
        if isinstance(value, type) and issubclass(value, (Atom, Bond))
    ]
    silent = [
        kind.__name__
        for kind in kinds
        if kind.__module__ != "modula.algebra.core"
        and not any("claim" in vars(base) for base in kind.mro() if base is not Primitive)
    ]
    assert sorted(silent) == ["FunctionBond", "SameSpace"]


def test_claims_are_those_of_the_docstrings():
    for kind in [
        value
        for value in vars(modula).values()
        if isinstance(value, type) and issubclass(value, Bond)
    ]:
        written = " ".join((kind.__doc__ or "").split())
        if isinstance(kind.claim, property):  # it follows the mode
            assert ": estimates" in written, kind
            assert ": proved" in written, kind
        elif kind.claim != "estimate":
            assert f": {kind.claim}" in written, kind


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="at least 1 step, got steps=0"):
        well_normed(Linear(3, 4), torch.randn(2, 4), steps=0)


def test_a_nan_is_no_pass():
    model = Linear(3, 4)
    model.weight.data[0, 0] = math.nan
    assert well_normed(model, torch.randn(2, 4))[""].verdict != "holds"
