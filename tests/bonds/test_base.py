"""Bonds from functions."""

import math

import pytest
import torch

from modula import RMS, CompositionError, FunctionBond, Linear, Linf, ParameterError
from tests.helpers import close, rand


def test_it_calls_the_function():
    x = rand(0, 2, 3)
    close(FunctionBond(torch.sin, domain=RMS, codomain=RMS)(x), x.sin())


def test_its_sensitivity_counts():
    bond = FunctionBond(torch.sin, domain=RMS, codomain=RMS, sensitivity=0.25)
    assert (Linear(3, 3) @ bond @ Linear(3, 3)).sensitivity == 0.25


def test_its_ends_are_checked():
    with pytest.raises(CompositionError, match=r"FunctionBond\(sin\) takes Linf"):
        FunctionBond(torch.sin, domain=Linf, codomain=RMS) @ Linear(3, 3)


@pytest.mark.parametrize("sensitivity", [0.0, -1.0, math.nan, math.inf, True])
def test_an_impossible_sensitivity_is_refused(sensitivity):
    with pytest.raises(
        ValueError, match=r"sensitivity of FunctionBond\(sin\) must be a finite number > 0"
    ):
        FunctionBond(torch.sin, domain=RMS, codomain=RMS, sensitivity=sensitivity)


def test_a_torch_module_without_parameters_may_be_wrapped():
    bond = FunctionBond(torch.nn.Hardtanh(), domain=RMS, codomain=RMS)
    assert len((Linear(3, 3) @ bond).weights) == 1


def test_a_torch_module_with_parameters_is_refused_by_name():
    with pytest.raises(ParameterError, match=r"Linear uses parameters.*write an Atom"):
        FunctionBond(torch.nn.Linear(3, 3), domain=RMS, codomain=RMS)
