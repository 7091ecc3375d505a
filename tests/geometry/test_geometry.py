"""Norms on weights: every pair of norm types is the operator norm it claims to be, with its own
duality map.
"""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from modula import (
    L1,
    L2,
    RMS,
    Atom,
    ChannelRMS,
    Gradient,
    HeadRMS,
    Linear,
    Linf,
    NormPairError,
    OneHot,
    VectorNorm,
)
from modula.geometry import BallVectors, Spectral, Taps, Vectors, operator_geometry
from tests import reference
from tests.helpers import PAIRS, close, rand
from tests.strategies import matrices, seeds

MATRIX_PAIRS = [*PAIRS, *[(OneHot, codomain) for codomain in (RMS, L1, L2, Linf)]]
TAPS = (ChannelRMS, ChannelRMS)
ALL_PAIRS = [*MATRIX_PAIRS, TAPS]
NORM_TYPES = [OneHot, RMS, L1, L2, Linf, ChannelRMS, HeadRMS]


def name(value: object) -> str | None:
    return "→".join(norm.__name__ for norm in value) if isinstance(value, tuple) else None


every_pair = pytest.mark.parametrize("pair", ALL_PAIRS, ids=name)
every_matrix_pair = pytest.mark.parametrize("pair", MATRIX_PAIRS, ids=name)


@st.composite
def weights(draw: st.DrawFn, pair: tuple) -> torch.Tensor:
    """A batch of two weights of the layout of the pair, of any rank and scale."""
    if pair != TAPS:
        return draw(matrices())
    k_h, k_w = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    taps = draw(matrices(batch=2 * k_h * k_w, width=4))
    return taps.unflatten(0, (2, k_h, k_w)).permute(0, 3, 4, 1, 2).contiguous()


def pairing(g: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return (g * t).flatten(1).sum(1)


@every_pair
@given(data=st.data())
def test_dualize_has_unit_norm(pair, data):
    geometry, g = operator_geometry(*pair), data.draw(weights(pair))
    close(geometry.norm(geometry.dualize(g, "svd")), torch.ones(2))


@every_pair
@given(data=st.data())
def test_dualize_attains_dual_norm(pair, data):
    geometry, g = operator_geometry(*pair), data.draw(weights(pair))
    close(pairing(g, geometry.dualize(g, "svd")) / geometry.dual_norm(g), torch.ones(2))


@every_pair
@given(data=st.data())
def test_norm_agrees_with_its_definition(pair, data):
    geometry, w = operator_geometry(*pair), data.draw(weights(pair))
    close(geometry.norm(w), [reference.weight_norm(*pair, each.numpy()) for each in w], atol=0)


@every_pair
@given(data=st.data())
def test_dual_norm_agrees_with_its_definition(pair, data):
    geometry, g = operator_geometry(*pair), data.draw(weights(pair))
    close(
        geometry.dual_norm(g),
        [reference.weight_dual_norm(*pair, each.numpy()) for each in g],
        atol=0,
    )


@every_pair
@given(seed=seeds)
def test_dualize_agrees_with_its_definition(pair, seed):
    geometry, g = operator_geometry(*pair), rand(seed, 2, 3, 4, *(2, 3)[: 2 * (pair == TAPS)])
    close(
        geometry.dualize(g, "svd"),
        np.stack([reference.weight_dual(*pair, each.numpy()) for each in g]),
    )


@every_pair
@pytest.mark.parametrize("method", ["svd", "polar_express", "newton_schulz"])
def test_zero_gradient_gives_zero(pair, method):
    geometry = operator_geometry(*pair)
    assert not geometry.dualize(torch.zeros(2, 3, 4, *(2, 2)[: 2 * (pair == TAPS)]), method).any()


@every_pair
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_norm_of_dualize_is_one_at_every_scale_in_float32(pair, scale):
    g = scale * rand(0, 2, 3, 5, *(2, 2)[: 2 * (pair == TAPS)], dtype=torch.float32)
    close(
        operator_geometry(*pair).norm(operator_geometry(*pair).dualize(g, "svd")),
        torch.ones(2),
        rtol=1e-5,
    )


# The norm is that of an operator: it bounds ‖Wx‖ by ‖x‖, and no smaller number does.


def measured(norm: type, x: torch.Tensor) -> float:
    return 1.0 if norm is OneHot else reference.vector_norm(norm, x.numpy())


def worst_inputs(domain: type, W: torch.Tensor) -> list[torch.Tensor]:
    """Inputs of norm 1, one of which W stretches the most."""
    if domain in (L1, OneHot):
        return list(torch.eye(W.shape[1], dtype=W.dtype))
    rows = [torch.from_numpy(reference.vector_dual(domain, row.numpy())) for row in W]
    singular = torch.linalg.svd(W).Vh[0]
    return [*rows, singular / measured(domain, singular)]


@every_matrix_pair
@given(seed=seeds, d_out=st.integers(1, 5), d_in=st.integers(1, 5))
def test_norm_bounds_the_image_of_any_input(pair, seed, d_out, d_in):
    W, x = rand(seed, d_out, d_in), rand(seed + 1, d_in)
    x = torch.eye(d_in, dtype=x.dtype)[seed % d_in] if pair[0] is OneHot else x
    assert measured(pair[1], W @ x) <= operator_geometry(*pair).norm(W[None]).item() * measured(
        pair[0], x
    ) * (1 + 1e-12)


@every_matrix_pair
@given(seed=seeds, d_out=st.integers(1, 5), d_in=st.integers(1, 5))
def test_norm_is_attained_by_the_worst_input(pair, seed, d_out, d_in):
    W = rand(seed, d_out, d_in)
    gains = [measured(pair[1], W @ x) / measured(pair[0], x) for x in worst_inputs(pair[0], W)]
    close(max(gains), operator_geometry(*pair).norm(W[None])[0])


@given(seed=seeds, k=st.integers(1, 3), stride=st.integers(1, 2))
def test_norm_of_a_kernel_bounds_its_convolution(seed, k, stride):
    W, x = rand(seed, 3, 2, k, k), rand(seed + 1, 2, 2, 5, 5)
    y = F.conv2d(x, W, stride=stride, padding=k // 2)
    assert ChannelRMS.measure(y) <= Taps().norm(W[None])[0] * ChannelRMS.measure(x) * (1 + 1e-12)


def test_norm_of_a_kernel_is_attained_by_equal_taps():
    W, x = torch.ones(3, 2, 3, 3), torch.ones(1, 2, 5, 5)
    close(
        ChannelRMS.measure(F.conv2d(x, W)) / ChannelRMS.measure(x),
        Taps().norm(W[None])[0],
        rtol=1e-6,
    )


# Pairs that have no duality map


@pytest.mark.parametrize(
    "pair", [pair for pair in product(NORM_TYPES, repeat=2) if pair not in ALL_PAIRS], ids=name
)
def test_every_other_pair_is_an_error_that_gives_a_reason(pair):
    with pytest.raises(NormPairError, match=rf"{pair[0].__name__} → {pair[1].__name__}: \w+"):
        operator_geometry(*pair)


@pytest.mark.parametrize(
    ("pair", "fix"),
    [
        ((RMS, OneHot), "codomain such as RMS"),
        ((RMS, HeadRMS), "HeadLinear"),
        ((HeadRMS, RMS), "MergeHeads"),
        ((ChannelRMS, RMS), "AvgPool or Flatten"),
        ((RMS, L2), "the same norm at both ends"),
        ((Linf, L2), "NP-hard"),
        ((L2, L1), "closed form"),
    ],
    ids=name,
)
def test_an_impossible_pair_names_the_way_out(pair, fix):
    with pytest.raises(NormPairError, match=fix):
        operator_geometry(*pair)


def test_a_norm_pair_error_is_a_type_error():
    assert issubclass(NormPairError, TypeError)


# Norms of the user's own


class Half(VectorNorm):
    """‖x‖₂/2."""

    @classmethod
    def norm(cls, x):
        return x.norm(dim=-1) / 2

    @classmethod
    def dualize(cls, g):
        return 2 * g / g.norm(dim=-1, keepdim=True)


class Double(VectorNorm):
    """2·‖x‖₂, the dual of `Half`."""

    dual = Half

    @classmethod
    def norm(cls, x):
        return 2 * x.norm(dim=-1)

    @classmethod
    def dualize(cls, g):
        return g / g.norm(dim=-1, keepdim=True) / 2


@pytest.mark.parametrize(
    ("pair", "norm"),
    [((L1, Half), "columns"), ((OneHot, Double), "columns"), ((Double, Linf), "rows")],
)
def test_a_norm_of_ones_own_has_the_identities_of_a_geometry(pair, norm):
    geometry, g = operator_geometry(*pair), rand(0, 2, 3, 4)
    close(geometry.norm(geometry.dualize(g)), torch.ones(2))
    close(pairing(g, geometry.dualize(g)), geometry.dual_norm(g))


def test_a_norm_of_ones_own_measures_columns():
    W = rand(0, 3, 4)
    close(operator_geometry(L1, Half).norm(W[None])[0], W.norm(dim=0).max() / 2)


def test_a_norm_of_ones_own_measures_rows_in_its_dual():
    W = rand(0, 3, 4)
    close(operator_geometry(Double, Linf).norm(W[None])[0], W.norm(dim=1).max() / 2)


def test_a_norm_of_ones_own_types_a_linear():
    layer = Linear(3, 4, domain=L1, codomain=Half)
    assert str(layer.codomain) == "Half(3)"


def test_a_norm_without_a_dual_says_what_to_define():
    with pytest.raises(NormPairError, match=r"define Half\.dual"):
        operator_geometry(Half, Linf)


# Constraint sets and random weights


@every_pair
def test_project_has_norm_one(pair):
    geometry, w = operator_geometry(*pair), rand(0, 3, 4, 6, *(2, 2)[: 2 * (pair == TAPS)])
    close(geometry.norm(geometry.project(1e6 * w)), torch.ones(3), rtol=5e-3)


@pytest.mark.parametrize(
    ("pair", "unit"), [((RMS, RMS), math.sqrt(3 / 5)), ((L2, L2), 1.0)], ids=name
)
def test_project_makes_matrices_semi_orthogonal(pair, unit):
    singular_values = torch.linalg.svdvals(operator_geometry(*pair).project(rand(0, 2, 3, 5)))
    close(singular_values, unit * torch.ones(2, 3), rtol=5e-3)


def test_project_makes_every_tap_semi_orthogonal():
    taps = Taps().project(rand(0, 1, 3, 5, 2, 2))[0].flatten(2).permute(2, 0, 1)
    close(torch.linalg.svdvals(taps), math.sqrt(3 / 5) / 4 * torch.ones(4, 3), rtol=5e-3)


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("norm", [RMS, L1, L2, Linf])
def test_project_gives_every_vector_norm_one(axis, norm):
    projected = Vectors(norm, axis=axis).project(rand(0, 2, 3, 4))
    lengths = norm.norm(projected.movedim(axis, -1))
    close(lengths, torch.ones_like(lengths))


@pytest.mark.parametrize("norm", [RMS, Linf])
def test_a_ball_keeps_what_lies_inside(norm):
    inside = 0.9 * Vectors(norm, axes=1).project(rand(0, 3, 4))
    assert torch.equal(BallVectors(norm, axes=1).project(inside), inside)


@pytest.mark.parametrize("norm", [RMS, Linf])
def test_a_ball_pulls_what_lies_outside_to_its_surface(norm):
    outside = 7 * Vectors(norm, axes=1).project(rand(0, 3, 4))
    close(BallVectors(norm, axes=1).project(outside), outside / 7)


def test_equal_geometries_are_one_key():
    assert (
        len(
            {
                operator_geometry(RMS, RMS),
                operator_geometry(RMS, RMS),
                operator_geometry(L2, L2),
                Taps(),
                Taps(),
            }
        )
        == 3
    )


@pytest.mark.parametrize("geometry", [BallVectors(RMS, axes=1), BallVectors(Linf), Vectors(RMS)])
def test_vectors_are_sampled_on_the_unit_sphere(geometry):
    shape = (5,) * geometry.axes
    sample = geometry.sample(shape, torch.Generator().manual_seed(0), torch.device("cpu"))
    close(geometry.norm(sample[None]), [1.0], rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_an_axis_is_one_of_the_weight_from_either_end(axis):
    w = rand(0, 3, 4, 5)
    geometry = Vectors(RMS, axis=axis)
    assert geometry == Vectors(RMS, axis=axis % 2 - 2)
    lengths = w.square().mean(dim=1 + axis % 2).sqrt()
    close(geometry.norm(w), lengths.amax(dim=-1))
    close(geometry.dualize(w), w / lengths.unsqueeze(1 + axis % 2))


def test_an_axis_that_a_weight_does_not_have_is_refused():
    with pytest.raises(ValueError, match="axis among the weight's 2, got axis=2"):
        Vectors(RMS, axis=2)


# A duality map of a user's own


class Halved(Spectral):
    def dualize(self, gradient, method=None):
        return 0.5 * super().dualize(gradient, method)


class HalvedRows(Vectors):
    def dualize(self, gradient, method=None):
        return 0.5 * super().dualize(gradient, method)


class HalvedTaps(Taps):
    def dualize(self, gradient, method=None):
        return 0.5 * super().dualize(gradient, method)


@pytest.mark.parametrize(
    ("geometry", "shape"),
    [(Halved(RMS, RMS), (4, 3)), (HalvedRows(RMS), (4, 3)), (HalvedTaps(), (4, 3, 2, 2))],
    ids=["matrix", "rows", "kernel"],
)
def test_a_network_dualizes_by_an_overridden_duality_map(geometry, shape):
    class Own(Atom[RMS, RMS]):
        def __init__(self):
            super().__init__(shape, geometry, dtype=torch.float64)

    model, g = Own(), rand(0, *shape)
    dual = model.dualize(Gradient({"weight": g}), method="svd")["weight"]
    close(dual, geometry.dualize(g[None], "svd")[0])
    close(geometry.norm(dual[None]), [0.5])


def test_rows_with_an_overridden_duality_map_are_gathered_whole():
    assert Vectors(RMS).vector_axis == -1
    assert HalvedRows(RMS).vector_axis is None
