"""Spectra against NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula import Bias, Conv2D, Gradient, Linear, Update
from modula.instruments import spectra
from tests.helpers import close, rand
from tests.strategies import seeds


def of(matrix):
    return spectra(Update({"weight": matrix}))["weight"]


@given(seed=seeds, rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_all_numbers_are_numpys(seed, rows, columns):
    matrix = rand(seed, rows, columns)
    spectrum, sigma = of(matrix), np.linalg.svd(matrix.numpy(), compute_uv=False)
    shares = sigma / sigma.sum()
    close(spectrum.singular_values, sigma)
    close(
        spectrum.stable_rank,
        np.linalg.norm(matrix.numpy(), "fro") ** 2 / np.linalg.norm(matrix.numpy(), 2) ** 2,
    )
    close(
        spectrum.nuclear_rank,
        np.linalg.norm(matrix.numpy(), "nuc") / np.linalg.norm(matrix.numpy(), 2),
    )
    close(spectrum.effective_rank, math.exp(-(shares * np.log(shares)).sum()))
    close(spectrum.condition, np.linalg.cond(matrix.numpy()), rtol=1e-6)


@given(seed=seeds, exponent=st.integers(-100, 100))
def test_ranks_do_not_depend_on_scale(seed, exponent):
    matrix = rand(seed, 4, 3)
    one, other = of(matrix), of(matrix * 10.0**exponent)
    close(
        [one.stable_rank, one.effective_rank], [other.stable_rank, other.effective_rank], rtol=1e-6
    )


def test_every_rank_of_a_semi_orthogonal_matrix_is_its_rank():
    spectrum = spectra(Linear(8, 3).double().weights)["weight"]
    close(
        [spectrum.stable_rank, spectrum.nuclear_rank, spectrum.effective_rank],
        [3.0, 3.0, 3.0],
        rtol=1e-6,
    )


def test_every_rank_of_an_outer_product_is_one():
    spectrum = of(rand(0, 4, 1) @ rand(1, 1, 3))
    close(
        [spectrum.stable_rank, spectrum.nuclear_rank, spectrum.effective_rank],
        [1.0, 1.0, 1.0],
        rtol=1e-6,
    )


def test_a_zero_matrix_has_no_rank():
    spectrum = of(torch.zeros(3, 2))
    assert (spectrum.stable_rank, spectrum.nuclear_rank, spectrum.effective_rank) == (0, 0, 0)
    assert math.isnan(spectrum.condition)


def test_a_singular_matrix_has_an_infinite_condition():
    assert of(torch.diag(torch.tensor([1.0, 0.0]))).condition == math.inf


def test_a_convolution_has_a_matrix_for_each_tap():
    weights = Conv2D(4, 3, kernel_size=2).double().weights
    report = spectra(weights)
    assert [row.path for row in report] == [f"weight[{i}, {j}]" for i in (0, 1) for j in (0, 1)]
    close(
        report["weight[1, 0]"].singular_values,
        np.linalg.svd(weights["weight"].detach()[:, :, 1, 0].numpy(), compute_uv=False),
    )


def test_a_stack_of_matrices_is_taken_one_by_one():
    stack = rand(0, 2, 4, 3)
    report = spectra(Gradient({"weight": stack}))
    close(report["weight[1]"].singular_values, np.linalg.svd(stack[1].numpy(), compute_uv=False))


def test_vectors_have_no_spectrum():
    assert len(spectra((Bias(3) @ Linear(3, 4)).weights)) == 1


def test_bfloat16_is_computed_in_float32():
    close(of(torch.eye(3, dtype=torch.bfloat16)).singular_values, [1.0, 1.0, 1.0], rtol=1e-6)


def test_a_matrix_that_is_not_finite_has_nan_and_the_others_their_numbers():
    broken = torch.eye(2)
    broken[0, 0] = math.inf
    report = spectra(Update({"one": broken, "two": torch.eye(2)}))
    assert all(map(math.isnan, report["one"].singular_values))
    assert report["two"].singular_values == (1.0, 1.0)


def test_the_report_says_of_what():
    assert str(spectra(Gradient({"weight": torch.eye(2)}))).startswith("Gradient\n")


def test_a_model_is_refused():
    with pytest.raises(TypeError, match=r"got Linear; as in spectra\(model.weights\)"):
        spectra(Linear(3, 4))
