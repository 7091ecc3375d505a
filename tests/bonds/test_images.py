"""From images to vectors: no change grows on the way."""

import pytest
import torch

from modula import RMS, AvgPool, ChannelRMS, CompositionError, Conv2D, Flatten, Linear
from modula.spaces import Space
from tests.helpers import close, rand, step_gain

every_bond = pytest.mark.parametrize("bond", [AvgPool(), Flatten()], ids=repr)


@every_bond
def test_a_constant_image_attains_the_sensitivity(bond):
    image = torch.ones(1, 2, 3, 4).double()
    close(step_gain(bond, rand(0, 1, 2, 3, 4), image), 1.0)


def test_avg_pool_is_the_mean_pixel():
    x = rand(0, 2, 3, 4, 5)
    close(AvgPool()(x), x.flatten(2).mean(-1))


def test_flatten_keeps_every_entry_in_order():
    x = rand(0, 2, 3, 4, 5)
    assert torch.equal(Flatten()(x), x.reshape(2, 60))


def test_avg_pool_is_as_wide_as_the_image_has_channels():
    assert (AvgPool() @ Conv2D(5, 3)).codomain == Space(RMS, 5)
    assert (Linear(2, 5) @ AvgPool()).domain == Space(ChannelRMS, 5)


def test_avg_pool_refuses_a_head_of_another_width():
    with pytest.raises(CompositionError, match=r"RMS\(4\).*RMS\(5\)"):
        Linear(2, 4) @ AvgPool() @ Conv2D(5, 3)
