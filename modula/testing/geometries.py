"""The laws of geometries."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from modula.geometry import Geometry
from modula.instruments.derivative import (
    Derivative,
    differentiable,
    largest,
    steepest,
    worst_in_value,
)
from modula.norms import L1, Norm, OneHot
from modula.polar import orthogonalize
from modula.spaces import Space, measure
from modula.testing.laws import (
    EXACT,
    LOOSE,
    ROUNDING,
    STEPS,
    on_cpu,
    require,
    require_at_most,
    require_equal,
    seeded,
    shown,
)
from modula.testing.unit_ball import (
    UnitBall,
    check_unit_ball,
    column,
    hard_values,
    paired,
    stays_zero,
)
from modula.values import Value


@on_cpu
def check_geometry(
    geometry: Geometry,
    shape: Sequence[int],
    domain: type[Norm] | None = None,
    codomain: type[Norm] | None = None,
    *,
    exact: bool = True,
    generator: torch.Generator | None = None,
) -> float | None:
    """Check that a geometry is a norm on weights, with the duality map of its unit ball.

    Args:
        geometry: the geometry.
        shape: of one weight.
        domain, codomain: the norms of input and output of the map x ↦ W·x, if the geometry is meant
            to be its operator norm; for weights [d_out, d_in].
        exact: whether the duality map is the maximiser. False for a geometry that returns some
            point of the unit ball, as `Intersection` does, whose dual norm is a lower bound, and
            whose projection need not be idempotent.
        generator: where random numbers come from; None starts one of its own.

    Returns:
        The largest ‖W·x‖/(‖W‖·‖x‖) that was found, near 1 if the norm is the operator norm; None
        without domain and codomain.

    Raises:
        AssertionError: names the law that fails, with the numbers and the tolerance.
        ValueError: the shape has not as many axes as the geometry, or one of domain and codomain is
            missing, or they are given for weights that are not matrices.

    Example:
        >>> from modula import RMS
        >>> from modula.geometry import Spectral
        >>> from modula.testing import check_geometry
        >>> round(check_geometry(Spectral(RMS, RMS), (4, 6), RMS, RMS), 3)
        1.0
    """
    rng, shape = seeded(generator), tuple(shape)
    _refuse_arguments(geometry, shape, domain, codomain)
    unit_ball = UnitBall(
        repr(geometry),
        geometry.norm,
        geometry.dual_norm,
        lambda g: geometry.dualize(g, "svd"),
        exact,
    )
    w = hard_values(shape, rng)
    check_unit_ball(unit_ball, w, rng)
    _zero_slices_stay_zero(unit_ball, w)
    _default_method_is_near(geometry, w)
    _projects_into_the_unit_ball(geometry, w, exact)
    _samples_have_norm_one(geometry, shape, rng)
    _parts_make_up_the_dual(geometry, w)
    _shards_make_up_the_whole(geometry, w)
    _is_a_key(geometry)
    if domain is None or codomain is None:
        return None
    return _bounds_its_map(geometry, w, domain, codomain, rng)


def _refuse_arguments(
    geometry: Geometry,
    shape: tuple[int, ...],
    domain: type[Norm] | None,
    codomain: type[Norm] | None,
) -> None:
    if len(shape) != geometry.axes:
        raise ValueError(
            f"{geometry!r} measures weights of {geometry.axes} axes; check_geometry got the shape "
            f"{shape}"
        )
    if (domain is None) != (codomain is None):
        raise ValueError("check_geometry takes both a domain and a codomain, or neither")
    if domain is not None and len(shape) != 2:
        raise ValueError(
            f"check_geometry takes a domain and a codomain for matrices; {geometry!r} measures "
            f"weights of {len(shape)} axes: check the atom that uses it, with check_atom"
        )


def _zero_slices_stay_zero(ball: UnitBall, w: Tensor) -> None:
    for axis in range(1, w.dim()):
        silent = w.clone()
        silent.select(axis, 0).zero_()
        stays_zero(ball, silent, f"in slices along axis {axis - 1} in which")


def _default_method_is_near(geometry: Geometry, w: Tensor) -> None:
    g = w.float()
    t = geometry.dualize(g)
    ones = torch.ones(len(g))
    law = "norm(dualize(g)) is near 1 with the default method"
    require_at_most(geometry, law, geometry.norm(t), ones, LOOSE)
    law = "<g, dualize(g)> is near dual_norm(g) with the default method"
    require_at_most(geometry, law, geometry.dual_norm(g) * (1 - LOOSE), paired(g, t), EXACT)
    zeros = geometry.dualize(torch.zeros_like(g))
    require(not bool(zeros.any()), geometry, "dualize(0) = 0 with the default method", str(zeros))


def _projects_into_the_unit_ball(geometry: Geometry, w: Tensor, exact: bool) -> None:
    once = geometry.project(1e3 * w)
    tolerance = 5e-3  # of an iteration in accuracy "high"
    law = "norm(project(w)) ≤ 1"
    require_at_most(geometry, law, geometry.norm(once), torch.ones(len(w)), tolerance)
    law = "project keeps what it returned"
    if exact:
        require_equal(geometry, law, geometry.project(once), once, tolerance)
    alone = torch.cat([geometry.project(1e3 * item[None]) for item in w])
    require_equal(geometry, "project of a batch is that of its items", once, alone, tolerance)
    zero = geometry.project(torch.zeros_like(w))
    require(not bool(zero.any()), geometry, "project(0) = 0", f"got {shown(zero)}")


def _samples_have_norm_one(
    geometry: Geometry, shape: tuple[int, ...], rng: torch.Generator
) -> None:
    seed = int(torch.randint(2**31, (), generator=rng))
    cpu = torch.device("cpu")
    first, second = (
        geometry.sample(shape, torch.Generator().manual_seed(seed), cpu) for _ in range(2)
    )
    law = f"sample is a float32 weight of shape {list(shape)}"
    got = f"got {first.dtype} of shape {list(first.shape)}"
    require(first.dtype == torch.float32 and first.shape == shape, geometry, law, got)
    law = "norm(sample) = 1"
    rounding = ROUNDING[torch.float32]
    require_equal(geometry, law, geometry.norm(first[None]), torch.ones(1), rounding)
    law = "sample is the same for the same random numbers"
    require_equal(geometry, law, first[None], second[None], 0.0)


def _parts_make_up_the_dual(geometry: Geometry, w: Tensor) -> None:
    parts = geometry.orthogonal_parts(w)
    if parts is None:
        return
    factors = [
        radius * orthogonalize(matrices, "svd")
        for matrices, radius in zip(parts.matrices, parts.radii, strict=True)
    ]
    found = geometry.from_orthogonal_parts(factors, tuple(w.shape[1:]))
    law = "orthogonal_parts and from_orthogonal_parts make up dualize"
    require_equal(geometry, law, found, geometry.dualize(w, "svd"), EXACT)


def _shards_make_up_the_whole(geometry: Geometry, w: Tensor) -> None:
    """Check what `vector_axis` promises of weights that are sharded along another axis."""
    if geometry.vector_axis is None:
        return
    for axis in range(1, w.dim()):
        if axis - 1 == geometry.vector_axis % geometry.axes or w.shape[axis] < 2:
            continue
        shards = torch.tensor_split(w, 2, dim=axis)
        by = f"of the shards along axis {axis - 1}, as vector_axis={geometry.vector_axis} promises"
        duals = torch.cat([geometry.dualize(shard, "svd") for shard in shards], dim=axis)
        require_equal(geometry, f"dualize is that {by}", duals, geometry.dualize(w, "svd"), EXACT)
        norms = torch.stack([geometry.norm(shard) for shard in shards]).amax(dim=0)
        require_equal(geometry, f"norm is the largest {by}", norms, geometry.norm(w), EXACT)
        sums = torch.stack([geometry.dual_norm(shard) for shard in shards]).sum(dim=0)
        require_equal(geometry, f"dual_norm is the sum {by}", sums, geometry.dual_norm(w), EXACT)


def _is_a_key(geometry: Geometry) -> None:
    twin = copy.deepcopy(geometry)
    holds = twin == geometry and hash(twin) == hash(geometry)
    law = "an equal geometry is the same key of a dict, as weights share batches by it"
    require(holds, geometry, law, f"its copy {twin!r} is another key")


def _bounds_its_map(
    geometry: Geometry,
    w: Tensor,
    domain: type[Norm],
    codomain: type[Norm],
    rng: torch.Generator,
) -> float:
    """Attack ‖W·x‖ ≤ ‖W‖·‖x‖. One-hot vectors are those of ℓ1 norm 1 that stretch the most."""
    source, target = Space(L1 if domain is OneHot else domain), Space(codomain)
    weights = torch.cat([w, geometry.dualize(w, "svd")])
    weights = weights / column(geometry.norm(weights), weights)
    with differentiable():
        worst = largest([_stretch(weight, source, target, rng) for weight in weights])
    law = f"‖W·x‖ ≤ norm(W)·‖x‖ from {domain.__name__} to {codomain.__name__}"
    require_at_most(geometry, law, torch.tensor([worst]), torch.ones(1), EXACT)
    return worst


def _stretch(weight: Tensor, source: Space, target: Space, rng: torch.Generator) -> float:
    x = torch.randn(1, weight.shape[1], generator=rng, dtype=weight.dtype)
    derivative: Derivative[Value, Value] = Derivative(
        push=lambda v: cast("Tensor", v) @ weight.mT,
        pull=lambda u: cast("Tensor", u) @ weight,
        norm=lambda v: measure(source, v),
        steepest=lambda g: steepest(source, g),
        codomain=target,
    )
    return worst_in_value(derivative, source, x, x @ weight.mT, STEPS, rng)
