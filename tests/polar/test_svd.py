"""The reference: exactly orthogonal on the range of a matrix, exactly zero on its null spaces."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modula.polar import orthogonalize
from tests.helpers import close, rand
from tests.strategies import seeds


@given(seed=seeds, m=st.integers(1, 7), n=st.integers(1, 7), data=st.data())
def test_result_is_a_partial_isometry_of_the_same_rank(seed, m, n, data):
    rank = data.draw(st.integers(0, min(m, n)))
    G = rand(seed, m, rank) @ rand(seed + 1, rank, n)
    singular_values = torch.linalg.svdvals(orthogonalize(G, "svd"))
    close(singular_values, (torch.arange(min(m, n)) < rank).double())


@given(seed=seeds, m=st.integers(1, 7), n=st.integers(1, 7))
def test_result_is_the_orthogonal_factor_of_the_polar_decomposition(seed, m, n):
    G = rand(seed, m, n)
    O = orthogonalize(G, "svd")  # noqa: E741
    P = O.mT @ G if m >= n else G @ O.mT
    close(P, P.mT, atol=1e-9)
    assert torch.linalg.eigvalsh(P).min() >= -1e-9


def test_it_takes_no_steps():
    with pytest.raises(ValueError, match=r"SVD\(\) takes no steps"):
        orthogonalize(torch.eye(2), "svd", steps=3)
