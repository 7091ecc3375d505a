"""Matrices of one shape are orthogonalised together, from whichever atoms they come: linear maps,
transposes, a convolution's taps.
"""

import pytest
import torch

from modula import AvgPool, Conv2D, Linear, Module, ReLU
from tests import reference
from tests.helpers import close, random_gradient, record_batches


def network() -> Module:
    """A convolution with nine taps of 4×6, linear maps of 4×6 and 6×4, and a convolution with four
    taps of 6×2.
    """
    return (
        Linear(4, 6)
        @ ReLU()
        @ Linear(6, 4)
        @ AvgPool()
        @ Conv2D(4, 6, 3)
        @ ReLU()
        @ Conv2D(6, 2, 2)
    ).double()


@pytest.fixture
def calls(monkeypatch) -> list[torch.Size]:
    """The shapes of the batches that are orthogonalised."""
    return record_batches(monkeypatch)


def test_taps_and_linear_maps_of_one_shape_are_one_call(calls):
    model = network()
    model.dualize(random_gradient(model, 0))
    assert sorted(calls) == [(4, 2, 6), (11, 4, 6)]


@pytest.mark.parametrize("method", ["svd", "polar_express"])
def test_the_update_is_that_of_the_recursion(method):
    model = network()
    gradient = random_gradient(model, 0)
    parts = {
        atom: g.numpy() for atom, g in zip(reference.atoms(model), gradient.tensors, strict=True)
    }
    expected = reference.dualize(model, parts)
    for atom, part in zip(
        reference.atoms(model), model.dualize(gradient, method=method).tensors, strict=True
    ):
        close(part, expected[atom], atol=0 if method == "svd" else 2e-3, rtol=1e-8)


def test_dtypes_are_kept_apart(calls):
    model = Linear(4, 6) @ Linear(6, 4)
    model[0].double()
    update = model.dualize(random_gradient(model, 0))
    assert sorted(calls) == [(1, 4, 6), (1, 4, 6)]
    assert [u.dtype for u in update.tensors] == [w.dtype for w in model.weights.tensors]


def test_a_broken_layer_breaks_no_other_in_its_batch():
    model = network()
    gradient = random_gradient(model, 0)
    sound = model.dualize(gradient)
    gradient.tensors[1][0, 0, 0, 0] = torch.nan
    update = model.dualize(gradient)
    assert update.tensors[1].isnan().any()
    assert [torch.equal(u, s) for u, s in zip(update.tensors, sound.tensors, strict=True)] == [
        True,
        False,
        True,
        True,
    ]
