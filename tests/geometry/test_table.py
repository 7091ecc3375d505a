"""The table of pairs of norms, and pairs that a user adds to it."""

from typing import final

import pytest
import torch

from modula import (
    L1,
    L2,
    RMS,
    ChannelRMS,
    CompositionError,
    Linear,
    Linf,
    NormPairError,
    OneHot,
    ReLU,
    VectorNorm,
)
from modula.geometry import Spectral, Taps, Vectors, operator_geometry, register
from modula.norms import Euclidean
from tests.helpers import close, random_gradient

KNOWN = [
    ((RMS, RMS), Spectral(RMS, RMS)),
    ((L2, L2), Spectral(L2, L2)),
    ((ChannelRMS, ChannelRMS), Taps()),
    ((L1, RMS), Vectors(RMS, axis=-2)),
    ((OneHot, L2), Vectors(L2, axis=-2)),
    ((L1, Linf), Vectors(Linf, axis=-2)),
    ((L2, Linf), Vectors(L2, axis=-1)),
    ((Linf, Linf), Vectors(L1, axis=-1)),
]


def euclidean(factor: float = 2.0) -> type:
    """A Euclidean norm that no other test has seen: the unit ball has radius `factor`·√d."""

    @final
    class Scaled(Euclidean, VectorNorm):
        @classmethod
        def radius(cls, d: int) -> float:
            return factor * d**0.5

    return Scaled


@pytest.mark.parametrize(("pair", "geometry"), KNOWN)
def test_the_table_knows_the_pair(pair, geometry):
    assert operator_geometry(*pair) == geometry


# Pairs of the user's own


def test_a_pair_is_unknown_until_it_is_registered():
    norm = euclidean()
    with pytest.raises(NormPairError, match="Scaled → Scaled"):
        operator_geometry(norm, norm)
    register(norm, norm, Spectral(norm, norm))
    assert operator_geometry(norm, norm) == Spectral(norm, norm)


def test_a_registered_pair_is_registered_in_one_direction():
    norm = euclidean()
    register(norm, RMS, Spectral(norm, RMS))
    with pytest.raises(NormPairError):
        operator_geometry(RMS, norm)


def test_a_norm_of_the_library_may_be_paired_with_one_of_the_user():
    norm = euclidean()
    register(RMS, norm, Spectral(RMS, norm))
    assert operator_geometry(RMS, RMS) == Spectral(RMS, RMS)


def registered(factor: float = 2.0) -> type:
    norm = euclidean(factor)
    register(norm, norm, Spectral(norm, norm))
    return norm


def test_a_linear_takes_a_registered_pair():
    norm = registered()
    layer = Linear(3, 4, domain=norm, codomain=norm)
    assert layer.geometry == Spectral(norm, norm)
    assert str(layer.domain) == "Scaled(4)"
    close(layer.geometry.norm(layer.weight.detach()[None]), [1.0], rtol=1e-5)


def test_a_linear_between_different_registered_norms_has_their_operator_norm():
    small, large = euclidean(1.0), euclidean(5.0)
    register(small, large, Spectral(small, large))
    layer = Linear(4, 4, domain=small, codomain=large)
    # a weight of norm 1 maps the ball of radius √d into that of radius 5√d
    close(torch.linalg.matrix_norm(layer.weight, 2), 5.0, rtol=1e-5)


def test_a_network_of_a_registered_pair_is_steepest_descent():
    norm = registered()
    model = (
        Linear(3, 4, domain=norm, codomain=norm) @ ReLU() @ Linear(4, 4, domain=norm, codomain=norm)
    ).double()
    gradient = random_gradient(model, 0)
    update = model.dualize(gradient, method="svd")
    close(model.norm(update), 1.0)
    close(gradient @ update, model.dual_norm(gradient))


def test_an_error_of_composition_names_the_norm_of_the_user():
    norm = registered()
    with pytest.raises(CompositionError, match=r"Scaled\(4\).*RMS\(4\)|RMS\(4\).*Scaled\(4\)"):
        Linear(3, 4) @ Linear(4, 4, domain=norm, codomain=norm)


def test_widths_of_the_norm_of_the_user_are_checked():
    norm = registered()
    with pytest.raises(CompositionError, match=r"Scaled\(5\) is not Scaled\(4\)|widths"):
        Linear(3, 4, domain=norm, codomain=norm) @ Linear(5, 4, domain=norm, codomain=norm)


# What is refused


@pytest.mark.parametrize("pair", [pair for pair, _ in KNOWN])
def test_a_pair_of_the_table_cannot_be_registered_again(pair):
    with pytest.raises(ValueError, match=rf"{pair[0].__name__} → {pair[1].__name__}"):
        register(*pair, Spectral(RMS, RMS))


def test_a_registered_pair_cannot_be_registered_again():
    norm = registered()
    with pytest.raises(ValueError, match=r"Scaled → Scaled.*Spectral"):
        register(norm, norm, Spectral(norm, norm))


def test_after_a_refusal_the_table_is_as_before():
    with pytest.raises(ValueError, match="RMS → RMS"):
        register(RMS, RMS, Vectors(RMS))
    assert operator_geometry(RMS, RMS) == Spectral(RMS, RMS)


@pytest.mark.parametrize("wrong", [torch.Tensor, "RMS", None, RMS(), 3])
@pytest.mark.parametrize("position", [0, 1])
def test_what_is_no_norm_type_is_refused(wrong, position):
    pair = [euclidean(), euclidean()]
    pair[position] = wrong
    with pytest.raises(TypeError, match="norm types, such as RMS"):
        register(*pair, Spectral(RMS, RMS))


@pytest.mark.parametrize("wrong", [Spectral, None, "spectral", torch.eye(2)])
def test_what_is_no_geometry_is_refused(wrong):
    norm = euclidean()
    with pytest.raises(TypeError, match="Geometry"):
        register(norm, norm, wrong)
    with pytest.raises(NormPairError):
        operator_geometry(norm, norm)
