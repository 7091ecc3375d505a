"""`ResNet`, `UNet` and `ViT`: typed, normed, printed, compiled and sharded like other networks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import (
    RMS,
    ChannelBatchNorm,
    ChannelRMS,
    ChannelRMSNorm,
    ConvTranspose2D,
    Identity,
    ReLU,
    ResNet,
    SquaredReLU,
    SteepestDescent,
    UNet,
    ViT,
)
from modula.spaces import Space
from modula.testing import check_network
from tests.compounds.vision import NETWORKS, made
from tests.helpers import close
from tests.parallel.launcher import torchrun

every_network = pytest.mark.parametrize("name", NETWORKS)
few = settings(max_examples=8)


@every_network
def test_the_laws_of_networks_hold(name):
    check_network(*made(name), steps=2)


@every_network
def test_the_hypothesis_of_the_papers_holds(name):
    """No atom reads an activation that may be larger than 1."""
    model, _ = made(name)
    assert model.first_order_bound() <= 1 + 1e-9


@every_network
def test_a_step_moves_the_network(name):
    model, x = made(name)
    optimizer = SteepestDescent(model, lr=0.1)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = (model(x) - 0.5).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0]


@every_network
def test_the_tree_names_the_network(name):
    model, _ = made(name)
    first = str(model).splitlines()[1]
    assert first.startswith(repr(model)[:12])
    assert "ChannelRMS(" in first


@pytest.mark.parametrize("name", ["ResNet", "UNet, group norm", "ViT, class token"])
def test_a_compiled_pass_gives_the_numbers_of_an_eager_one(name):
    torch._dynamo.reset()
    model, x = made(name)
    close(torch.compile(model, backend="aot_eager")(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_compiled_step_is_an_eager_one():
    torch._dynamo.reset()
    model, x = made("UNet, group norm")
    gradient = model.gradient(model(x).square().mean())
    dualize = torch.compile(model.dualize, backend="eager")
    got, expected = dualize(gradient, method="svd"), model.dualize(gradient, method="svd")
    for one, other in zip(got.tensors, expected.tensors, strict=True):
        close(one, other, rtol=1e-4, atol=1e-6)


def test_two_processes_compute_the_steps_of_one():
    done = torchrun(2, "-m", "tests.compounds.sharded_vision")
    assert "all networks agree" in done.stdout, done.stdout[-3000:]


@few
@given(stages=st.integers(1, 3), blocks=st.integers(1, 2), width=st.integers(1, 3))
def test_depth_leaves_the_sensitivity_and_the_masses_of_the_ends_of_a_resnet(stages, blocks, width):
    model = ResNet(2, 1, widths=[width] * stages, blocks=blocks, block_mass=3.0)
    close(model.sensitivity, 1.0)
    close(model.mass, 5.0)
    assert model(torch.ones(1, 1, 5, 7)).shape == (1, 2)


@few
@given(levels=st.integers(1, 3), width=st.integers(1, 3))
def test_levels_leave_the_sensitivity_of_a_unet(levels, width):
    model = UNet(2, 1, widths=[width] * levels)
    close(model.sensitivity, 1.0)
    close(model.mass, 7.0)
    size = 2 ** (levels - 1)
    assert model(torch.ones(1, 1, size, 2 * size)).shape == (1, 2, size, 2 * size)


def test_a_unet_joins_the_image_that_went_down():
    """Without the levels below, which a transposed convolution brings up, pixels still pass."""
    model, x = (
        UNet(1, 1, widths=(4, 6), norm=lambda width: ChannelRMSNorm()),
        torch.randn(1, 1, 8, 4),
    )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ConvTranspose2D):
                module.weight.zero_()
    moved = x.clone()
    moved[0, 0, 3, 2] += 1.0
    change = (model(moved) - model(x)).abs()[0, 0]
    assert change[3, 2] > 0
    assert change[-1].abs().max() == 0  # four rows below: beyond the kernels of one level


@few
@given(
    num_blocks=st.integers(1, 3),
    pooling=st.sampled_from(["mean", "class"]),
    scale=st.sampled_from([1.0, 4.0]),
)
def test_depth_leaves_the_sensitivity_of_a_vit(num_blocks, pooling, scale):
    model = ViT(
        3,
        1,
        image_size=4,
        patch_size=2,
        d_embed=4,
        num_heads=2,
        num_blocks=num_blocks,
        pooling=pooling,
        final_scale=scale,
    )
    close(model.sensitivity, scale / 2)
    tables = 2 if pooling == "class" else 1
    close(model.mass, 1 + 2 + 3 + 1 + 0.1 * tables)


def test_a_vit_without_positions_does_not_see_the_order_of_patches():
    """And with them it does: so the order enters through the table alone."""
    model, x = made("ViT")
    swapped = torch.cat((x[..., 2:4], x[..., :2], x[..., 4:]), dim=-1)
    assert (model(swapped) - model(x)).abs().amax() > 1e-4
    with torch.no_grad():
        next(w for n, w in model.named_parameters() if w.shape == (6, 8)).zero_()
    close(model(swapped), model(x), rtol=1e-4, atol=1e-6)


def test_the_norm_is_a_choice():
    plain = ResNet(2, 1, widths=(4,), norm=lambda width: Identity())
    running = ResNet(2, 1, widths=(4,), norm=ChannelBatchNorm)
    assert not list(plain.named_buffers())
    assert len(list(running.named_buffers())) == 2 * (2 * 2 + 1)
    assert plain.graph().nodes[-1].operation.claim == "proved"


@pytest.mark.parametrize("activation", [ReLU(), SquaredReLU()], ids=repr)
def test_an_activation_is_scaled_to_sensitivity_one(activation):
    close(ResNet(2, 1, widths=(4,), activation=activation).sensitivity, 1.0)
    close(UNet(2, 1, widths=(4, 4), activation=activation).sensitivity, 1.0)


def test_the_spaces_are_those_of_images_and_of_features():
    assert made("ResNet")[0].signature == (Space(ChannelRMS, 2), Space(RMS, 3))
    assert made("UNet")[0].signature == (Space(ChannelRMS, 2), Space(ChannelRMS, 1))
    assert made("ViT")[0].signature == (Space(ChannelRMS, 2), Space(RMS, 3))


VIT = {"image_size": 4, "patch_size": 2, "d_embed": 4, "num_heads": 2, "num_blocks": 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet(2, 1, widths=()), r"at least 1 stage .*widths=\(\)"),
        (lambda: ResNet(2, 1, blocks=0), "blocks=0"),
        (lambda: ResNet(2, 1, kernel_size=2), "whose kernels are odd.*kernel_size=2"),
        (lambda: UNet(2, 1, widths=()), r"at least 1 level .*widths=\(\)"),
        (lambda: UNet(2, 1, kernel_size=4), "odd kernels.*kernel_size=4"),
        (lambda: UNet(1, 1)(torch.ones(1, 1, 8, 6)), r"multiples of 4; .*\[1, 1, 8, 6\]: pad it"),
        (lambda: ViT(2, 1, **VIT | {"num_blocks": 0}), "num_blocks=0"),
        (lambda: ViT(2, 1, **VIT | {"pooling": "max"}), "pools by 'mean' or 'class'.*'max'"),
        (lambda: ViT(2, 1, **VIT | {"patch_size": 3}), "image_size=4, patch_size=3"),
        (lambda: ViT(2, 1, **VIT | {"num_heads": 3}), "does not split into num_heads=3"),
        (lambda: ViT(2, 1, **VIT)(torch.ones(1, 1, 4, 8)), "at most 4 positions"),
    ],
)
def test_impossible_arguments_and_images_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
