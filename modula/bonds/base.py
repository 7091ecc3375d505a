"""`SameSpace`, the bonds from one space to itself, and `FunctionBond`, a function as a bond."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from modula.algebra.core import Bond, SpaceType
from modula.bonds.captured import captured_tensors
from modula.checks import is_number
from modula.errors import ParameterError
from modula.graph import Radius, total_radius
from modula.norms import Norm
from modula.spaces import AnySpace, Signature, Space, meet

X = TypeVar("X", bound=SpaceType)
Y = TypeVar("Y", bound=SpaceType)
P = TypeVar("P", bound=Norm)
Q = TypeVar("Q", bound=Norm)


class SameSpace(Bond[X, Y]):
    """A bond from one space to itself, whose output is as wide as its input."""

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        own, _ = self.declared_signature
        space = meet(meet(own, domain), codomain)
        return space, space


class FunctionBond(Bond[P, Q]):
    """A function as a bond.

    Sensitivity and radius as declared: both are estimates, and nothing checks them here. A function
    with f(0) ≠ 0, such as the cosine, needs a `radius` of its own, since the default s·R is then
    wrong; `modula.testing.check_bond` finds such a mistake.

    Args:
        function: tensor to tensor, without weights.
        domain: the norm type of the input.
        codomain: the norm type of the output.
        sensitivity: s, a bound on how much the function stretches a change of its input, measured
            in these norms.
        radius: a bound on the norm of the output as a function of R, a bound on the norm of the
            input; None takes s·R, which holds for functions with f(0) = 0.

    Raises:
        ValueError: a sensitivity that is not positive; when radii are computed, a radius that is
            not a number ≥ 0.
        ParameterError: the function is, or closes over, a module or a parameter that requires a
            gradient.

    Example:
        >>> import torch
        >>> from modula import RMS, FunctionBond, Linear
        >>> sine = FunctionBond(torch.sin, domain=RMS, codomain=RMS, sensitivity=1.0)
        >>> (Linear(10, 256) @ sine @ Linear(256, 784)).sensitivity
        1.0
        >>> cosine = FunctionBond(torch.cos, domain=RMS, codomain=RMS, radius=lambda R: 1.0)
        >>> cosine.radius(0.5)
        1.0
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        *,
        domain: type[P],
        codomain: type[Q],
        sensitivity: float = 1.0,
        radius: Callable[[float], float] | None = None,
    ) -> None:
        super().__init__()
        refuse_parameters_in(function)
        self.function = function
        self._radius = radius
        self._signature = (Space(domain), Space(codomain))
        self.sensitivity = sensitivity

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        return meet(self._signature[0], domain), meet(self._signature[1], codomain)

    def radius(self, *inputs: Radius) -> Radius:
        if self._radius is None:
            return super().radius(*inputs)
        bound = self._radius(total_radius(inputs))
        if not is_number(bound) or math.isnan(bound) or bound < 0:
            raise ValueError(
                f"the radius of {self!r} must be a number ≥ 0, a bound on the norm of its output; "
                f"the function passed as radius= gave {bound!r}"
            )
        return bound

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return getattr(self.__dict__.get("function"), "__name__", "…")


def refuse_parameters_in(function: object) -> None:
    """Raise if a function uses tensors that require a gradient, which no network would train.

    Args:
        function: any callable; `captured_tensors` says where it is searched.

    Raises:
        ParameterError: names the function, with the way out.
    """
    if any(t.is_leaf and t.requires_grad for t in captured_tensors(function)):
        name = getattr(function, "__name__", type(function).__name__)
        raise ParameterError(
            f"FunctionBond takes a function without weights, and {name} uses parameters that "
            "require a gradient, which no duality map would reach: compose atoms such as "
            "Linear and Bias, write an Atom, or freeze them with requires_grad_(False)"
        )
