"""Convolutions are well-normed: an output pixel sums taps, which together have norm at most 1."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from modula import RMS, AvgPool, ChannelRMS, Conv1D, Conv2D, Conv3D, Linear
from modula.geometry import Flattened, Spectral, Stacked, Taps
from modula.testing import check_atom
from tests.atoms.convolutions import convolutions, with_weight_of_norm_one
from tests.helpers import close, full, largest_gain, largest_weight_gain, rand, record_batches
from tests.strategies import seeds

some = settings(max_examples=40)
few = settings(max_examples=20)


def convolution(seed: int, k: int, stride: int = 1) -> Conv2D:
    """A convolution from 2 to 3 channels with a random weight of norm 1, in float64."""
    made = Conv2D(3, 2, k, stride).double()
    weight = rand(seed, 3, 2, k, k)
    with torch.no_grad():
        made.weight.copy_(weight / made.geometry.norm(weight[None]))
    return made


KINDS = {
    "plain": (Conv2D(3, 2), (1, 2, 4, 4)),
    "sequence": (Conv1D(2, 4, 3, padding="same", padding_mode="circular"), (2, 4, 5)),
    "volume": (Conv3D(2, 2, (1, 2, 2), padding_mode="replicate"), (1, 2, 2, 3, 3)),
    "rectangular, dilated": (Conv2D(2, 3, (3, 1), (2, 1), dilation=(1, 2)), (1, 3, 5, 3)),
    "groups": (Conv2D(4, 2, groups=2, padding_mode="reflect"), (1, 2, 3, 3)),
    "depthwise": (Conv2D(3, 3, groups=3), (1, 3, 3, 3)),
    "patches": (Conv2D(4, 2, 2, 2, 0), (1, 2, 4, 4)),
}


@pytest.mark.parametrize(("made", "size"), KINDS.values(), ids=KINDS)
def test_every_kind_keeps_the_laws_of_atoms(made, size):
    check_atom(made, rand(0, *size), steps=4)


@some
@given(drawn=convolutions(), seed=seeds)
def test_no_image_grows(drawn, seed):
    made, x = drawn
    with_weight_of_norm_one(made, seed)
    assert largest_gain(made, x, starts=2, rounds=4) <= 1 + 1e-6


@some
@given(drawn=convolutions())
def test_no_change_of_the_weight_moves_the_output_beyond_its_norm(drawn):
    made, x = drawn
    assert largest_weight_gain(made, full(made.domain, x), starts=1, rounds=4) <= 1 + 1e-6


@few
@given(k=st.tuples(st.integers(1, 3), st.integers(1, 3)), groups=st.integers(1, 3), seed=seeds)
def test_taps_that_agree_attain_the_bound(k, groups, seed):
    """The same semi-orthogonal map at each tap of each group, on an image that is constant."""
    made = Conv2D(2 * groups, groups, k, padding=0, groups=groups).double()
    tap = Spectral(RMS, RMS).sample(
        (2, 1), torch.Generator().manual_seed(seed), torch.device("cpu")
    )
    kernel = tap.double()[:, :, None, None].expand(2, 1, *k).repeat(groups, 1, 1, 1)
    with torch.no_grad():
        made.weight.copy_(kernel / made.geometry.norm(kernel[None]))
    image = full(made.domain, rand(seed, 1, groups, 1, 1)).expand(1, groups, *k)
    close(ChannelRMS.measure(made(image)), 1.0, rtol=1e-6)


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


@some
@given(drawn=convolutions())
def test_it_is_the_convolution_of_torch(drawn):
    made, x = drawn
    kinds = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
    out_channels, in_channels = made.channels
    is_symmetric = made.padding == made.padding_after
    plain = kinds[made.pixel_axes](
        in_channels,
        out_channels,
        tuple(made.weight.shape[2:]),
        made.stride,
        made.padding if is_symmetric else "same",
        made.dilation,
        made.groups,
        bias=False,
        padding_mode=made.padding_mode,
    ).double()
    plain.load_state_dict(made.state_dict())
    close(made(x), plain(x))


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2])
def test_an_odd_kernel_keeps_the_size(k, dilation):
    made = Conv2D(3, 2, k, dilation=dilation)
    assert made(torch.ones(1, 2, 6, 7)).shape == (1, 3, 6, 7)


@given(k=st.integers(1, 4), dilation=st.integers(1, 3), size=st.integers(9, 12))
def test_same_padding_keeps_the_size_at_every_kernel(k, dilation, size):
    made = Conv1D(2, 1, k, padding="same", dilation=dilation)
    assert made(torch.ones(1, 1, size)).shape == (1, 2, size)


def test_patches_that_do_not_overlap_are_one_matrix():
    made, linear = Conv2D(6, 2, 2, 2, 0), Linear(6, 8)
    with torch.no_grad():
        linear.weight.copy_(made.weight.flatten(1))
    assert made.geometry == Flattened(Spectral(RMS, RMS), 1, 3)
    close(made.geometry.norm(made.weight[None]), linear.geometry.norm(linear.weight[None]))


@pytest.mark.parametrize(
    ("stride", "dilation", "geometry"),
    [(3, 1, Flattened), (2, 1, Taps), (3, 2, Taps), (5, 2, Flattened)],
)
def test_patches_overlap_unless_the_stride_covers_the_kernel(stride, dilation, geometry):
    made = Conv2D(4, 2, 3, stride, dilation=dilation)
    assert type(made.geometry) is geometry


def test_groups_have_a_norm_each():
    made = Conv2D(8, 8, groups=8)
    assert made.weight.shape == (8, 1, 3, 3)
    assert made.geometry == Stacked(Taps(), 8)


@pytest.mark.parametrize("arguments", [{"stride": 0}, {"padding": -1}])
def test_an_impossible_stride_or_padding_is_refused(arguments):
    with pytest.raises(
        ValueError, match="Conv2D takes a stride of at least 1 and padding of at least 0"
    ):
        Conv2D(3, 2, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dilation": 0}, "a dilation of at least 1.*dilation=0"),
        ({"kernel_size": (3, 3, 3)}, r"a tuple of 2; got kernel_size=\(3, 3, 3\)"),
        ({"groups": 2}, "evenly into groups; got groups=2 for 2 and 3 channels"),
        ({"groups": 0}, "got groups=0"),
        ({"padding": "same", "stride": 2}, r"'same' at stride 1.*stride=\(2, 2\)"),
        ({"padding": "full"}, "got padding='full'"),
        ({"padding_mode": "mirror"}, "'zeros', 'reflect'.*got 'mirror'"),
    ],
)
def test_an_impossible_argument_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^Conv2D .*{message}"):
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


@pytest.mark.parametrize("shape", [(2, 2, 5), (1, 2, 3, 4, 5), (2, 2)])
def test_another_number_of_axes_is_refused(shape):
    with pytest.raises(ValueError, match=r"takes \[batch, channel, height, width\]; got a tensor"):
        Conv2D(3, 2)(torch.ones(shape))


@given(drawn=convolutions())
def test_the_arguments_are_printed_as_they_can_be_written(drawn):
    made, _ = drawn
    names = {"Conv1D": Conv1D, "Conv2D": Conv2D, "Conv3D": Conv3D}
    again = eval(repr(made), names)
    assert repr(again) == repr(made)
    assert again.weight.shape == made.weight.shape
    assert (again.padding, again.padding_after) == (made.padding, made.padding_after)


def test_one_step_moves_pixels_by_one():
    made = Conv2D(8, 8).double()
    x = full(made.domain, rand(0, 1, 8, 1, 1)).expand(1, 8, 6, 6)
    update = made.dualize(made.gradient((made(x) * rand(1, 8, 1, 1)).sum()), method="svd")
    close(ChannelRMS.measure(F.conv2d(x, update["weight"], padding=1)), 1.0)


def test_kernels_of_one_shape_are_orthogonalised_together(monkeypatch):
    seen = record_batches(monkeypatch)
    model = Linear(4, 4) @ AvgPool() @ Conv2D(4, 4) @ Conv2D(4, 8, groups=2)
    gradient = model.gradient(model(torch.randn(2, 8, 4, 4)).square().mean())
    model.dualize(gradient)
    assert sorted(shape[0] for shape in seen if shape[-2:] == (4, 4)) == [1 + 9]
