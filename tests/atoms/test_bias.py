"""`Bias` and `Gain` are well-normed."""

import pytest
import torch

from modula import RMS, Bias, Gain
from tests.helpers import close, full, largest_gain, largest_weight_gain, rand

both = pytest.mark.parametrize("kind", [Bias, Gain])


def atom(kind: type, d: int, seed: int) -> Bias | Gain:
    """One with a random weight of norm 1, in float64."""
    made = kind(d).double()
    weight = rand(seed, d)
    with torch.no_grad():
        made.weight.copy_(weight / made.geometry.norm(weight[None]))
    return made


@both
def test_the_bound_on_the_input_is_attained(kind):
    close(largest_gain(atom(kind, 4, 0), rand(1, 2, 4), rounds=200), 1.0, rtol=1e-6)


@both
def test_the_bound_on_the_weight_is_attained(kind):
    made = atom(kind, 4, 0)
    close(largest_weight_gain(made, full(made.domain, rand(1, 1, 4))), 1.0)


def test_a_bias_is_added():
    made = atom(Bias, 3, 0)
    close(made(torch.zeros(2, 3)), made.weight.expand(2, 3))


def test_a_gain_is_multiplied():
    made = atom(Gain, 3, 0)
    close(made(torch.ones(2, 3)), made.weight.expand(2, 3))


def test_a_bias_starts_at_zero():
    assert Bias(3).weight.tolist() == [0, 0, 0]


def test_a_gain_starts_at_one():
    assert Gain(3).weight.tolist() == [1, 1, 1]


def test_a_step_of_a_bias_has_rms_one():
    made = Bias(5).double()
    close(
        RMS.norm(made.dualize(made.gradient((made(rand(0, 2, 5)) * rand(1, 5)).sum()))["weight"]),
        1.0,
    )


def test_a_step_of_a_gain_is_the_sign():
    made = Gain(5).double()
    gradient = made.gradient((made(rand(0, 2, 5)) * rand(1, 5)).sum())
    assert torch.equal(made.dualize(gradient)["weight"], gradient["weight"].sign())


@both
def test_an_input_of_another_width_is_refused(kind):
    with pytest.raises(ValueError, match=rf"{kind.__name__}\(3\) takes RMS\(3\)"):
        kind(3)(torch.ones(2, 1))
