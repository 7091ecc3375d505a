"""`HeadLinear`: each head is a Linear of its own, and queries of RMS 1 follow from the norms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel

from modula import (
    RMS,
    Attention,
    FunctionalAttention,
    HeadLinear,
    HeadRMS,
    Linear,
    NormPairError,
    SplitIntoHeads,
)
from modula.geometry import Spectral, operator_geometry, register
from modula.testing import check_atom, check_geometry
from tests.helpers import (
    close,
    full,
    largest_gain,
    largest_weight_gain,
    rand,
    random_gradient,
    record_batches,
)
from tests.strategies import seeds

few = settings(max_examples=8)
HEADS, D_HEAD, FAN_IN = 3, 4, 6
X = rand(0, 2, 5, FAN_IN)


def layer() -> HeadLinear:
    return HeadLinear(HEADS, D_HEAD, FAN_IN).double()


def blocks(weight: torch.Tensor) -> list[torch.Tensor]:
    return list(weight.split(D_HEAD))


def test_it_keeps_the_laws_of_an_atom():
    check_atom(HeadLinear(2, 3, 5), torch.randn(1, 4, 5))


@pytest.mark.parametrize(("num_heads", "shape"), [(1, (4, 5)), (3, (6, 5)), (2, (8, 3))])
def test_its_geometry_keeps_the_laws_of_a_norm(num_heads, shape):
    check_geometry(operator_geometry(RMS, HeadRMS, num_heads=num_heads), shape)


def test_it_computes_what_a_linear_split_into_heads_does():
    made = layer()
    whole = Linear(HEADS * D_HEAD, FAN_IN).double()
    with torch.no_grad():
        whole.weight.copy_(made.weight)
    close(made(X), (SplitIntoHeads(HEADS) @ whole)(X))


@few
@given(seed=seeds)
def test_the_norm_is_the_largest_of_the_heads(seed):
    made, weight = layer(), rand(seed, HEADS * D_HEAD, FAN_IN)
    expected = max(float(Spectral(RMS, RMS).norm(one[None])) for one in blocks(weight))
    close(made.geometry.norm(weight[None]), [expected], rtol=1e-12)


@few
@given(seed=seeds)
def test_each_head_takes_a_full_step_of_its_own(seed):
    made = layer()
    gradient = random_gradient(made, seed)
    update = made.dualize(gradient, method="svd")["weight"]
    for step, g in zip(blocks(update), blocks(gradient["weight"]), strict=True):
        alone = Linear(D_HEAD, FAN_IN).double()
        close(step, alone.dualize(type(gradient)({"weight": g}), method="svd")["weight"])


@few
@given(seed=seeds)
def test_no_head_of_its_output_is_longer_than_the_input(seed):
    made = layer()
    weight = rand(seed, HEADS * D_HEAD, FAN_IN)
    with torch.no_grad():
        made.weight.copy_(weight / made.geometry.norm(weight[None]))
    assert HeadRMS.measure(made(X)) <= RMS.measure(X) * (1 + 1e-9)


def test_the_bound_on_its_weight_is_attained():
    made = layer()
    close(largest_weight_gain(made, full(made.domain, rand(1, 1, FAN_IN))), 1.0, rtol=1e-6)


def test_a_fresh_layer_attains_its_sensitivity():
    close(largest_gain(layer(), X), 1.0, rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 2.0])
@settings(max_examples=5)
@given(seed=seeds, num_heads=st.sampled_from([1, 2, 4]))
def test_attention_of_heads_grows_no_change_of_an_input_of_norm_one(scale, seed, num_heads):
    model = Attention(8, num_heads, scale=scale, projection=HeadLinear).double()
    x = full(model.domain, rand(seed, 1, 3, 8))
    assert largest_gain(model, x, starts=2) <= model.sensitivity * (1 + 1e-6)


def worst_case(attention: Attention, num_heads: int, d_head: int) -> tuple[torch.Tensor, ...]:
    """An input of norm 1 and a change of it, which keys of one head each read from one position.

    The weights are set to ±1, so that heads of whole matrices stretch the change by more than 1.
    """
    width = num_heads * d_head
    weights = attention.graph().weights.values()
    with torch.no_grad():
        for weight, sign in zip(weights, (-1.0, 1.0, 1.0, 1.0), strict=True):
            weight.tensor.copy_(sign * torch.eye(width))
            weight.tensor.div_(weight.geometry.norm(weight.tensor[None]))
    a = torch.zeros(d_head).double()
    a[1] = d_head**0.5
    x = -a.repeat(num_heads + 1, num_heads).view(num_heads + 1, num_heads, d_head)
    change = torch.zeros_like(x)
    for head in range(num_heads):
        x[head, head] = a
        change[head, head] = num_heads**0.5 * a
    change[num_heads] = -a
    return x.view(1, -1, width), change.view(1, -1, width)


def stretched(projection: object) -> float:
    """How much attention stretches the change of the worst case."""
    attention = Attention(48, 12, projection=projection).double()
    x, change = worst_case(attention, 12, 4)
    with sdpa_kernel(SDPBackend.MATH):
        _, moved = torch.func.jvp(attention, (x,), (change,))
    return float(RMS.measure(moved.detach()) / RMS.measure(change))


def test_the_worst_case_of_whole_matrices_is_within_the_bound_of_heads():
    assert stretched(None) > 1.2
    assert stretched(HeadLinear) <= 1 + 1e-9


def test_all_heads_of_a_network_are_orthogonalised_in_one_batch(monkeypatch):
    model = Attention(8, 2, projection=HeadLinear)
    seen = record_batches(monkeypatch)
    model.dualize(random_gradient(model, 0))
    assert torch.Size((6, 4, 8)) in seen


def test_the_queries_of_attention_are_within_its_condition():
    graph = Attention(8, 2, projection=HeadLinear).graph()
    (node,) = [n for n in graph.nodes if isinstance(n.operation, FunctionalAttention)]
    assert graph.radii()[node.inputs[0]] == (1.0, 1.0, 1.0)


# Refusals


@pytest.mark.parametrize("sizes", [(0, 4, 8), (2, 0, 8), (2, 4, 0)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="at least 1"):
        HeadLinear(*sizes)


def test_the_table_asks_for_the_number_of_heads():
    with pytest.raises(NormPairError, match="give num_heads"):
        operator_geometry(RMS, HeadRMS)


def test_a_number_of_heads_belongs_to_heads():
    with pytest.raises(ValueError, match="belongs to a map RMS → HeadRMS"):
        operator_geometry(RMS, RMS, num_heads=2)


def test_the_pair_is_not_registered_twice():
    with pytest.raises(ValueError, match="has a geometry already"):
        register(RMS, HeadRMS, Spectral(RMS, RMS))


def test_a_linear_into_heads_is_refused_with_what_to_write():
    with pytest.raises(NormPairError, match="HeadLinear"):
        Linear(8, 8, codomain=HeadRMS)
