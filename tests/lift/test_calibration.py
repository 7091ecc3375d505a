"""S is by how much a random change of norm 1 moves the output, and coefficients follow from it."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import modula
from modula import RMS, LiftError, Linear, ReLU, SteepestDescent, instruments
from modula.geometry import Spectral
from tests.helpers import close
from tests.lift.models import (
    LSTM,
    Experts,
    GRULoop,
    LoRA,
    NanoGPT,
    ResNet,
    UNet,
    fall_over_promise,
    features,
    ids,
    vision,
)

MODELS = {
    "nanogpt": (NanoGPT, ids),
    "tied": (lambda: NanoGPT(tied=True), ids),
    "resnet": (ResNet, vision),
    "unet": (UNet, vision),
    "lstm": (LSTM, ids),
    "gru": (GRULoop, ids),
    "experts": (Experts, lambda: features(4)),
    "lora": (LoRA, lambda: features(6)),
}
every = pytest.mark.parametrize(("model", "inputs"), MODELS.values(), ids=MODELS)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False))


# S


@pytest.mark.parametrize("name", ["nanogpt", "tied", "experts", "gru", "lora", "unet"])
def test_s_is_the_size_of_what_random_perturbations_do(name):
    build, inputs = MODELS[name]
    model, x = build().double(), inputs()
    x = x.double() if x.is_floating_point() else x
    net = modula.lift(model, x, calibrate="init", probes=150)
    parameters = {n: p.detach() for n, p in model.named_parameters()}

    def output(weights: dict[str, Tensor]) -> Tensor:
        return functional_call(model, weights, (x,)).flatten()

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        jacobians = torch.func.jacrev(output)(parameters)
    source = torch.Generator().manual_seed(1)
    for name, weight in net.graph().weights.items():
        row = net.report()[name]
        if "rounding" in row.warning:
            continue
        gradients = torch.randn((300, *row.shape), generator=source, dtype=torch.float64)
        updates = weight.geometry.dualize(gradients, "svd")
        moved = updates.flatten(1) @ jacobians[name].flatten(1).T
        close(moved.square().mean().sqrt(), row.sensitivity, rtol=0.1)


def test_s_of_a_linear_map_is_known():
    """The output of W moves by ΔW·x: by RMS(x) for a random orthogonal ΔW of norm 1."""
    x = torch.randn(64, 16)
    net = modula.lift(nn.Linear(16, 16), x, probes=200)
    close(net.report()["weight"].sensitivity, float(x.square().mean().sqrt()), rtol=0.05)
    close(net.report()["bias"].sensitivity, 1.0, rtol=0.05)
    close(net.sensitivity, 1.0, rtol=0.05)  # at a drawn weight, an isometry


def test_drawn_calibration_does_not_depend_on_the_initial_scale():
    model, x = NanoGPT(), ids()
    one = modula.lift(model, x).weight_sensitivities()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(7.0)
    other = modula.lift(model, x).weight_sensitivities()
    close(list(one.values()), list(other.values()))


@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_drawn_by_default(tied):
    report = modula.lift(NanoGPT(tied=tied), ids()).report()
    assert {row.sensitivity_claim for row in report} == {"measured at drawn weights"}


def test_s_of_a_tied_network_is_in_units_of_what_its_table_does_as_a_head():
    """Of V = 17 logits of d = 64 features, √(17/64) of a random change reaches the output."""
    net = modula.lift(NanoGPT(d=64, tied=True), ids())
    rows, S = net.report(), net.weight_sensitivities()
    close(S["ln_f.bias"], rows["ln_f.bias"].sensitivity / math.sqrt(17 / 64))


def test_positions_move_in_proportion_to_the_rows_of_a_tied_table():
    """The rows of a tied table of norm 1 are the shorter the wider the network."""

    def ratio(d: int) -> float:
        net = modula.lift(NanoGPT(d=d, tied=True), ids(), probes=16)
        plan = net.plan()
        c = dict(zip(plan.names, plan.coefficients, strict=True))
        geometry = net.graph().weights["wte.weight"].geometry
        table = geometry.sample((17, d), torch.Generator().manual_seed(0), torch.device("cpu"))
        return c["wpe.weight"] / (c["wte.weight"] * float(table.square().mean().sqrt()))

    close(ratio(16), ratio(128), rtol=0.25)


class TwoStreams(nn.Module):
    """A head tied to a table, beside which positions are added, and not the table of kinds."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.tokens, self.positions = nn.Embedding(17, 64), nn.Embedding(8, 64)
        self.kinds, self.norm = nn.Embedding(5, 64), nn.LayerNorm(64, elementwise_affine=False)
        self.head = nn.Linear(64, 17, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        rows = self.scale * self.tokens(x) + self.positions(torch.arange(8))
        return self.head(self.norm(rows)) + self.head(self.norm(self.kinds(x % 5)))


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_tables_are_as_long_as_the_rows_of_a_tied_one_that_they_are_added_to(scale):
    """A norm divides by RMS √(r² + (3r)²) of rows of RMS r·scale and positions beside them."""
    x = torch.arange(8).expand(2, 8)
    report = modula.lift(TwoStreams(scale), x, probes=64).report()
    r = scale * math.sqrt(17) / 64
    ratio = report["positions.weight"].sensitivity / report["kinds.weight"].sensitivity
    close(ratio, 1 / (r * math.sqrt(1 + 3**2)), rtol=0.15)


def test_weights_without_effect_get_mass_0_and_a_warning():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    report = modula.lift(model, vision()).report()
    assert report["0.bias"].mass_fraction == 0
    assert "rounding" in report["0.bias"].warning
    assert report["0.weight"].mass_fraction > 0
    close(sum(row.mass_fraction for row in report), 1.0)


def test_a_branch_that_drawn_weights_do_not_take_is_measured_at_the_weights():
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.b(y) if self.training_weights() else self.c(y)

        def training_weights(self) -> bool:
            return bool(self.a.bias.abs().sum() > 0)  # drawn biases are 0

    net = modula.lift(Branch(), features(4))
    assert net.report()["b.weight"].sensitivity > 0
    assert net.report()["b.weight"].mass_fraction > 0


# Coefficients


def test_given_sensitivities_give_the_coefficients_of_the_algebra_to_the_last_digit():
    plain, x = mlp(), features(4)
    composed = Linear(3, 8) @ ReLU() @ (2.0 * Linear(8, 4, mass=3))
    S = composed.weight_sensitivities()
    names = dict(zip(("0.weight", "2.weight"), S, strict=True))
    given = {mine: S[theirs] for mine, theirs in names.items()}
    plan = composed.plan()
    theirs = dict(zip(plan.names, plan.coefficients, strict=True))
    masses = {mine: composed.graph().weights[other].mass for mine, other in names.items()}
    net = modula.lift(plain, x, calibrate=given, masses=masses)
    own = dict(zip(net.plan().names, net.plan().coefficients, strict=True))
    assert own == {mine: theirs[other] for mine, other in names.items()}


def test_twenty_steps_equal_those_of_the_same_network_in_the_algebra():
    composed = Linear(3, 8) @ ReLU() @ Linear(8, 4)
    plain, x = mlp(), features(4)
    by_shape = {tuple(p.shape): p for p in composed.parameters()}
    with torch.no_grad():
        for p in plain.parameters():
            p.copy_(by_shape[tuple(p.shape)])
    net = modula.lift(plain, x, calibrate="flat", masses={"0": 1.0, "2": 1.0})
    optimizers = SteepestDescent(net, lr=0.1), SteepestDescent(composed, lr=0.1)
    for _ in range(20):
        for model, optimizer in zip((plain, composed), optimizers, strict=True):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    for p in plain.parameters():
        close(p, by_shape[tuple(p.shape)], rtol=1e-5, atol=1e-5)


def test_s_in_units_of_the_heads_does_not_depend_on_the_width():
    """A head from d to 3 passes on √(3/d) of a random change, and all of what updates change."""

    def first(d: int) -> float:
        model = nn.Sequential(nn.Linear(8, d), nn.LayerNorm(d), nn.Linear(d, 3))
        return modula.lift(model, features(8), probes=100).weight_sensitivities()["0.weight"]

    close(first(16), first(256), rtol=0.1)


@pytest.mark.parametrize("calibrate", ["drawn", "init"])
def test_s_of_a_head_is_1_as_in_the_algebra(calibrate):
    S = modula.lift(mlp(), features(4), calibrate=calibrate).weight_sensitivities()
    assert S["2.weight"] == 1.0


def test_norms_are_those_of_the_algebra():
    composed = Linear(3, 8) @ ReLU() @ Linear(8, 4)
    net = modula.lift(mlp(), features(4))
    found = [w.geometry for w in net.graph().weights.values()]
    assert found == [w.geometry for w in composed.graph().weights.values()]


@pytest.mark.parametrize(
    ("calibrate", "message"),
    [
        ("drwan", "calibrate is 'auto'"),
        ({"0.weight": 1.0}, "lacks ['2.weight']"),
        ({"0.weight": 1.0, "2.weight": 1.0, "3": 1.0}, "has ['3'] names"),
        ({"0.weight": 1.0, "2.weight": 0.0}, "['2.weight'] numbers that are not positive"),
    ],
)
def test_calibrations_are_checked(calibrate, message):
    with pytest.raises(LiftError, match=re.escape(message)):
        modula.lift(mlp(), features(4), calibrate=calibrate)


def test_an_overflow_is_refused_by_name():
    class Overflow(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).mul(200).exp()

    with pytest.raises(LiftError, match="the measured sensitivity of 'weight' is"):
        modula.lift(Overflow(8, 8), 10 * features(8))


def test_the_meta_device_gives_norms_without_a_calibration():
    with torch.device("meta"):
        model = NanoGPT()
        x = torch.zeros(2, 8, dtype=torch.long)
        net = modula.lift(model, x)
        report = net.report()
    assert report["blocks.0.c_attn.weight"].norm == "3 blocks of RMS → RMS"
    assert report["blocks.0.c_attn.weight"].sensitivity_claim == "set to 1"


def test_it_can_be_measured_again():
    net = modula.lift(mlp(), features(4))
    before = dict(net.weight_sensitivities())
    net.recalibrate("flat")
    assert set(net.weight_sensitivities().values()) == {1.0}
    assert math.isnan(net.sensitivity)
    net.recalibrate()
    assert net.weight_sensitivities() == before


# Masses


def fractions(net: modula.Lifted) -> dict[str, float]:
    return {row.name: row.mass_fraction for row in net.report()}


def test_default_masses():
    net = modula.lift(NanoGPT(), ids(), calibrate="flat")
    found: dict[str, float] = {}
    for row in net.report():
        found[row.group] = found.get(row.group, 0.0) + row.mass_fraction
    close(found.pop("bias") + found.pop("gain"), 0.05)
    large = {"table": 1, "head": 1, "attention": 3, "matrix": 2}
    assert found.keys() == large.keys()
    close([found[g] for g in large], [m * 0.95 / 7 for m in large.values()])
    blocks = {n: f for n, f in fractions(net).items() if re.search(r"0.c_(attn|proj).weight", n)}
    close(blocks["blocks.0.c_attn.weight"] / blocks["blocks.0.c_proj.weight"], 3)


def test_a_frozen_head_is_not_replaced_by_the_matrix_before_it():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    model[4].requires_grad_(False)
    report = modula.lift(model, features(4)).report()
    assert [row.group for row in report] == ["matrix", "bias", "matrix", "bias"]


def test_matrices_have_5_without_attention():
    net = modula.lift(mlp(), features(4), calibrate="flat")
    close(list(fractions(net).values()), [5 / 6, 1 / 6])


def test_masses_are_given_by_group_path_name_pattern_and_class():
    masses = {"table": 2.0, "blocks.0": 3.0, "*.c_fc.weight": 4.0, "LayerNorm": 0.5}
    net = modula.lift(NanoGPT(), ids(), calibrate="flat", masses=masses)
    weights = net.graph().weights

    def total(pattern: str) -> float:
        return sum(w.mass for name, w in weights.items() if re.fullmatch(pattern, name))

    close(total(r"w[tp]e.weight"), 2)
    close(total(r"blocks\.0\..*"), 3)
    close(total(r"blocks\.1\.c_fc.weight"), 4)
    close(total(r"(blocks\.1\.ln_.|ln_f)\..*"), 0.5)


def test_a_key_without_weights_is_refused():
    with pytest.raises(ValueError, match="masses names 'encoder'"):
        modula.lift(mlp(), features(4), masses={"encoder": 1.0})


def test_tare_takes_paths_and_classes():
    net = modula.lift(NanoGPT(), ids(), calibrate="flat")
    net.tare({"blocks.0": 2.0, "Embedding": 1.0})
    weights = net.graph().weights
    close(sum(w.mass for n, w in weights.items() if n.startswith("blocks.0.")), 2)
    close(weights["wte.weight"].mass + weights["wpe.weight"].mass, 1)


# Training, and everything that takes a Network


@every
def test_the_weights_are_those_that_are_trained(model, inputs):
    built = model()
    net = modula.lift(built, inputs())
    assert list(net.weights.names) == [n for n, p in built.named_parameters() if p.requires_grad]


@every
def test_a_short_step_lowers_the_loss_by_its_dual_norm(model, inputs):
    built, x = model().double(), inputs()
    x = x.double() if x.is_floating_point() else x
    net = modula.lift(built, x)
    source = torch.Generator().manual_seed(3)
    target = torch.randn(built(x).shape, generator=source, dtype=torch.float64)
    fall = fall_over_promise(net, lambda: (built(x) - target).square().mean())
    close(fall, 1.0, rtol=1e-2)


@every
def test_twenty_steps_lower_the_loss(model, inputs):
    net, x = (built := model()), inputs()
    net = modula.lift(built, x)
    optimizer = SteepestDescent(net, lr=0.1)
    losses = []
    target = torch.randn(built(x).shape, generator=torch.Generator().manual_seed(3))
    for _ in range(20):
        optimizer.zero_grad()
        loss = (built(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@every
def test_updates_have_the_norm_asked_for(model, inputs):
    built, x = model().double(), inputs()
    x = x.double() if x.is_floating_point() else x
    net = modula.lift(built, x)
    gradient = net.gradient(built(x).square().mean())
    update = net.dualize(gradient, 0.5, method="svd")
    close(net.norm(update), 0.5, rtol=1e-6)
    pairing = sum(
        float((g * u).sum()) for g, u in zip(gradient.tensors, update.tensors, strict=True)
    )
    close(pairing, 0.5 * float(net.dual_norm(gradient)), rtol=1e-6)


def test_the_plain_loop_moves_the_models_own_parameters():
    model, x = mlp(), features(4)
    net = modula.lift(model, x)
    before = model[0].weight.clone()
    net.weights -= 0.1 * net.dualize(net.gradient(net(x).square().mean()))
    assert not torch.equal(model[0].weight, before)
    assert all(a is b for a, b in zip(net.weights.tensors, model.parameters(), strict=True))


def test_initialize_draws_weights_of_norm_1():
    model = NanoGPT()
    net = modula.lift(model, ids())
    net.initialize(torch.Generator().manual_seed(0))
    assert not model.blocks[0].c_fc.bias.any()
    assert (model.ln_f.weight == 1).all()
    close(Spectral(RMS, RMS).norm(model.blocks[0].c_fc.weight.detach()[None]), [1], rtol=1e-5)


def test_initialize_draws_each_weight_by_itself():
    model = NanoGPT()
    modula.lift(model, ids()).initialize()
    assert not torch.equal(model.blocks[0].c_fc.weight, model.blocks[1].c_fc.weight)


def test_a_parameter_that_is_unfrozen_later_is_refused():
    model = LoRA()
    net = modula.lift(model, features(6))
    model.base.weight.requires_grad_(True)
    with pytest.raises(modula.ParameterError, match=r"base\.weight"):
        net.graph()


def test_instruments_measure_a_lifted_network():
    model, x = NanoGPT(), ids()
    net = modula.lift(model, x)
    before = net.weights.clone()
    update = net.dualize(net.gradient(model(x).square().mean()))
    assert "blocks.0.c_fc.weight" in {row.path for row in instruments.spectra(update)}
    net.weights -= update
    assert instruments.movement(before, net.weights)["lm_head.weight"].norm > 0
    aligned = instruments.alignment(net, x, update)
    assert 0 < aligned["blocks.0.c_fc"].update <= 1.0001
    assert 0 < aligned["wte"].update <= 1.0001


def test_instruments_of_modules_measure_its_layers():
    model, x = NanoGPT(), ids()
    net = modula.lift(model, x)
    update = net.dualize(net.gradient(model(x).square().mean()))
    reports = [
        instruments.well_normed(net, x),
        instruments.sensitivity(net, x, steps=3),
        instruments.feature_learning(net, update, x),
    ]
    for report in reports:
        assert report["blocks.1.c_out"].path == "blocks.1.c_out"
    close(reports[1]["blocks.1.c_out"].declared, 1.0)


def test_an_optimizer_is_saved_with_the_module(tmp_path):
    model, x = mlp(), features(4)
    net = modula.lift(model, x)
    optimizer = SteepestDescent(net, lr=0.1)
    model(x).square().mean().backward()
    optimizer.step()
    torch.save((model.state_dict(), optimizer.state_dict()), tmp_path / "last.pt")
    other = mlp()
    again = SteepestDescent(modula.lift(other, x), lr=0.1)
    weights, state = torch.load(tmp_path / "last.pt")
    other.load_state_dict(weights)
    again.load_state_dict(state)
    assert net.describe()["0"] == "Linear(in_features=4, out_features=8, bias=False)"


# The report


def test_the_report_prints_within_120_columns_and_as_html():
    net = modula.lift(NanoGPT(tied=True), ids())
    text = str(net)
    assert text == str(net.report())
    assert max(map(len, text.splitlines())) <= 120
    assert "3 blocks of RMS → RMS" in text
    assert net._repr_html_().count("<tr>") == len(net.report()) + 1
    assert repr(net) == "Lifted(NanoGPT)"


def test_rows_are_looked_up_by_name():
    report = modula.lift(mlp(), features(4)).report()
    row = report["0.weight"]
    assert (row.shape, row.uses) == ((8, 4), ("linear in 0",))
    close(
        row.coefficient,
        row.mass_fraction / (row.sensitivity / report["2.weight"].sensitivity),
    )
    with pytest.raises(KeyError, match="no weight '1'"):
        report["1"]


def test_no_bound_is_claimed():
    assert modula.lift(mlp(), features(4)).first_order_bound() == math.inf


def test_an_effect_that_small_weights_hide_gets_a_warning():
    model = LoRA()  # B starts at zero, which hides the effect of A
    report = modula.lift(model, features(6), calibrate="init").report()
    assert "small initial weights hide its effect" in report["A"].warning
    assert not modula.lift(model, features(6)).report()["A"].warning
