"""Experts: one matrix for each vector, and one duality map for each matrix."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import RMS, Experts, FunctionBond, Gradient, Linear, MixtureOfExperts
from modula.atoms import expert_products
from modula.testing import check_atom, check_bond
from tests.helpers import close, rand
from tests.strategies import seeds


@settings(max_examples=20)
@given(seed=seeds, num=st.integers(1, 5), k=st.integers(1, 3))
def test_each_vector_meets_its_matrix(seed, num, k):
    atom = Experts(num, 3, 4).double()
    x = rand(seed, 5, k, 4)
    ids = torch.randint(num, (5, k), generator=torch.Generator().manual_seed(seed))
    expected = torch.einsum("...oi,...i->...o", atom.weight[ids], x)
    close(atom((x, ids)), expected)


def test_its_gradients_are_those_of_a_loop_over_vectors():
    atom = Experts(4, 3, 2).double()
    x, ids, c = rand(0, 6, 2).requires_grad_(), torch.tensor([0, 3, 3, 1, 0, 3]), rand(1, 6, 3)
    found = torch.autograd.grad((atom((x, ids)) * c).sum(), (x, atom.weight))
    looped = torch.stack([atom.weight[i] @ v for i, v in zip(ids, x, strict=True)])
    expected = torch.autograd.grad((looped * c).sum(), (x, atom.weight))
    for a, b in zip(found, expected, strict=True):
        close(a, b)


def test_the_laws_of_atoms_hold():
    ids = torch.tensor([0, 2, 2])
    ratios = check_atom(Experts(3, 2, 4), (rand(0, 3, 4), ids), steps=5)
    close(ratios.weights, 1.0, rtol=1e-6)


def test_the_bound_in_the_vectors_holds_and_is_attained():
    atom, ids = Experts(3, 4, 4).double(), torch.tensor([0, 2, 2])
    weight = atom.weight.detach()
    bond = FunctionBond(
        lambda x: torch.einsum("noi,ni->no", weight[ids], x), domain=RMS, codomain=RMS
    )
    ratios = check_bond(bond, rand(1, 3, 4))
    assert ratios.input is not None
    assert 0.999 < ratios.input <= atom.sensitivity + 1e-6


def test_an_expert_without_vectors_does_not_move():
    atom = Experts(3, 4, 4)
    ids = torch.tensor([0, 2])
    update = atom.dualize(atom.gradient(atom((torch.randn(2, 4), ids)).sum()))["weight"]
    assert not update[1].any()
    assert update[[0, 2]].flatten(1).any(dim=1).all()


@given(seed=seeds)
@settings(max_examples=5)
def test_each_expert_moves_as_a_linear_of_its_own(seed):
    atom = Experts(3, 6, 4).double()
    gradient = rand(seed, 3, 6, 4)
    update = atom.dualize(Gradient({"weight": gradient}))["weight"]
    for own, g in zip(update, gradient, strict=True):
        alone = Linear(6, 4).double().dualize(Gradient({"weight": g}))["weight"]
        close(own, alone, rtol=0, atol=1e-10)


def test_the_norm_is_the_largest_of_the_experts():
    atom = Experts(2, 2, 8)
    weight = torch.stack([torch.ones(2, 8), 3 * torch.ones(2, 8)])
    norm = atom.geometry.norm(weight[None])
    close(norm, [math.sqrt(8 / 2) * 3 * 4], rtol=1e-6)


@pytest.mark.parametrize(
    ("ids", "error", "match"),
    [
        (torch.tensor([0, 3]), IndexError, "from 0 to 2, got ids from 0 to 3"),
        (torch.tensor([-1, 0]), IndexError, "from 0 to 2, got ids from -1 to 0"),
        (torch.tensor([0, 1], dtype=torch.int32), TypeError, "int64"),
        (torch.tensor([0]), ValueError, "one id for each vector"),
    ],
)
def test_other_ids_are_refused(ids, error, match):
    with pytest.raises(error, match=match):
        Experts(3, 2, 4)((torch.ones(2, 4), ids))


def test_vectors_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"Experts\(3, 2, 4\) takes RMS\(4\)"):
        Experts(3, 2, 4)((torch.ones(2, 5), torch.tensor([0, 1])))


# In a compiled graph


def routed(num, rows):
    """Rows of width 4, matrices, and how many rows each of them has; the first has none."""
    ids = torch.arange(rows) % (num - 1) + 1
    return rand(0, rows, 4), rand(1, num, 3, 4), expert_products.count_each(ids.sort().values, num)


@given(ids=st.lists(st.integers(0, 6), max_size=20))
def test_ids_are_counted(ids):
    counts = expert_products.count_each(torch.tensor(ids, dtype=torch.int64), 7)
    assert counts.tolist() == [ids.count(i) for i in range(7)]


def test_the_operation_has_right_derivatives_of_both_orders():
    rows, weight, counts = routed(4, 7)

    def products(x, W):
        return expert_products.multiply_rows_compiled(x, W, counts)

    inputs = rows.requires_grad_(), weight.requires_grad_()
    close(products(*inputs), expert_products.multiply_rows(*inputs, counts))
    assert torch.autograd.gradcheck(products, inputs)
    assert torch.autograd.gradgradcheck(products, inputs)


def test_torch_accepts_the_operation():
    rows, weight, counts = routed(3, 5)
    arguments = rows.requires_grad_(), weight.requires_grad_(), counts
    for name in ("expert_products", "expert_outer_products"):
        operation = getattr(torch.ops.modula, name).default
        left = arguments if name == "expert_products" else (rows, rand(2, 5, 2), counts)
        torch.library.opcheck(operation, left)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mixture_compiles_as_one_graph_with_the_same_gradients(dtype):
    layer = MixtureOfExperts(4, num_experts=3, k=2, width=5).to(dtype)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for seed in range(2):  # the numbers of rows differ, and nothing is compiled again
        x = rand(seed, 6, 4).to(dtype)
        with torch.compiler.set_stance("default" if not seed else "fail_on_recompile"):
            found = torch.autograd.grad(compiled(x).square().sum(), [*layer.parameters()])
        expected = torch.autograd.grad(layer(x).square().sum(), [*layer.parameters()])
        for a, b in zip(found, expected, strict=True):
            close(a, b, atol=1e-6)


def test_a_compiled_mixture_runs_under_autocast():
    layer, x = MixtureOfExperts(4, num_experts=3, k=2, width=5), torch.randn(6, 4)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        close(compiled(x).float(), layer(x).float(), atol=0.02)
