"""The search over vertices, against all vertices, and the gains of maps of polyhedral norms."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import L1, L2, RMS, Concatenation, FunctionBond, Linear, Linf
from modula.instruments import sensitivity
from modula.instruments.vertices import dual_space, largest_at_vertices
from modula.spaces import Product, Space
from tests.helpers import close, rand
from tests.strategies import seeds

POLYHEDRAL = [(X, Y) for X, Y in itertools.product((L1, Linf, L2, RMS), repeat=2)]


def signs(width: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product((1.0, -1.0), repeat=width)), dtype=torch.float64)


def operator_norm(W: torch.Tensor, X: type, Y: type) -> float:
    """The largest ‖Wx‖/‖x‖, over all vertices of the domain's ball or of the codomain's dual."""
    if X is L1:
        return Y.norm(W.mT).max().item()
    if X is Linf:
        return Y.norm(signs(W.shape[1]) @ W.mT).max().item()
    functionals = W if Y is Linf else signs(W.shape[0]) @ W
    return X.dual_norm(functionals).max().item()


@pytest.mark.parametrize(("X", "Y"), [pair for pair in POLYHEDRAL if {*pair} & {L1, Linf}], ids=str)
@settings(max_examples=8)
@given(seed=seeds, d_out=st.integers(1, 7), d_in=st.integers(1, 7))
def test_the_largest_gain_of_a_small_map_is_found(X, Y, seed, d_out, d_in):
    W = rand(seed, d_out, d_in)
    bond = FunctionBond(lambda x: x @ W.mT, domain=X, codomain=Y, sensitivity=1.0)
    worst = sensitivity(bond, rand(seed + 1, 3, d_in)).rows[0].worst
    close(worst, operator_norm(W, X, Y), rtol=1e-9)


@pytest.mark.parametrize("norm", [L1, Linf], ids=str)
def test_in_a_wide_ball_a_lower_bound_is_found_that_a_random_vertex_does_not_reach(norm):
    W = rand(0, 12, 300 if norm is L1 else 40)
    like = torch.zeros(1, W.shape[1], dtype=torch.float64)
    value = lambda v: L2.norm(v @ W.mT).item()  # noqa: E731
    found = largest_at_vertices(Space(norm), like, value, torch.Generator().manual_seed(0))
    drawn = [value(norm.dualize(rand(i, 1, W.shape[1]))) for i in range(20)]
    assert max(drawn) < found
    if norm is L1:
        assert found <= operator_norm(W, L1, L2)


def test_parts_of_a_tuple_are_searched_one_by_one():
    space = Product((Space(L1), Space(RMS), Space(Linf)))
    like = tuple(torch.zeros(1, d) for d in (2, 3, 2))
    seen = []

    def value(v):
        seen.append(tuple(part.count_nonzero().item() for part in v))
        return 1.0

    assert largest_at_vertices(space, like, value, torch.Generator()) == 1.0
    assert seen == [(1, 0, 0), (1, 0, 0), (0, 0, 2), (0, 0, 2)]


def test_a_round_ball_has_no_vertices():
    assert largest_at_vertices(Space(RMS), torch.ones(1, 3), lambda v: 1.0, torch.Generator()) == 0


def test_functionals_on_a_tuple_are_those_on_its_parts():
    space = Product((Space(L1, 3), Space(Linf, 2)))
    assert dual_space(space) == Product((Space(Linf, 3), Space(L1, 2)))


def test_a_tuple_into_linf_is_attacked_in_every_row():
    model = Concatenation(Linear(3, 4, codomain=Linf), Linear(2, 4, codomain=Linf)).double()
    worst = sensitivity(model, rand(0, 2, 4)).rows[0].worst
    assert 1 - 1e-9 <= worst <= 2 + 1e-9
