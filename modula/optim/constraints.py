"""Constraints: where the weights are after each step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modula.checks import is_number
from modula.optim.rules import Step
from modula.sharding import all_to_local, all_to_local_like
from modula.vector import Weights


class Constraint(ABC):
    """A set that the weights are brought back to after each step.

    A step that is not taken (`nonfinite="skip"`) must change nothing: `step.choose` tells.
    """

    @abstractmethod
    def __call__(self, weights: Weights, step: Step) -> None:
        """Bring the weights that a step has moved back, in place.

        Args:
            weights: after the step, in float32 at least.
            step: with the norms of the weights, in `step.plan`.
        """


@dataclass(frozen=True)
class Ball(Constraint):
    """Rescale each weight that is larger than `radius` in its own norm to that norm.

    Unlike weight decay it does nothing inside of the ball. All singular values of a matrix shrink
    by one factor. Computes the norm of each weight in each step, by an eigendecomposition of its
    smaller Gram matrix. Works on sharded weights.

    Args:
        radius: of the ball, above 0. Networks of modula are drawn at norm 1.

    Raises:
        TypeError: the radius is not a number.
        ValueError: it is not finite and above 0.

    Example:
        >>> import torch
        >>> from modula import Linear, SteepestDescent
        >>> from modula.optim import Ball
        >>> model = Linear(2, 2)
        >>> optimizer = SteepestDescent(model, lr=0.1, constraint=Ball(1.0))
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()

    Source: Newhouse et al. 2025 (arXiv:2507.13338), section 3, "spectral normalization".
    """

    radius: float

    def __post_init__(self) -> None:
        _check_radius("Ball", self.radius)

    def __call__(self, weights: Weights, step: Step) -> None:
        norms = step.plan.norms(weights.tensors)
        roots = torch.where(norms > self.radius, _roots(self.radius, norms), 1)
        _rescale(weights.tensors, roots, step)


@dataclass(frozen=True)
class Sphere(Constraint):
    """Rescale each weight to norm `radius` in its own norm; zero stays zero.

    The direction of a weight is trained and its size is not, so that a step of norm lr turns it by
    about the same angle at any time of training. Computes the norm of each weight in each step, by
    an eigendecomposition of its smaller Gram matrix. Works on sharded weights.

    Args:
        radius: of the sphere, above 0. Networks of modula are drawn at norm 1.

    Raises:
        TypeError: the radius is not a number.
        ValueError: it is not finite and above 0.

    Example:
        >>> import torch
        >>> from modula import Linear, SteepestDescent
        >>> from modula.optim import Sphere
        >>> model = Linear(2, 2)
        >>> optimizer = SteepestDescent(model, lr=0.1, constraint=Sphere(1.0))
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()

    Source: Wen et al. 2025, *Hyperball optimization*, there with the Frobenius norm at the start.
    """

    radius: float

    def __post_init__(self) -> None:
        _check_radius("Sphere", self.radius)

    def __call__(self, weights: Weights, step: Step) -> None:
        norms = step.plan.norms(weights.tensors)
        roots = torch.where(norms == 0, 1, _roots(self.radius, norms))
        _rescale(weights.tensors, roots, step)


@dataclass(frozen=True)
class Projected(Constraint):
    """Project each weight onto its natural constraint set, as `model.project()` does.

    Matrices become orthogonal up to a factor, and vectors of norm 1: the constraint of modular
    duality on a manifold. Works on sharded weights.

    Example:
        >>> import torch
        >>> from modula import Linear, SteepestDescent
        >>> from modula.optim import Projected
        >>> model = Linear(2, 2)
        >>> optimizer = SteepestDescent(model, lr=0.1, constraint=Projected())
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()

    Source: Large et al. 2024 (arXiv:2405.14813), section 3, for the sets.
    """

    def __call__(self, weights: Weights, step: Step) -> None:
        projected = step.plan.project(weights.tensors)
        taken = step.choose(1.0, 0.0)
        own = all_to_local(weights.tensors)
        for w, other in zip(own, all_to_local_like(projected, weights.tensors), strict=True):
            w += taken * (other.to(w.dtype) - w)


def check_constraint(constraint: object) -> Constraint | None:
    """Return the constraint that is given.

    Args:
        constraint: as `SteepestDescent` takes it.

    Raises:
        TypeError: it is neither a constraint nor None.
    """
    if constraint is None or isinstance(constraint, Constraint):
        return constraint
    raise TypeError(
        f"constraint is one of modula.optim's, such as Sphere(1.0), got {type(constraint).__name__}"
    )


def _check_radius(owner: str, radius: object) -> None:
    if not is_number(radius):
        raise TypeError(f"{owner} takes a number for its radius, got {type(radius).__name__}")
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"{owner} takes a finite radius above 0, got {radius}")


def _roots(radius: float, norms: Tensor) -> Tensor:
    """√(radius/norm) of each norm; the ratio to a subnormal norm can be beyond float32."""
    return math.sqrt(radius) / norms.sqrt()


def _rescale(tensors: Sequence[Tensor], roots: Tensor, step: Step) -> None:
    """Multiply each tensor by the square of its root in place, if the step is taken."""
    own = all_to_local(tensors)
    for w, root in zip(own, roots.unbind(), strict=True):
        factor = torch.as_tensor(step.choose(root, 1.0), device=w.device).to(w)
        w.mul_(factor).mul_(factor)
