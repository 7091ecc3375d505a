"""Mixtures of experts: routing, bounds under their conditions, and what is recorded."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from modula import (
    GELU,
    RMS,
    Combine,
    Dispatch,
    FunctionBond,
    Linear,
    Linf,
    MixtureOfExperts,
    ReLU,
    SteepestDescent,
    TopK,
    routing,
)
from modula.norms import L1
from modula.testing import check_bond, check_network
from tests.helpers import close, rand
from tests.strategies import seeds


def mixture(d=4, num_experts=5, k=2, width=6):
    return MixtureOfExperts(d, num_experts=num_experts, k=k, width=width)


def plainly(layer, x, k):
    """The output for each vector by loops, from the weights of the layer."""
    router, up, down = (
        next(p for n, p in layer.named_parameters() if p.shape == shape)
        for shape in ((5, 4), (5, 6, 4), (5, 4, 6))
    )
    outputs = []
    for v in x:
        scores = router @ v
        chosen = scores.argsort(descending=True)[:k]
        p = torch.softmax(scores[chosen], dim=0)
        hidden = [F.gelu(up[i] @ v) / GELU.sensitivity for i in chosen]
        outputs.append(sum(q * (down[i] @ h) for q, i, h in zip(p, chosen, hidden, strict=True)))
    return torch.stack(outputs) / 2


@settings(max_examples=5)
@given(seed=seeds, k=st.integers(1, 5))
def test_it_is_the_weighted_sum_of_the_chosen_experts(seed, k):
    layer, x = mixture(k=k).double(), rand(seed, 7, 4)
    close(layer(x), plainly(layer, x, k))


def test_its_sensitivity_is_one_and_its_masses_are_three():
    layer = mixture()
    close(layer.sensitivity, 1.0)
    assert layer.mass == 3.0
    coefficients = layer.plan().coefficients
    close(coefficients, [(1 / 3) / (1 / 2)] * 3)


def test_it_obeys_the_laws_of_networks():
    check_network(mixture(), torch.randn(6, 4), steps=3)


@settings(max_examples=10)
@given(seed=seeds, k=st.integers(1, 4))
def test_the_choice_keeps_its_bound_where_scores_do_not_meet(seed, k):
    """For a change by less than half of the gap, the ids stay and the weights change by no more."""
    scores = rand(seed, 3, 5)
    ordered = scores.sort(descending=True).values
    gap = (ordered[..., k - 1] - ordered[..., k]).min()
    change = 0.49 * gap * rand(seed + 1, 3, 5).sign()
    (ids, weights), (same, moved) = TopK(k)(scores), TopK(k)(scores + change)
    assert torch.equal(ids.sort().values, same.sort().values)
    dense = torch.zeros(2, 3, 5).double()
    dense[0].scatter_(-1, ids, weights)
    dense[1].scatter_(-1, same, moved)
    assert L1.measure(dense[0] - dense[1]) <= Linf.measure(change) * (1 + 1e-9)


def test_the_choice_jumps_where_scores_meet():
    ids = [TopK(1)(torch.tensor([0.0, e]))[0].item() for e in (-1e-6, 1e-6)]
    assert ids == [0, 1]


@settings(max_examples=5)
@given(seed=seeds)
def test_combining_keeps_its_bounds_under_its_condition(seed):
    vectors, weights = rand(seed, 2, 3, 4), rand(seed + 1, 2, 3)
    x = vectors / RMS.measure(vectors), weights / L1.measure(weights)
    ratios = check_bond(Combine(), x, steps=5)
    assert max(ratios.input, ratios.radius) <= 1 + 1e-9


def test_the_bounds_of_combining_are_reached():
    x = torch.ones(1, 2, 4).double(), torch.full((1, 2), 0.5).double()
    ratios = check_bond(Combine(), x)
    close(ratios.input, 1.0)
    close(ratios.radius, 1.0)


def test_dispatching_copies_vectors_and_regroups():
    x, ids, weights = torch.randn(3, 4), torch.zeros(3, 2, dtype=torch.int64), torch.ones(3, 2)
    (copies, same), kept = Dispatch()((x, (ids, weights)))
    assert torch.equal(copies, x[:, None].expand(3, 2, 4))
    assert same is ids
    assert kept is weights
    copied = FunctionBond(lambda v: Dispatch()((v, (ids, weights)))[0][0], domain=RMS, codomain=RMS)
    close(check_bond(copied, x.double()).input, 1.0)


def test_what_balances_the_experts_is_recorded():
    model = Linear(3, 4) @ mixture() @ mixture() @ Linear(4, 2)
    x = torch.randn(6, 2)
    with routing(model) as layers:
        y = model(x)
    assert len(layers) == 2
    first, second = layers
    assert isinstance(model.get_submodule(first.path), TopK)
    assert first.path != second.path
    assert first.scores.shape == (6, 5)
    assert first.chosen.shape == (6, 2)
    close(first.weights.sum(-1), [1.0] * 6, rtol=1e-6)
    gradient = model.gradient(second.scores.square().sum() + 0 * y.sum())
    assert gradient.tensors[0].any()
    model(x)
    assert len(layers) == 2


def test_experts_specialise_by_a_loss_of_the_user():
    """The load balance of Switch, added to the loss, evens out the choices."""
    torch.manual_seed(0)
    model = MixtureOfExperts(4, num_experts=4, k=1, width=4)
    x = torch.randn(256, 4) + 2.0
    optimizer = SteepestDescent(model, lr=0.3)

    def largest_load():
        with routing(model) as layers:
            model(x)
        return torch.bincount(layers[0].chosen.flatten(), minlength=4).max().item() / 256

    before = largest_load()
    for _ in range(60):
        with routing(model) as layers:
            y = model(x)
        load = F.one_hot(layers[0].chosen, 4).float().mean(dim=(0, 1))
        balance = 4 * (load * layers[0].scores.softmax(-1).mean(dim=0)).sum()
        optimizer.zero_grad()
        (balance + 0 * y.sum()).backward()
        optimizer.step()
    assert largest_load() < before


def test_it_copies_prints_and_compiles():
    layer, x = mixture(), torch.randn(6, 4)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert "Experts" in str(layer)
    close(torch.compile(layer, backend="eager")(x), layer(x))


def test_an_elementwise_activation_is_taken():
    layer = MixtureOfExperts(4, num_experts=3, k=1, width=4, activation=ReLU())
    close(layer.sensitivity, 1.0)


@pytest.mark.parametrize("k", [0, 4])
def test_more_experts_than_there_are_is_refused(k):
    with pytest.raises(ValueError, match="between 1 and num_experts=3"):
        MixtureOfExperts(4, num_experts=3, k=k, width=4)


def test_fewer_scores_than_choices_is_refused():
    with pytest.raises(ValueError, match="at least 3 scores, got 2"):
        TopK(3)(torch.ones(4, 2))
    with pytest.raises(ValueError, match="at least 1 expert"):
        TopK(0)
