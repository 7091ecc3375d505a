"""Alignment against the definitions, and where it is known."""

import pytest
import torch
from hypothesis import given

from modula import MLP, Bias, Conv2D, Embed, Linear, ReLU, Tanh, Update
from modula.instruments import alignment
from tests.helpers import close, rand, random_gradient, random_update
from tests.strategies import seeds


def rms(t):
    return t.square().mean(-1).sqrt().max()


def norm(w):
    """Of a map from RMS(4) to RMS(3)."""
    return (4 / 3) ** 0.5 * torch.linalg.matrix_norm(w, 2)


def test_of_a_linear_it_is_the_definition():
    layer = Linear(3, 4).double()
    x, update = rand(0, 5, 4), random_update(layer, 1)
    row = alignment(layer, x, update)[""]
    close(row.update, rms(x @ update["weight"].T) / (norm(update["weight"]) * rms(x)))
    close(row.weights, rms(x @ layer.weight.T) / (norm(layer.weight) * rms(x)))
    close(
        [row.input_norm, row.weight_norm, row.update_norm],
        [rms(x), norm(layer.weight.detach()), norm(update["weight"])],
    )


@given(seed=seeds)
def test_an_update_from_one_example_lines_up_with_it_entirely(seed):
    model = (Linear(3, 8) @ Tanh() @ Linear(8, 4)).double()
    x = rand(seed, 1, 4)
    update = model.dualize(model.gradient((model(x) * rand(seed + 1, 1, 3)).sum()), method="svd")
    close([row.update for row in alignment(model, x, update)], [1.0, 1.0], rtol=1e-6)


@given(seed=seeds)
def test_nothing_is_better_aligned_than_the_bound(seed):
    model = (Linear(3, 8) @ ReLU() @ Linear(8, 4)).double()
    for row in alignment(model, rand(seed, 6, 4), random_update(model, seed)):
        assert row.update <= 1 + 1e-9
        assert row.weights <= 1 + 1e-9


def test_a_change_across_the_input_is_not_aligned_at_all():
    layer = Linear(1, 2).double()
    row = alignment(
        layer,
        torch.tensor([[1.0, 0.0]]).double(),
        Update({"weight": torch.tensor([[0.0, 1.0]]).double()}),
    )[""]
    assert row.update == 0


def test_the_size_of_the_update_does_not_matter():
    layer = Linear(3, 4).double()
    x, update = rand(0, 5, 4), random_update(layer, 1)
    close(alignment(layer, x, 9.0 * update)[""].update, alignment(layer, x, update)[""].update)


def test_inputs_are_those_that_reach_the_atom():
    model = (Linear(3, 8) @ ReLU() @ Linear(8, 4)).double()
    x = rand(0, 6, 4)
    row = alignment(model, x, random_update(model, 0))["2"]
    close(row.input_norm, torch.relu(model[0](x)).square().mean(-1).sqrt().max())


def test_an_embedding_is_aligned_with_the_ids_it_meets():
    model = Embed(4, 7).double()
    update = Update({"weight": torch.zeros(7, 4).double().index_fill(0, torch.tensor([2]), 1.0)})
    assert alignment(model, torch.tensor([2]), update)[""].update == 1
    assert alignment(model, torch.tensor([3]), update)[""].update == 0


def test_a_bias_is_measured_by_its_change_alone():
    model = Bias(4).double()
    row = alignment(model, rand(0, 5, 4), random_update(model, 0))[""]
    close(row.update, 1.0)
    assert row.weights is None


def test_a_kernel_of_one_pixel_is_a_linear():
    conv, layer = Conv2D(3, 2, kernel_size=1).double(), Linear(3, 2).double()
    layer.weight.data.copy_(conv.weight[:, :, 0, 0])
    x, update = rand(0, 5, 2), random_update(layer, 1)
    images = x[:, :, None, None]
    of_conv = alignment(conv, images, Update({"weight": update["weight"][:, :, None, None]}))[""]
    close(
        [of_conv.update, of_conv.weights],
        [getattr(alignment(layer, x, update)[""], name) for name in ("update", "weights")],
    )


def test_an_update_of_zero_has_no_alignment():
    model = MLP(3, 4, width=5)
    assert alignment(model, torch.randn(2, 4), 0 * random_update(model, 0))["0"].update is None


def test_a_gradient_is_refused():
    model = Linear(3, 4)
    with pytest.raises(TypeError, match="takes an Update"):
        alignment(model, torch.randn(2, 4), random_gradient(model, 0))
