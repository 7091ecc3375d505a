"""`Scalar`: one number."""

import pytest
import torch

from modula import L1, RMS, ChannelRMS, Conv2D, Linear, Linf, OneHot, Scalar
from modula.testing import check_atom
from tests.helpers import close, rand


@pytest.mark.parametrize("norm", [RMS, L1, Linf])
def test_its_laws_hold_in_every_norm(norm):
    ratios = check_atom(Scalar(norm), rand(0, 2, 4), steps=5)
    close(ratios.input, 1.0, rtol=1e-6)
    close(ratios.weights, 1.0, rtol=1e-6)


def test_it_multiplies_images():
    atom = Scalar(ChannelRMS).double()
    atom.weight.data.fill_(-0.5)
    x = rand(0, 2, 3, 4, 4)
    close(atom(x), -0.5 * x)
    check_atom(Scalar(ChannelRMS), x, steps=3)


def test_it_starts_at_one():
    assert Scalar().weight.tolist() == [1.0]


def test_it_takes_the_width_of_its_neighbour():
    assert str((Scalar() @ Linear(3, 4)).codomain) == "RMS(3)"
    assert str((Scalar(ChannelRMS) @ Conv2D(3, 4)).codomain) == "ChannelRMS(3)"


def test_a_step_is_a_sign():
    atom = Scalar()
    update = atom.dualize(atom.gradient((atom(torch.ones(2, 3)) * -2.0).sum()))
    assert update["weight"].tolist() == [-1.0]


def test_ids_are_not_multiplied():
    with pytest.raises(TypeError, match="real vectors"):
        Scalar(OneHot)
