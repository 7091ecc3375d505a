"""Low-rank factors beside frozen matrices, and layers with a bias."""

import pytest
import torch
from torch import nn

from modula import (
    RMS,
    Affine,
    Bias,
    Embed,
    FrozenLinear,
    Linear,
    LoRA,
    LowRank,
    ReLU,
    SteepestDescent,
    checkpoint,
)
from modula.geometry import Spectral
from modula.testing import check_bond, check_network
from tests.helpers import close, rand


def norm(weight):
    return Spectral(RMS, RMS).norm(weight[None]).item()


def test_the_product_of_two_factors_is_no_longer_than_the_product_of_their_norms():
    model = LowRank(6, 5, rank=2).double()
    A, B = model.weights.tensors
    for seed in range(5):
        A.data.copy_(rand(seed, *A.shape))
        B.data.copy_(rand(seed + 9, *B.shape))
        assert norm(B @ A) <= norm(A) * norm(B) * (1 + 1e-9)
    check_network(LowRank(6, 5, rank=2), torch.randn(3, 5), steps=5)


def test_a_frozen_matrix_is_proved():
    weight = rand(0, 4, 6)
    bond = FrozenLinear(weight)
    close(bond.sensitivity, norm(weight))
    ratios = check_bond(bond, rand(1, 3, 6))
    close(ratios.input, 1.0, rtol=1e-6)


def test_the_sensitivity_of_a_frozen_matrix_is_never_stale():
    bond = FrozenLinear(torch.eye(3))
    bond.load_state_dict({"weight": 5 * torch.eye(3)})
    close(bond.sensitivity, 5.0, rtol=1e-6)
    close((2.0 * bond).sensitivity, 10.0, rtol=1e-6)


def test_a_checkpoint_of_a_checkpoint_is_taken(tmp_path):
    """How often the frozen matrix was written is not a setting."""
    first, second, third = (LoRA(torch.eye(3), rank=2) for _ in range(3))
    checkpoint.save(tmp_path / "a.pt", first)
    checkpoint.load(tmp_path / "a.pt", second)
    checkpoint.save(tmp_path / "b.pt", second)
    checkpoint.load(tmp_path / "b.pt", third)
    assert torch.equal(third.weights.tensors[0], first.weights.tensors[0])


@pytest.mark.parametrize(
    "weight", [torch.zeros(2, 2), torch.full((2, 2), torch.nan), torch.ones(3), torch.eye(2).long()]
)
def test_what_is_no_matrix_or_zero_is_refused(weight):
    with pytest.raises(ValueError, match="FrozenLinear takes a matrix"):
        FrozenLinear(weight)


def test_a_frozen_matrix_refuses_other_widths():
    with pytest.raises(ValueError, match=r"takes RMS\(3\)"):
        FrozenLinear(torch.eye(3))(torch.ones(2, 4))


@pytest.mark.parametrize("base", [Linear(4, 6), nn.Linear(6, 4).weight], ids=["modula", "torch"])
def test_an_adaptation_starts_as_its_base_and_trains_only_its_factors(base):
    weight = (base.weight if isinstance(base, Linear) else base).detach().clone()
    model = LoRA(base, rank=2, scale=0.5)
    x = torch.randn(3, 6)
    close(model(x), x @ weight.T, rtol=1e-6, atol=1e-7)
    assert len(model.weights) == 2
    optimizer = SteepestDescent(model, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        optimizer.step()
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert torch.equal(frozen[0], weight)
    assert (model(x) - x @ weight.T).abs().max() > 1e-3


def test_an_adaptation_is_initialized_back_to_its_base():
    model, x = LoRA(Linear(4, 6), rank=2), torch.randn(3, 6)
    before = model(x).detach()
    model.weights.tensors[1].data.fill_(1.0)
    model.initialize()
    close(model(x), before, rtol=1e-6, atol=1e-7)


def test_the_sensitivity_of_an_adaptation_is_the_sum():
    model = LoRA(3 * torch.eye(4), rank=2, scale=0.5)
    close(model.sensitivity, 3.5, rtol=1e-6)
    check_network(model, torch.randn(3, 4), steps=5)


def test_what_has_no_matrix_is_not_adapted():
    with pytest.raises(TypeError, match="LoRA adapts a Linear or a matrix, got Embed"):
        LoRA(Embed(4, 6), rank=2)


def test_an_affine_layer_is_a_matrix_and_a_bias():
    model = Affine(3, 4)
    bias, weight = model[1].weight, model[0].weight
    bias.data.copy_(torch.randn(3))
    x = torch.randn(5, 4)
    close(model(x), x @ weight.T + bias, rtol=1e-5, atol=1e-6)
    assert [type(part) for part in model] == [Linear, Bias]
    close(model.mass, 1.1)
    check_network(Affine(2, 3) @ ReLU() @ model, x, steps=5)


def test_a_linear_with_a_bias_names_the_composition():
    with pytest.raises(TypeError, match=r"Affine\(3, 4\).*Bias\(3\) @ Linear\(3, 4\)"):
        Linear(3, 4, bias=True)
