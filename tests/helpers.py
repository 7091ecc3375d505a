"""Helpers of many tests: random vectors of a model, and the largest gain of a map of two spaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from modula import L1, L2, RMS, ChannelRMS, Gradient, HeadRMS, Linf, Module, Update
from modula.polar import MethodLike, batching
from modula.polar.preparation import Matrices
from modula.spaces import AnySpace, Product, Signature, Space, measure

PAIRS = [
    (RMS, RMS),
    (L2, L2),
    *[(L1, codomain) for codomain in (RMS, L1, L2, Linf)],
    *[(domain, Linf) for domain in (RMS, L2, Linf)],
]
"""The norm types of domain and codomain of every kind of `Linear` in the library."""


def close(actual: object, expected: object, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    """Compare numbers, arrays or tensors, as float64."""
    torch.testing.assert_close(
        _double(actual), _double(expected), rtol=rtol, atol=atol, equal_nan=True
    )


def _double(value: object) -> Tensor:
    return torch.as_tensor(
        np.array(value) if not isinstance(value, Tensor) else value.detach()
    ).double()


def rand(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return normal entries, from a generator with this seed."""
    return torch.randn(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


def random_gradient(model: Module, seed: int) -> Gradient:
    """Return a gradient of normal entries, in the dtypes of the model."""
    return Gradient(
        {
            n: rand(seed + i, *w.shape, dtype=w.dtype)
            for i, (n, w) in enumerate(model.weights.items())
        }
    )


def random_update(model: Module, seed: int) -> Update:
    """Return an update of normal entries, in the dtypes of the model."""
    return Update(dict(random_gradient(model, seed).items()))


def snapshot(model: Module) -> tuple:
    """Return all that a failed operation must not change: the tree, its numbers, its weights."""
    return (
        str(model),
        model.mass,
        model.sensitivity,
        list(map(id, model.modules())),
        [w.detach().clone() for w in model.weights.tensors],
    )


def assert_unchanged(model: Module, before: tuple) -> None:
    *tree, weights = snapshot(model)
    *tree_before, weights_before = before
    assert tree == tree_before
    for now, then in zip(weights, weights_before, strict=True):
        torch.testing.assert_close(now, then, rtol=0, atol=0, equal_nan=True)


# The largest gain of a map: ‖∂f·Δx‖ / ‖Δx‖ over all Δx, ascended by the power method for two norms
# (Boyd 1974).


def flat(value: Tensor | tuple) -> Tensor:
    """Return all entries of a tensor, or of a tuple of tensors, in one vector."""
    return (
        value.reshape(-1)
        if isinstance(value, Tensor)
        else torch.cat([flat(part) for part in value])
    )


def unflat(vector: Tensor, like: Tensor | tuple) -> Tensor | tuple:
    """Return the tensors of a vector that `flat` made, shaped like `like`."""
    if isinstance(like, Tensor):
        return vector.reshape(like.shape)
    sizes = [flat(part).numel() for part in like]
    return tuple(unflat(piece, part) for piece, part in zip(vector.split(sizes), like, strict=True))


def jacobian(f: Callable, x: Tensor | tuple) -> Tensor:
    """Return the derivative of f at x, as a matrix [outputs, inputs]."""
    return torch.autograd.functional.jacobian(lambda v: flat(f(unflat(v, x))), flat(x).detach())


def steepest(space: AnySpace, g: Tensor | tuple) -> Tensor | tuple:
    """Return the value of norm 1 in `space` that pairs best with g.

    Every vector of it is the dual of g's; for a product, the best part takes all of the norm.
    """
    if isinstance(space, Product):
        parts = [steepest(part, piece) for part, piece in zip(space.parts, g, strict=True)]
        gains = [
            float((flat(part) * flat(piece)).sum()) for part, piece in zip(parts, g, strict=True)
        ]
        return tuple(
            part if i == gains.index(max(gains)) else unflat(torch.zeros_like(flat(part)), part)
            for i, part in enumerate(parts)
        )
    axis = 1 if space.norm is ChannelRMS else -1
    return _steepest_vectors(space, g.movedim(axis, -1)).movedim(-1, axis)


def _steepest_vectors(space: Space, g: Tensor) -> Tensor:
    if space.norm is Linf:
        return g.sign()
    if space.norm is L1:
        best = g.abs().argmax(dim=-1, keepdim=True)
        return torch.zeros_like(g).scatter(-1, best, g.gather(-1, best).sign())
    radius = 1.0 if space.norm is L2 else g.shape[-1] ** 0.5
    assert space.norm in (L2, RMS, HeadRMS, ChannelRMS)
    return radius * g / g.norm(dim=-1, keepdim=True).clamp_min(1e-300)


def largest_gain(
    module: Module,
    x: Tensor | tuple,
    signature: Signature | None = None,
    starts: int = 6,
    rounds: int = 12,
) -> float:
    """Return the largest ‖∂f(x)·Δx‖ / ‖Δx‖ that ascent from several random Δx finds.

    The norms are those of `signature`, by default those of the module's own spaces.
    """
    domain, codomain = signature or (module.domain, module.codomain)
    y, J = module(x), jacobian(module, x)
    best = 0.0
    for start in range(starts):
        direction = steepest(domain, unflat(rand(start, flat(x).numel()), x))
        for _ in range(rounds):
            change = (J @ flat(direction)).requires_grad_()
            size = measure(codomain, unflat(change, y))
            best = max(best, float(size.detach() / measure(domain, direction)))
            (slope,) = torch.autograd.grad(size, change)
            direction = steepest(domain, unflat(J.T @ slope, x))
    return best


def largest_weight_gain(
    model: Module, x: Tensor | tuple, starts: int = 4, rounds: int = 10
) -> float:
    """Return the largest ‖∂f·Δw‖ / ‖Δw‖ that ascent finds at the input x.

    Each Δw is the dual of the slope at the one before.
    """
    weights = dict(model.weights)
    like = tuple(w.detach() for w in weights.values())
    y = model(x)
    J = jacobian(
        lambda w: torch.func.functional_call(model, dict(zip(weights, w, strict=True)), (x,)), like
    )
    best = 0.0
    for start in range(starts):
        slope = rand(start, J.shape[0])
        for _ in range(rounds):
            gradient = Gradient(dict(zip(weights, unflat(J.T @ slope, like), strict=True)))
            update = model.dualize(gradient, method="svd")
            change = (J @ flat(update.tensors)).requires_grad_()
            size = measure(model.codomain, unflat(change, y))
            best = max(best, float(size.detach() / model.norm(update)))
            (slope,) = torch.autograd.grad(size, change)
    return best


def step_gain(
    module: Module, x: Tensor | tuple, step: Tensor | tuple, signature: Signature | None = None
) -> float:
    """Return ‖f(x + Δx) − f(x)‖ / ‖Δx‖ for one finite step."""
    domain, codomain = signature or (module.domain, module.codomain)
    y = module(x)
    change = flat(module(unflat(flat(x) + flat(step), x))) - flat(y)
    return float(measure(codomain, unflat(change.detach(), y)) / measure(domain, step))


def full(space: AnySpace, value: Tensor | tuple) -> Tensor | tuple:
    """Return a value in which every vector has norm 1; for a product, the vectors of all parts."""
    if isinstance(space, Product):
        return tuple(full(part, piece) for part, piece in zip(space.parts, value, strict=True))
    return steepest(space, value)


def record_batches(patch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Make `orthogonalize_all` record the shape of every batch that it passes to a method."""
    seen: list[torch.Size] = []
    resolve = batching.resolve

    class Recording:
        def __init__(self, method: MethodLike | None) -> None:
            self.method = resolve(method)
            self.takes_padding = self.method.takes_padding

        def on_batch(self, matrices: Matrices) -> Sequence[Tensor]:
            seen.append(matrices.shape)
            return self.method.on_batch(matrices)

    patch.setattr(batching, "resolve", Recording)
    return seen
