"""Hostile matrices for `orthogonalize`."""

from __future__ import annotations

import torch
from torch import Tensor

from modula.polar import (
    SVD,
    InverseRoot,
    Method,
    NewtonSchulz,
    PolarExpress,
    Sketch,
    orthogonalize,
)
from modula.scaling import split_scale
from tests.hostile.draws import DTYPES, at_scale, awkward, choice, failures, laid_out, normal
from tests.polar.matrices import largest

METHODS: tuple[Method, ...] = (
    PolarExpress(),
    PolarExpress(steps=6),
    PolarExpress(accuracy="high"),
    NewtonSchulz(),
    NewtonSchulz(degree=3),
    InverseRoot(),
    InverseRoot(sides="both"),
    Sketch(rank=4),
    Sketch(tolerance=1e-3),
    SVD(),
)
SIZES = (0, 1, 1, 2, 3, 5, 31, 32, 33, 40)
LIFTED = 0.2
"""How far the default may leave a singular value that is at least half of the largest from 1."""


def _drawn(rng: torch.Generator) -> Tensor:
    shape = (choice(rng, [0, 1, 2, 3]), choice(rng, SIZES), choice(rng, SIZES))
    return at_scale(rng, awkward(rng, shape), choice(rng, DTYPES))


def trial_bounded(count: int, seed: int) -> int:
    """σ_max of the factor is at most 1.1, in every method, dtype and layout, at every scale."""

    def holds(rng: torch.Generator) -> bool:
        G = laid_out(rng, _drawn(rng))
        factor = orthogonalize(G, choice(rng, METHODS))
        alike = factor.shape == G.shape and factor.dtype == G.dtype and not factor.requires_grad
        return alike and bool(factor.isfinite().all()) and largest(factor) <= 1.1

    return failures(holds, count, seed)


def trial_large_values_become_one(count: int, seed: int) -> int:
    """Singular values above half of the largest are brought to 1 ± 0.2, by every method."""

    def holds(rng: torch.Generator) -> bool:
        G = _drawn(rng)
        factor = orthogonalize(G, choice(rng, [one for one in METHODS if one != Sketch(rank=4)]))
        direction, _ = split_scale(G.double(), dim=(-2, -1)) if G.numel() else (G.double(), G)
        U, S, Vh = torch.linalg.svd(direction, full_matrices=False)
        lifted = ((U.mT @ factor.double()) * Vh).sum(dim=-1)
        return bool(((lifted - 1).abs() <= LIFTED)[0.5 * S[..., :1] < S].all())

    return failures(holds, count, seed)


def trial_null_space_stays_dark(count: int, seed: int) -> int:
    """Directions that a gradient does not touch stay below 0.02, in 16 bits 0.15."""

    def holds(rng: torch.Generator) -> bool:
        m, n, r = choice(rng, (5, 33, 40)), choice(rng, (5, 33, 64)), choice(rng, (1, 2, 4))
        G = (normal(rng, m, r) @ normal(rng, r, n)).float()
        method = choice(rng, METHODS)
        factor = orthogonalize(G, method).double()
        U, _, Vh = torch.linalg.svd(G.double())
        limit = 0.15 if method in (PolarExpress(), PolarExpress(steps=6)) else 0.02
        return largest(U[:, r:].mT @ factor) <= limit and largest(factor @ Vh[r:].mT) <= limit

    return failures(holds, count, seed)


def trial_alone_and_together(count: int, seed: int) -> int:
    """A matrix beside others, infinite or NaN ones among them, has the factor it has alone."""

    def holds(rng: torch.Generator) -> bool:
        G = _drawn(rng)
        method = choice(rng, METHODS)
        if len(G) < 2 or not G.numel():
            return True
        spoilt = G.clone()
        spoilt[0, -1, -1] = choice(rng, [torch.nan, torch.inf, -torch.inf])
        found, alone = orthogonalize(spoilt, method), orthogonalize(G[1:], method)
        near = (found[1:].double() - alone.double()).abs().amax() <= 0.06
        return bool(found[0].isnan().all()) and bool(near)

    return failures(holds, count, seed)


def trial_stacked_shapes(count: int, seed: int) -> int:
    """Leading axes of any number and length, expanded ones among them, are batch axes."""

    def holds(rng: torch.Generator) -> bool:
        m, n = choice(rng, SIZES), choice(rng, SIZES)
        leading = choice(rng, [(), (0,), (2,), (2, 0), (2, 3), (1, 1, 2)])
        X = awkward(rng, (m, n)).float().expand(*leading, m, n)
        found = orthogonalize(X, choice(rng, METHODS))
        alike = found.shape == X.shape
        return alike and bool(found.isfinite().all())

    return failures(holds, count, seed)
