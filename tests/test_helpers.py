"""The ascent by which bounds are tested finds known gains."""

import pytest
import torch

from modula import RMS, Linear, Mul
from modula.spaces import Space
from tests.helpers import close, largest_gain, largest_weight_gain, rand


@pytest.mark.parametrize("a", [-3.0, 0.5])
def test_gain_of_a_multiple_is_its_factor(a):
    close(largest_gain(Mul(a), rand(0, 2, 4), (Space(RMS), Space(RMS))), abs(a))


def test_gain_of_a_matrix_is_its_norm():
    layer = Linear(3, 5).double()
    with torch.no_grad():
        layer.weight.copy_(rand(0, 3, 5))
    close(
        largest_gain(layer, rand(1, 2, 5), rounds=300),
        layer.geometry.norm(layer.weight[None])[0].detach(),
        rtol=1e-6,
    )


def test_weight_gain_of_a_matrix_is_the_size_of_its_input():
    x = rand(1, 1, 5)
    close(largest_weight_gain(Linear(3, 5).double(), x), RMS.measure(x))
