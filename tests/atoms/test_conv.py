"""`Conv2D` is well-normed: an output pixel sums k² taps, each of norm at most 1/k²."""

import pytest
import torch
from torch.nn import functional as F

from modula import ChannelRMS, Conv2D
from tests.helpers import close, full, largest_weight_gain, rand


def convolution(seed: int, k: int, stride: int = 1) -> Conv2D:
    """A convolution from 2 to 3 channels with a random weight of norm 1, in float64."""
    made = Conv2D(3, 2, k, stride).double()
    weight = rand(seed, 3, 2, k, k)
    with torch.no_grad():
        made.weight.copy_(weight / made.geometry.norm(weight[None]))
    return made


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_bound_on_the_weight_is_attained_by_a_constant_image(k):
    made = convolution(0, k)
    image = full(made.domain, rand(1, 1, 2, 1, 1)).expand(1, 2, 5, 5)
    close(largest_weight_gain(made, image), 1.0, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_initial_taps_are_semi_orthogonal(k):
    taps = Conv2D(4, 6, k).weight.flatten(2).permute(2, 0, 1)
    close(torch.linalg.svdvals(taps), (4 / 6) ** 0.5 / k**2 * torch.ones(k * k, 4), rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 2])
def test_it_is_a_convolution(stride, padding):
    made, x = Conv2D(3, 2, 3, stride, padding), torch.randn(2, 2, 6, 7)
    assert torch.equal(made(x), F.conv2d(x, made.weight, stride=stride, padding=padding))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_an_odd_kernel_keeps_the_size(k):
    assert Conv2D(3, 2, k)(torch.ones(1, 2, 6, 7)).shape == (1, 3, 6, 7)


@pytest.mark.parametrize("arguments", [{"stride": 0}, {"padding": -1}])
def test_an_impossible_stride_or_padding_is_refused(arguments):
    with pytest.raises(
        ValueError, match="Conv2D takes a stride of at least 1 and padding of at least 0"
    ):
        Conv2D(3, 2, **arguments)


@pytest.mark.parametrize("shape", [(0, 2, 3), (3, 0, 3), (3, 2, 0)])
def test_a_width_below_one_is_refused(shape):
    with pytest.raises(ValueError, match="Conv2D takes widths of at least 1"):
        Conv2D(*shape)


def test_an_image_of_other_channels_is_refused():
    with pytest.raises(
        ValueError, match=r"Conv2D\(3, 2, kernel_size=3\) takes ChannelRMS\(2\).*\[1, 4, 5, 5\]"
    ):
        Conv2D(3, 2)(torch.ones(1, 4, 5, 5))


def test_one_step_moves_pixels_by_one():
    made = Conv2D(8, 8).double()
    x = full(made.domain, rand(0, 1, 8, 1, 1)).expand(1, 8, 6, 6)
    update = made.dualize(made.gradient((made(x) * rand(1, 8, 1, 1)).sum()), method="svd")
    close(ChannelRMS.measure(F.conv2d(x, update["weight"], padding=1)), 1.0)
