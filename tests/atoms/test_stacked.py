"""Several maps in one tensor: the fused step is the step of the separate tensors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import (
    RMS,
    Bond,
    GatedTanh,
    Gradient,
    Linear,
    ReLU,
    StackedBias,
    StackedLinear,
    SteepestDescent,
    Unbind,
)
from modula.geometry import Spectral, Stacked
from modula.testing import check_atom, check_bond, check_network
from tests.helpers import close, rand
from tests.strategies import seeds

widths = st.integers(1, 5)


@settings(max_examples=4)
@given(num=st.integers(1, 4), fan_out=widths, fan_in=widths)
def test_the_laws_of_atoms_hold(num, fan_out, fan_in):
    ratios = check_atom(StackedLinear(num, fan_out, fan_in), rand(0, 2, fan_in), steps=5)
    assert ratios.weights is not None
    assert ratios.weights > 0.99
    check_atom(StackedBias(num, fan_out), rand(1, 2, num, fan_out), steps=5)


def test_it_computes_each_block_of_rows():
    atom, x = StackedLinear(3, 2, 4), torch.randn(5, 4)
    for i, y in enumerate(atom(x).unbind(-2)):
        close(y, x @ atom.weight[2 * i : 2 * i + 2].T, rtol=1e-6, atol=1e-7)


def pair(num, d, d_in):
    """A network with separate matrices and one with the same in one tensor."""
    separate = Linear(2, d) @ GatedTanh() @ (Linear(d, d_in), Linear(d, d_in)) @ ReLU()
    fused = Linear(2, d) @ GatedTanh() @ Unbind(num) @ StackedLinear(num, d, d_in) @ ReLU()
    first, second, last = separate.weights.tensors
    own, own_last = fused.weights.tensors
    own.data.copy_(torch.cat([first, second]))
    own_last.data.copy_(last)
    return separate, fused


def test_the_coefficient_is_that_of_separate_matrices():
    separate, fused = pair(2, 3, 4)
    assert separate.mass == fused.mass
    assert separate.sensitivity == fused.sensitivity
    assert separate.plan().coefficients[0] == fused.plan().coefficients[0]


@settings(max_examples=5)
@given(seed=seeds)
def test_the_fused_step_is_the_step_of_separate_tensors(seed):
    separate, fused = pair(2, 6, 4)
    optimizers = [SteepestDescent(model, lr=0.1) for model in (separate, fused)]
    for step in range(3):
        x = rand(seed + step, 7, 4, dtype=torch.float32)
        for model, optimizer in zip((separate, fused), optimizers, strict=True):
            optimizer.zero_grad()
            (model(x) - 1).square().mean().backward()
            optimizer.step()
    first, second, last = separate.weights.tensors
    own, own_last = fused.weights.tensors
    close(own, torch.cat([first, second]), rtol=0, atol=1e-6)
    close(own_last, last, rtol=0, atol=1e-6)


def test_unbind_is_proved():
    for n in (1, 2, 4):
        ratios = check_bond(Unbind(n), torch.ones(3, n, 5), steps=5)
        close(ratios.input, 1.0)
        close(ratios.radius, 1.0)


def test_an_axis_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"takes \[\.\.\., 2, d\]"):
        Unbind(2)(torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"takes \[\.\.\., 2, d\]"):
        StackedBias(2, 4)(torch.ones(3, 4))


@pytest.mark.parametrize("num", [0, -1, 1.5, True])
def test_a_number_of_maps_below_one_is_refused(num):
    for build in (lambda: StackedLinear(num, 2, 3), lambda: StackedBias(num, 2)):
        with pytest.raises(ValueError, match="at least 1 map"):
            build()


class _ByColumns(StackedLinear):
    """Gates whose geometry splits the wrong axis."""

    def __init__(self, num: int, fan_out: int, fan_in: int) -> None:
        super().__init__(num, fan_out, fan_in)
        self.geometry = Stacked(Spectral(RMS, RMS), num, axis=1)


@settings(max_examples=15, deadline=None)
@given(num=st.integers(2, 4), fan_out=st.integers(1, 5), columns=st.integers(1, 3))
def test_a_wrong_split_axis_is_refused_by_the_laws_for_all_lengths(num, fan_out, columns):
    atom = _ByColumns(num, fan_out, num * columns)
    with pytest.raises(AssertionError, match="‖"):
        check_atom(atom, rand(0, 2, num * columns), generator=torch.Generator().manual_seed(0))


def test_a_split_that_does_not_divide_the_axis_is_refused():
    atom = StackedLinear(2, 4, 5)
    atom.geometry = Stacked(Spectral(RMS, RMS), 2, axis=1)
    with pytest.raises(ValueError, match="takes no axis of length 5"):
        atom.dualize(Gradient({"weight": torch.ones(8, 5)}))


def test_a_network_with_gates_obeys_its_laws():
    _, fused = pair(2, 3, 4)
    check_network(fused, torch.randn(5, 4), steps=5)
    assert isinstance(Unbind(2), Bond)
