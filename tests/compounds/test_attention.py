"""Attention, fused and composed: one map, one gradient, no look ahead."""

import pytest
import torch
from hypothesis import given, settings
from torch.nn.attention import SDPBackend, sdpa_kernel

from modula import Attention, ComposedAttention, CompositionError, Linear
from tests.helpers import close, full, largest_gain, rand
from tests.strategies import seeds

SETTINGS = [
    {},
    {"causal": False},
    {"scale": 3.0},
    {"d_head": 6},
]
every_setting = pytest.mark.parametrize("options", SETTINGS, ids=str)
both = pytest.mark.parametrize("kind", [Attention, ComposedAttention])
X = rand(0, 2, 5, 8)


def twins(options: dict) -> tuple[Attention, ComposedAttention]:
    """The two forms with the same weights, in float64: (query, key, value, output) and (value,
    query, key, output).
    """
    fused, composed = (
        Attention(8, 2, **options).double(),
        ComposedAttention(8, 2, **options).double(),
    )
    query, key, value, output = fused.weights.tensors
    with torch.no_grad():
        for target, source in zip(
            composed.weights.tensors, (value, query, key, output), strict=True
        ):
            target.copy_(source)
    return fused, composed


@every_setting
def test_both_forms_give_the_same_output(options):
    fused, composed = twins(options)
    close(fused(X), composed(X))


@every_setting
def test_both_forms_give_the_same_gradients(options):
    fused, composed = twins(options)
    loss = lambda model: (model(X) * rand(1, 2, 5, 8)).sum()  # noqa: E731
    query, key, value, output = fused.gradient(loss(fused)).tensors
    for one, other in zip(
        composed.gradient(loss(composed)).tensors, (value, query, key, output), strict=True
    ):
        close(one, other)


@both
def test_the_future_does_not_change_the_past(kind):
    model, later = kind(8, 2).double(), X.clone()
    later[:, 3:] += rand(1, 2, 2, 8)
    close(model(later)[:, :3], model(X)[:, :3])


@both
def test_without_the_mask_the_future_does_change_the_past(kind):
    model, later = kind(8, 2, causal=False).double(), X.clone()
    later[:, 3:] += rand(1, 2, 2, 8)
    assert (model(later)[:, :3] - model(X)[:, :3]).abs().max() > 1e-3


@both
def test_the_past_changes_the_future(kind):
    model, earlier = kind(8, 2).double(), X.clone()
    earlier[:, 0] += rand(1, 2, 8)
    assert (model(earlier)[:, 4] - model(X)[:, 4]).abs().max() > 1e-3


@both
def test_sequences_of_a_batch_do_not_mix(kind):
    model = kind(8, 2).double()
    close(model(X)[1], model(X[1:])[0])


@both
def test_sensitivity_is_one(kind):
    close(kind(8, 2).sensitivity, 1.0)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_sensitivity_of_the_fused_form_follows_its_scale(scale):
    close(Attention(8, 2, scale=scale).sensitivity, max(1.0, scale))


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_sensitivity_of_the_composed_form_follows_its_scale(scale):
    close(ComposedAttention(8, 2, scale=scale).sensitivity, (1 + 2 * scale) / 3)


@both
def test_its_four_matrices_have_equal_mass(kind):
    assert [atom.mass for atom in kind(8, 2).modules() if isinstance(atom, Linear)] == [1, 1, 1, 1]


@both
@pytest.mark.parametrize("scale", [1.0, 2.0])
@settings(max_examples=5)
@given(seed=seeds)
def test_with_one_head_no_change_grows_beyond_the_sensitivity(kind, scale, seed):
    model = kind(4, 1, scale=scale).double()
    x = full(model.domain, rand(seed, 1, 3, 4))
    with sdpa_kernel(SDPBackend.MATH):
        assert largest_gain(model, x, starts=3) <= model.sensitivity * (1 + 1e-6)


@both
def test_width_of_a_head_may_be_chosen(kind):
    assert [tuple(w.shape) for w in kind(8, 2, d_head=6).weights.tensors] == [(12, 8)] * 3 + [
        (8, 12)
    ]


@both
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((8, 0), "num_heads=0"),
        ((8, 3), r"d_embed=8 does not split into num_heads=3"),
        ((6, 2), "even d_head, got 3"),
    ],
)
def test_impossible_heads_are_refused(kind, arguments, told):
    with pytest.raises(ValueError, match=told):
        kind(*arguments)


@both
def test_it_is_checked_for_its_width(kind):
    with pytest.raises(CompositionError, match=rf"{kind.__name__}\(8, 2\).*RMS\(6\)"):
        kind(8, 2) @ Linear(6, 4)
