"""BatchNorm: torch's numbers, statistics that are saved, and a claim that follows the mode."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from modula import (
    RMS,
    AvgPool,
    BatchNorm,
    Bias,
    ChannelBatchNorm,
    ChannelBias,
    ChannelGain,
    ChannelRMS,
    CompositionError,
    Conv2D,
    Gain,
    Linear,
    ReLU,
    SteepestDescent,
    checkpoint,
)
from modula.instruments import well_normed
from modula.spaces import Space
from modula.testing import check_bond
from tests.helpers import close, rand
from tests.strategies import seeds

few = settings(max_examples=10)


PAIRS = [
    (BatchNorm, nn.BatchNorm1d, (6, 3)),
    (ChannelBatchNorm, nn.BatchNorm1d, (2, 3, 5)),
    (ChannelBatchNorm, nn.BatchNorm2d, (2, 3, 4, 5)),
    (ChannelBatchNorm, nn.BatchNorm3d, (2, 3, 2, 2, 2)),
]


@few
@given(seed=seeds, momentum=st.floats(0.05, 1.0), pair=st.sampled_from(PAIRS))
def test_it_gives_the_numbers_of_torch_in_both_modes(seed, momentum, pair):
    kind, kind_of_torch, size = pair
    own = kind(3, momentum).double()
    plain = kind_of_torch(3, momentum=momentum, affine=False).double()
    for step in range(3):
        x = 2 + rand(seed + step, *size)
        close(own(x), plain(x))
    close(own.running_mean, plain.running_mean)
    close(own.running_var, plain.running_var)
    close(own.eval()(x), plain.eval()(x))


def test_all_axes_in_front_of_the_features_are_one_batch():
    x = rand(0, 2, 3, 4)
    close(BatchNorm(4).double()(x), BatchNorm(4).double()(x.flatten(0, 1)).view(x.shape))


def trained(bond, x):
    """The bond with running statistics that are not those of its start, in evaluation."""
    bond.double().train()
    for scale in (0.3, 2.0):
        bond(scale * x + 1)
    return bond.eval()


@pytest.mark.parametrize(
    ("bond", "size"), [(BatchNorm(3), (7, 3)), (ChannelBatchNorm(3), (2, 3, 2, 3))]
)
def test_in_evaluation_the_bounds_are_proved_and_attained(bond, size):
    x = rand(0, *size)
    made = trained(bond, x)
    ratios = check_bond(made, x, steps=4)
    close(ratios.input, 1.0, rtol=1e-3)
    assert made.claim == "proved"
    close(made.sensitivity, float((made.running_var + made.eps).rsqrt().max()))


def test_in_training_the_claim_is_an_estimate():
    made = BatchNorm(3)
    assert (made.claim, made.sensitivity, made.radius(5.0)) == ("estimate", 1.0, 1.0)


@few
@given(seed=seeds)
def test_in_training_no_change_grows_in_the_rms_over_a_batch_that_spreads_by_one(seed):
    """What the estimate says."""
    made = BatchNorm(3, eps=1e-12).double()
    x = rand(seed, 6, 3)
    x = 1.5 * (x - x.mean(0)) / x.std(0, correction=0)
    J = torch.autograd.functional.jacobian(made, x).reshape(18, 18)
    assert torch.linalg.matrix_norm(J, 2) <= 1 + 1e-9


def test_the_sensitivity_is_never_stale():
    made = BatchNorm(2).eval()
    model = made @ Linear(2, 2)
    close(model.sensitivity, 1.0, rtol=1e-4)
    made.running_var.fill_(0.25)
    close(model.sensitivity, 2.0, rtol=1e-4)
    close(model.train().sensitivity, 1.0)


def test_statistics_are_saved_in_checkpoints(tmp_path):
    def network():
        return Linear(2, 4) @ ReLU() @ Bias(4) @ Gain(4) @ BatchNorm(4) @ Linear(4, 3)

    model, other = network(), network()
    optimizer = SteepestDescent(model, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
    checkpoint.save(tmp_path / "run.pt", model, optimizer)
    checkpoint.load(tmp_path / "run.pt", other)
    x = torch.randn(5, 3)
    assert torch.equal(other.eval()(x), model.eval()(x))


def test_instruments_leave_the_statistics():
    model = Linear(2, 4) @ BatchNorm(4) @ Linear(4, 3)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    well_normed(model, torch.randn(6, 3))
    after = dict(model.named_buffers())
    assert all(torch.equal(after[name], buffer) for name, buffer in before.items())


def test_reset_puts_the_statistics_back():
    made = trained(ChannelBatchNorm(3), rand(0, 2, 3, 2, 3))
    made.reset_running_stats()
    close(made.running_mean, torch.zeros(3))
    close(made.running_var, torch.ones(3))


def test_on_the_meta_device_the_numbers_are_those_of_the_start():
    model = (BatchNorm(3) @ Linear(3, 3)).to("meta").eval()
    assert model.sensitivity == 1.0


def test_with_gain_and_bias_it_is_a_composition():
    x = torch.randn(4, 3, 2, 2)
    model = AvgPool() @ ChannelBias(5) @ ChannelGain(5) @ ChannelBatchNorm(5) @ Conv2D(5, 3)
    assert model.signature == (Space(ChannelRMS, 3), Space(RMS, 5))
    update = model.dualize(model.gradient(model(x).square().mean()), method="svd")
    close(model.norm(update), 1.0, rtol=1e-5)


def test_another_width_is_refused():
    with pytest.raises(CompositionError, match=r"RMS\(4\)"):
        BatchNorm(3) @ Linear(4, 3)
    with pytest.raises(ValueError, match=r"BatchNorm\(3\) takes RMS\(3\).*\[2, 4\]"):
        BatchNorm(3)(torch.ones(2, 4))


@pytest.mark.parametrize("arguments", [(0,), (3, -0.1), (3, 1.5), (3, 0.1, 0.0)])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="BatchNorm takes"):
        BatchNorm(*arguments)
