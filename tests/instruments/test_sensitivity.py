"""Measured sensitivities against singular values, Jacobians and declarations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import (
    GELU,
    GPT,
    L1,
    MLP,
    RMS,
    Attention,
    AvgPool,
    Conv2D,
    Embed,
    Enumerate,
    FunctionBond,
    Linear,
    Linf,
    ReLU,
    ResCNN,
    ResMLP,
    RMSNorm,
    ScaledReLU,
    Softmax,
)
from modula.instruments import sensitivity
from tests.helpers import PAIRS, close, largest_gain, rand
from tests.strategies import feature_trees, image_trees, seeds

few = settings(max_examples=10)


def with_weight(layer: Linear, seed: int) -> Linear:
    layer.double()
    layer.weight.data.copy_(rand(seed, *layer.weight.shape))
    return layer


# Against linear algebra


@pytest.mark.parametrize(("fan_out", "fan_in"), [(5, 7), (7, 5), (1, 4), (4, 1), (6, 6)])
def test_of_a_linear_it_is_the_operator_norm(fan_out, fan_in):
    layer = with_weight(Linear(fan_out, fan_in), 0)
    sigma = torch.linalg.matrix_norm(layer.weight, 2)
    row = sensitivity(layer, rand(1, 3, fan_in), steps=1000)[""]
    close(row.worst, math.sqrt(fan_in / fan_out) * sigma, rtol=1e-6)


@pytest.mark.parametrize("pair", PAIRS)
@given(seed=seeds)
@few
def test_of_a_linear_between_any_norms_it_is_the_norm_of_its_geometry(pair, seed):
    domain, codomain = pair
    layer = with_weight(Linear(4, 3, domain=domain, codomain=codomain), seed)
    row = sensitivity(layer, rand(seed, 8, 3), steps=500)[""]
    close(row.worst, layer.geometry.norm(layer.weight[None])[0], rtol=1e-6)


def test_in_float32_it_is_the_operator_norm_to_rounding():
    layer = Linear(16, 32)
    layer.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    expected = math.sqrt(2) * torch.linalg.matrix_norm(layer.weight, 2)
    close(sensitivity(layer, torch.randn(4, 32), steps=500)[""].worst, expected, rtol=1e-5)


def test_scaling_scales_it():
    layer = with_weight(Linear(3, 4), 0)
    x = rand(0, 2, 4)
    close(
        sensitivity(-3.0 * layer, x, steps=300)[""].worst,
        3 * sensitivity(layer, x, steps=300)[""].worst,
        rtol=1e-7,
    )


# Against the Jacobian, by an implementation of its own in tests.helpers


MODELS = {
    "mlp": (lambda: Linear(3, 5) @ GELU() @ Linear(5, 4), lambda: rand(0, 2, 4)),
    "norm": (lambda: Linear(3, 4) @ RMSNorm(), lambda: rand(0, 2, 4)),
    "attention": (lambda: Attention(8, 2), lambda: rand(0, 1, 3, 8)),
    "image": (lambda: AvgPool() @ ScaledReLU() @ Conv2D(3, 2), lambda: rand(0, 1, 2, 3, 3)),
    "softmax": (
        lambda: Linear(3, 4, domain=L1) @ Softmax(2.0) @ Linear(4, 5, codomain=Linf),
        lambda: rand(0, 2, 5),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_finds_what_a_search_with_the_whole_jacobian_finds(name):
    build, draw = MODELS[name]
    torch.manual_seed(0)
    model, x = build().double(), draw()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        reference = largest_gain(model, x, starts=2, rounds=15)
    assert sensitivity(model, x, steps=15)[""].worst >= 0.98 * reference


def test_a_nonlinear_map_is_measured_where_the_input_is():
    square = FunctionBond(torch.square, domain=RMS, codomain=RMS, sensitivity=6.0)
    close(sensitivity(square, torch.full((2, 3), 3.0).double())[""].worst, 6.0)


def test_the_worst_of_all_rows_is_found():
    x = torch.full((40, 3), 0.1).double()
    x[17] = 5.0
    square = FunctionBond(torch.square, domain=RMS, codomain=RMS)
    close(sensitivity(square, x)[""].worst, 10.0)


# Against declarations


@few
@given(seed=seeds, depth=st.integers(1, 4))
def test_of_an_mlp_it_never_exceeds_the_declaration(seed, depth):
    torch.manual_seed(seed)
    model = MLP(3, 4, width=8, depth=depth, activation=GELU()).double()
    for row in sensitivity(model, 3 * rand(seed, 4, 4), steps=10):
        assert row.worst <= row.declared * (1 + 1e-6)


@few
@given(model=st.one_of(feature_trees(3)), seed=seeds)
def test_no_random_direction_beats_the_search(model, seed):
    for row in sensitivity(model, rand(seed, 2, 3), steps=5):
        if row.worst is not None:
            assert row.random <= row.worst * (1 + 1e-9)


@few
@given(model=image_trees())
def test_every_module_of_an_image_network_is_measured(model):
    x = rand(0, 2, model.domain.width, 4, 4)
    assert all(row.worst is not None for row in sensitivity(model, x, steps=1, directions=1))


@pytest.mark.parametrize(
    ("build", "draw"),
    [
        (lambda: ResMLP(3, 4, width=8, num_blocks=3), lambda: rand(0, 4, 4)),
        (lambda: ResCNN(3, 2, width=4, num_blocks=2), lambda: rand(0, 2, 2, 4, 4)),
    ],
    ids=["ResMLP", "ResCNN"],
)
def test_no_proved_network_exceeds_its_declaration(build, draw):
    model = build().double()
    for row in sensitivity(model, draw(), steps=8):
        assert row.worst <= row.declared * (1 + 1e-6)


# Tokens


def test_ids_have_no_direction():
    row = sensitivity(Embed(4, 7), torch.tensor([[1, 2]]))[""]
    assert (row.worst, row.tightness) == (None, None)
    assert "token ids are discrete" in row.skipped


def test_behind_the_embedding_everything_is_measured():
    report = sensitivity(
        GPT(7, d_embed=8, num_heads=2, num_blocks=1), torch.tensor([[1, 2, 3]]), steps=2
    )
    assert [row.path for row in report if row.worst is None] == ["", "0"]


def test_positions_are_skipped():
    model = Embed(4, 7) + Embed(4, 3) @ Enumerate()
    assert all(row.skipped for row in sensitivity(model, torch.tensor([[1, 2]])) if row.path != "1")


def test_a_bond_alone_has_no_space():
    assert "not known" in sensitivity(ReLU(), torch.randn(2, 3))[""].skipped


# Its manners


def test_it_is_the_same_each_time_and_leaves_the_random_numbers_alone():
    model, x = Linear(3, 5) @ GELU() @ Linear(5, 4), torch.randn(2, 4)
    before = torch.random.get_rng_state()
    assert sensitivity(model, x) == sensitivity(model, x)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_it_follows_a_generator():
    model, x = Linear(3, 5) @ GELU() @ Linear(5, 4), torch.randn(2, 4)
    one, again, other = (
        sensitivity(model, x, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert one == again
    assert one[""].random != other[""].random


def test_weights_and_gradients_are_left_alone():
    model, x = Linear(3, 4), torch.randn(2, 4)
    before = model.weight.detach().clone()
    sensitivity(model, x)
    assert model.weight.grad is None
    assert torch.equal(model.weight, before)


def test_frozen_weights_are_measured():
    model = Linear(3, 4).requires_grad_(False)
    assert sensitivity(model, torch.randn(2, 4))[""].worst > 0


@pytest.mark.parametrize("options", [{"steps": 0}, {"directions": 0}])
def test_no_work_is_refused(options):
    with pytest.raises(ValueError, match="at least 1 step and 1 direction"):
        sensitivity(Linear(3, 4), torch.randn(2, 4), **options)


def test_a_broken_activation_is_seen():
    model = Linear(3, 4)
    model.weight.data[0, 0] = math.nan
    assert math.isnan(sensitivity(model, torch.randn(2, 4))[""].worst)
