"""Hypothesis strategies: seeds, shapes, spaces, and random module trees."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from modula import (
    GELU,
    L1,
    L2,
    RMS,
    Abs,
    Add,
    Atom,
    AvgPool,
    Bias,
    Composition,
    Conv2D,
    Embed,
    FunctionBond,
    Gain,
    HeadRMS,
    Identity,
    Linear,
    Linf,
    MeanSubtract,
    Module,
    Mul,
    OneHot,
    ReLU,
    RMSNorm,
    ScaledReLU,
    SiLU,
    Softmax,
    Tanh,
)
from modula.algebra.core import X, Y
from modula.spaces import ANY_DENSE, ANYTHING, AnySpace, Product, Space
from tests.helpers import rand

seeds = st.integers(0, 2**32)
widths = st.integers(1, 5)
masses = st.sampled_from([0.0, 0.25, 1.0, 1.0, 3.0])
sensitivities = st.sampled_from([0.3, 0.5, 1.0, 1.7, 2.0])
scalars = st.sampled_from([-2.0, -0.5, 0.1, 1.0, 3.0])


@st.composite
def matrices(draw: st.DrawFn, batch: int = 2, width: int = 6) -> Tensor:
    """Float64 matrices [batch, m, n] of one random rank, at a random scale; never all zero."""
    m, n, seed = draw(st.integers(1, width)), draw(st.integers(1, width)), draw(seeds)
    rank = draw(st.integers(1, min(m, n)))
    scale = draw(st.sampled_from([1e-30, 1e-3, 1.0, 1e30]))
    return scale * rand(seed, batch, m, rank) @ rand(seed + 1, batch, rank, n)


# Spaces


def spaces() -> st.SearchStrategy[AnySpace]:
    """Known, half-known and unknown spaces, and products of them."""
    known = st.builds(
        Space, st.sampled_from([RMS, L1, OneHot, HeadRMS]), st.sampled_from([None, 2, 3])
    )
    single = st.one_of(known, st.sampled_from([ANYTHING, ANY_DENSE]))
    return st.recursive(
        single,
        lambda parts: st.lists(parts, min_size=1, max_size=2).map(lambda p: Product(tuple(p))),
        max_leaves=3,
    )


# Modules. Every strategy draws a module from RMS(width) to RMS(width), or between the spaces that
# its name says.


class Named(Composition[X, Y]):
    """A composition that stands as one node wherever it is composed."""


def _logistic(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


PROVED_BONDS = [ReLU, ScaledReLU, GELU, SiLU, Tanh, Abs, Identity, MeanSubtract, Mul]


@st.composite
def _bonds(draw: st.DrawFn, proved: bool = False) -> Module:
    kind = draw(st.sampled_from(PROVED_BONDS + ([] if proved else [FunctionBond, RMSNorm])))
    if kind is Mul:
        return Mul(draw(scalars))
    if kind is FunctionBond:
        return FunctionBond(_logistic, domain=RMS, codomain=RMS, sensitivity=draw(sensitivities))
    return kind()


@st.composite
def _through_other_norms(draw: st.DrawFn, width: int, proved: bool = False) -> Module:
    """RMS → … → Linf → L1 → … → RMS by Linears of every pair of norms."""
    h = draw(widths)
    to_linf = draw(
        st.sampled_from(
            [
                lambda: Linear(h, width, codomain=Linf),
                lambda: Linear(h, 3, domain=Linf, codomain=Linf) @ Linear(3, width, codomain=Linf),
            ]
        )
    )
    linear = [
        lambda: Linear(width, h, domain=L1),
        lambda: Linear(width, 3, domain=L1) @ Linear(3, h, domain=L1, codomain=L1),
        lambda: (
            Linear(width, 3, domain=L1)
            @ Softmax()
            @ Linear(3, 2, domain=L2, codomain=Linf)
            @ Linear(2, h, domain=L1, codomain=L2)
        ),
    ]
    through_functions = [
        lambda: (
            FunctionBond(_logistic, domain=L2, codomain=RMS, sensitivity=0.5)
            @ Linear(width, 3, domain=L2, codomain=L2)
            @ Linear(3, h, domain=L1, codomain=L2)
        ),
        lambda: (
            Linear(width, 3, domain=L1)
            @ FunctionBond(_logistic, domain=Linf, codomain=L1, sensitivity=2.0)
            @ Linear(3, h, domain=L1, codomain=Linf)
        ),
    ]
    to_rms = draw(st.sampled_from(linear + ([] if proved else through_functions)))
    return to_rms() @ Softmax(draw(sensitivities)) @ to_linf()


@st.composite
def _leaves(draw: st.DrawFn, width: int, proved: bool = False) -> Module:
    kind = draw(st.sampled_from(["linear", "linear", "gain", "bias", "bond", "hidden", "norms"]))
    if kind == "linear":
        return Linear(width, width)
    if kind == "gain":
        return Gain(width)
    if kind == "bias":
        return Bias(width)
    if kind == "hidden":
        h = draw(widths)
        return Linear(width, h) @ Bias(h) @ draw(_bonds(proved)) @ Linear(h, width)
    return draw(_bonds(proved) if kind == "bond" else _through_other_norms(width, proved))


@st.composite
def _joined(draw: st.DrawFn, parts: st.SearchStrategy[Module]) -> Module:
    kind = draw(
        st.sampled_from(
            [
                "compose",
                "compose",
                "add",
                "concatenate",
                "power",
                "scale",
                "divide",
                "named",
                "residual",
            ]
        )
    )
    f = draw(parts)
    if kind == "compose":
        return f @ draw(parts)
    if kind == "add":
        return f + draw(parts)
    if kind == "concatenate":
        return Add() @ (f, draw(parts), draw(parts))
    if kind == "power":
        return f ** draw(st.integers(1, 3))
    if kind == "scale":
        return draw(scalars) * f
    if kind == "divide":
        return f / draw(scalars)
    return Named(f @ Identity()) if kind == "named" else 0.5 * Identity() + 0.5 * f


@st.composite
def _edited(draw: st.DrawFn, model: Module) -> Module:
    """The model with some masses and sensitivities changed after it was composed."""
    for bond in [part for part in model.modules() if isinstance(part, (FunctionBond, ReLU))]:
        bond.sensitivity = draw(sensitivities)
    return draw(_weighed(model))


@st.composite
def _weighed(draw: st.DrawFn, model: Module) -> Module:
    """The model with some masses changed; half the time tared as well."""
    for atom in [part for part in model.modules() if isinstance(part, Atom)]:
        atom.mass = draw(masses)
    if model.mass and draw(st.booleans()):
        model.tare(draw(st.sampled_from([0.5, 1.0, 7.0])))
    return model


@st.composite
def feature_trees(draw: st.DrawFn, width: int | None = None) -> Module:
    """A random tree from RMS(width) to RMS(width), in float64."""
    d = draw(widths) if width is None else width
    tree = draw(st.recursive(_leaves(d), _joined, max_leaves=5))
    return draw(_edited(tree)).double()


@st.composite
def proved_trees(draw: st.DrawFn) -> Module:
    """A random tree from RMS to RMS with mass, in float64, each of whose constants is proved."""
    tree = draw(st.recursive(_leaves(draw(widths), proved=True), _joined, max_leaves=4))
    return draw(_weighed(tree).filter(lambda model: model.mass > 0)).double()


@st.composite
def image_trees(draw: st.DrawFn) -> Module:
    """A random tree from ChannelRMS to RMS: convolutions in chains, sums and powers, AvgPool and a
    Linear head.
    """
    c = draw(st.integers(1, 3))
    leaf = st.builds(Conv2D, st.just(c), st.just(c), st.sampled_from([1, 3])) | st.sampled_from(
        [ReLU, Tanh, Identity]
    ).flatmap(st.builds)
    blocks = draw(st.recursive(leaf, _joined, max_leaves=4))
    head = Linear(draw(widths), c) @ AvgPool()
    return draw(
        _edited(head @ blocks @ Conv2D(c, draw(st.integers(1, 3)), draw(st.integers(1, 3))))
    ).double()


@st.composite
def token_trees(draw: st.DrawFn) -> Module:
    """A random tree from OneHot to RMS, with an Embed, or a sum of two, at its entrance."""
    d = draw(widths)
    entrance = draw(
        st.sampled_from([lambda: Embed(d, 4), lambda: Embed(d, 4) + Linear(d, 3) @ Embed(3, 4)])
    )
    return draw(_edited(draw(feature_trees(d)) @ entrance())).double()


def trees() -> st.SearchStrategy[Module]:
    """Random trees with at least one atom."""
    return st.one_of(feature_trees(), feature_trees(), image_trees(), token_trees()).filter(
        lambda model: len(model.weights) > 0
    )


def trained_trees() -> st.SearchStrategy[Module]:
    """Random trees in which something has mass."""
    return trees().filter(lambda model: model.mass > 0)
