"""Hostile vectors and weights for the norms and geometries, against plain float64 sums.

Values are compared on entries of at most 1; norms and duality maps are homogeneous.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from modula.geometry import (
    Flattened,
    Geometry,
    Intersection,
    Spectral,
    Stacked,
    Taps,
    Transposed,
    Vectors,
)
from modula.norms import L1, L2, RMS, ChannelRMS, Dense, DualRMS, HeadRMS, Linf
from modula.scaling import split_scale, working_dtype
from tests.hostile.draws import DTYPES, at_scale, awkward, choice, failures, laid_out

RMS_TO_RMS = Spectral(RMS, RMS)
GEOMETRIES: tuple[Geometry, ...] = (
    RMS_TO_RMS,
    Spectral(L2, L2),
    *[Vectors(norm, axis=axis) for norm in (RMS, L1, L2, Linf, DualRMS) for axis in (-1, -2)],
    Vectors(Linf, axes=1),
    Taps(pixel_axes=1),
    Stacked(RMS_TO_RMS, None),
    Transposed(RMS_TO_RMS),
    Flattened(RMS_TO_RMS, 1, 2),
    Intersection(RMS_TO_RMS, Vectors(RMS)),
)
NORMS: dict[type[Dense], tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    RMS: (lambda x: rms(x), lambda x: rms(x) * x.shape[-1]),
    HeadRMS: (lambda x: rms(x), lambda x: rms(x) * x.shape[-1]),
    ChannelRMS: (lambda x: rms(x), lambda x: rms(x) * x.shape[-1]),
    DualRMS: (lambda x: rms(x) * x.shape[-1], lambda x: rms(x)),
    L2: (lambda x: x.square().sum(-1).sqrt(), lambda x: x.square().sum(-1).sqrt()),
    L1: (lambda x: x.abs().sum(-1), lambda x: x.abs().amax(-1)),
    Linf: (lambda x: x.abs().amax(-1), lambda x: x.abs().sum(-1)),
}
"""The norm and the dual norm of the vectors on the last axis, by their definitions."""


def rms(x: Tensor) -> Tensor:
    return x.square().mean(-1).sqrt()


def _agree(found: Tensor, scale: Tensor, exact: Tensor, dtype: torch.dtype) -> bool:
    """Whether found = scale·exact, up to rounding of `dtype`; infinite only beyond its range."""
    info = torch.finfo(found.dtype)
    rounding = max(16 * torch.finfo(dtype).eps, 1e-12 if dtype == torch.float64 else 1e-4)
    smallest = 16 * info.tiny * info.eps / scale
    near = (found.double() / scale - exact).abs() <= rounding * exact + smallest
    beyond = (exact * (1 + rounding) > info.max / scale) & (found == math.inf)
    return bool((near | beyond).all())


def trial_vectors(count: int, seed: int) -> int:
    """Norm, dual norm and duality map of vectors, at every scale of every dtype."""

    def holds(rng: torch.Generator) -> bool:
        norm, dtype = choice(rng, list(NORMS)), choice(rng, DTYPES)
        shape = choice(rng, [1, 2, 3]), choice(rng, [1, 2, 3, 33, 300])
        x = laid_out(rng, at_scale(rng, awkward(rng, shape), dtype))
        unit, scale = split_scale(x.detach().double(), dim=-1)
        size, dual_size = (f(unit) for f in NORMS[norm])
        scale, rounding = scale[..., 0], 16 * torch.finfo(dtype).eps
        dual = norm.dualize(x).detach().double()
        paired, largest = (unit * dual).sum(-1), NORMS[norm][0](dual)
        return (
            _agree(norm.norm(x).detach(), scale, size, dtype)
            and _agree(norm.dual_norm(x).detach(), scale, dual_size, dtype)
            and bool(((largest - (size > 0).double()).abs() <= rounding).all())
            and bool(((paired - dual_size).abs() <= rounding * dual_size).all())
        )

    return failures(holds, count, seed)


def trial_weights(count: int, seed: int) -> int:
    """Norm and dual norm of weights under every geometry agree with those of a moderate scale."""

    def holds(rng: torch.Generator) -> bool:
        geometry, x = _weight(rng)
        unit, scale = _unit(geometry, x)
        same_norm = _agree(geometry.norm(x).detach(), scale, geometry.norm(unit), x.dtype)
        return same_norm and (
            isinstance(geometry, Intersection)  # a lower bound, discontinuous where two points tie
            or _agree(geometry.dual_norm(x).detach(), scale, geometry.dual_norm(unit), x.dtype)
        )

    return failures(holds, count, seed)


def trial_duals_of_weights(count: int, seed: int) -> int:
    """The dual of a weight has norm 1 (0 for zeros) and attains the dual norm, with "svd"."""

    def holds(rng: torch.Generator) -> bool:
        geometry, x = _weight(rng)
        unit, _ = _unit(geometry, x)
        dual = geometry.dualize(x, "svd").double()
        rounding = max(64 * torch.finfo(x.dtype).eps, 1e-4)
        at_most, attained = geometry.norm(dual), (unit * dual).flatten(1).sum(dim=1)
        best = geometry.dual_norm(unit)
        return bool(((at_most - (best > 0).double()).abs() <= rounding).all()) and (
            isinstance(geometry, Intersection)
            or bool(((attained - best).abs() <= 3 * rounding * best).all())
        )

    return failures(holds, count, seed)


def trial_projections(count: int, seed: int) -> int:
    """Projected weights have norm at most 1.005, and so have updates by the default at 1.1."""

    def holds(rng: torch.Generator) -> bool:
        geometry, x = _weight(rng)
        rounding = max(64 * torch.finfo(x.dtype).eps, 5e-3)
        projected, dual = geometry.project(x).double(), geometry.dualize(x).double()
        return bool((geometry.norm(projected) <= 1 + rounding).all()) and bool(
            (geometry.norm(dual) <= 1.1).all()
        )

    return failures(holds, count, seed)


def trial_not_finite(count: int, seed: int) -> int:
    """A NaN or an infinity in one weight shows in its norms and its dual, and in no other's."""

    def holds(rng: torch.Generator) -> bool:
        geometry, x = _weight(rng, ("as it is",))
        broken = x.detach().clone()
        value = choice(rng, [math.nan, math.inf, -math.inf])
        position = int(torch.randint(broken[0].numel(), (), generator=rng))
        broken[0].view(-1)[position] = value
        return all(
            not bool(found[0].isfinite().all()) and _same(found[1:], f(x)[1:], x.dtype)
            for f in (geometry.norm, geometry.dual_norm, lambda g: geometry.dualize(g, "svd"))
            if (found := f(broken)) is not None
        )

    return failures(holds, count, seed)


def _same(a: Tensor, b: Tensor, dtype: torch.dtype) -> bool:
    rounding = max(64 * torch.finfo(dtype).eps, 1e-4)
    return torch.allclose(a.double(), b.double(), rtol=rounding, atol=rounding, equal_nan=True)


def _weight(
    rng: torch.Generator, layouts: tuple[str, ...] | None = None
) -> tuple[Geometry, Tensor]:
    """A geometry with a batch of weights of its layout."""
    geometry = choice(rng, GEOMETRIES)
    shape = [choice(rng, (1, 2, 3, 7, 33)) for _ in range(geometry.axes)]
    x = awkward(rng, (choice(rng, (1, 2, 3)), *shape) if len(shape) > 1 else (2, *shape))
    x = at_scale(rng, x, choice(rng, DTYPES))
    return geometry, x if layouts else laid_out(rng, x)


def _unit(geometry: Geometry, x: Tensor) -> tuple[Tensor, Tensor]:
    """The weights in float64 with entries of at most 1, and their scales, [batch]."""
    axes = tuple(range(-geometry.axes, 0))
    unit, scale = split_scale(x.detach().to(working_dtype(x.dtype)).double(), dim=axes)
    return unit, scale.flatten()
