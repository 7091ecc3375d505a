"""Gates: products of two values, entry by entry, and the bounded functions that gate.

A product is not Lipschitz: ‖Δa·b + a·Δb‖ grows with a and b. `Gate` therefore names the condition
under which its bound holds, and `GatedTanh`, both of whose factors are bounded, needs none.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar, overload

import torch
from torch import Tensor

from modula.algebra.core import Bond
from modula.bonds.base import SameSpace
from modula.checks import Acts, Claim
from modula.errors import NormPairError
from modula.graph import Radius, total_radius
from modula.norms import L1, L2, RMS, Dense, Euclidean, Linf
from modula.spaces import AnySpace, Product, Signature, Space, meet

A = TypeVar("A", bound=Dense)
B = TypeVar("B", bound=Dense)
V = TypeVar("V", bound=Dense)
W = TypeVar("W", bound=Dense)

BOUNDS_ENTRIES: frozenset[type[Dense]] = frozenset({L1, L2, Linf})
"""The norms that no entry of a vector exceeds in magnitude."""


class Gate(Bond[tuple[A, B], A]):
    """(value, gate) ↦ value·gate, entry by entry, for two tensors of one shape.

    Sensitivity 1 and a radius: conditional, both by ‖a·b‖ ≤ ‖a‖·max |b|.

    - For a gate in Linf, L1 or L2, whose norm no entry exceeds, the sensitivity holds for values
      and gates of norm at most 1, and the radius R_value·R_gate for all inputs.
    - For value and gate in one norm of RMS type, where entries can be √d times as large as the
      norm, the sensitivity and the radius min(R_value, R_gate) hold for entries of magnitude at
      most 1 in both.

    `Linear(d, d_in, codomain=Linf)` gives a gate of the first kind; `modula.instruments.radii`
    shows whether its norm can exceed 1. The second condition is `x.abs().amax() <= 1` for both
    parts.

    Args:
        value: the norm type of the value and of the output.
        gate: the norm type of the gate: that of the value, or Linf, L1 or L2.

    Raises:
        NormPairError: a gate in another norm, for which the product has no bound.

    Example:
        >>> import torch
        >>> from modula import Gate, Linear, SiLU
        >>> hidden = Gate() @ (Linear(16, 8), SiLU() @ Linear(16, 8))
        >>> hidden(torch.randn(3, 8)).shape
        torch.Size([3, 16])

    Source: Dauphin et al. 2017 (arXiv:1612.08083), equation 1.
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    @overload
    def __init__(self: Gate[RMS, RMS]) -> None: ...
    @overload
    def __init__(self: Gate[V, V], value: type[V]) -> None: ...
    @overload
    def __init__(self: Gate[V, W], value: type[V], gate: type[W]) -> None: ...
    def __init__(self, value: type[Dense] = RMS, gate: type[Dense] | None = None) -> None:
        super().__init__()
        gate = value if gate is None else gate
        for norm in (value, gate):
            if not (isinstance(norm, type) and issubclass(norm, Dense)):
                raise TypeError(f"Gate multiplies real vectors of a norm such as RMS, got {norm!r}")
        if gate not in BOUNDS_ENTRIES and not (gate is value and issubclass(gate, Euclidean)):
            raise NormPairError(
                f"the product of a value in {value.__name__} and a gate in {gate.__name__} has no "
                f"bound: measure the gate in Linf, L1 or L2, or in {value.__name__} too if that is "
                "of RMS type"
            )
        self.value: type[Dense] = value
        self.gate: type[Dense] = gate
        self.declared_signature: Signature = (
            Product((Space(value), Space(gate))),
            Space(value),
        )

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        pair, output = super().unify(domain, codomain)
        value, gate = pair.parts if isinstance(pair, Product) else (output, Space(self.gate))
        value = meet(value, output)
        if self.value.axis == self.gate.axis:  # measured along one axis, hence of one width
            gate = meet(gate, Space(self.gate, _width(value)))
            value = meet(value, Space(self.value, _width(gate)))
        return Product((value, gate)), value

    def radius(self, *inputs: Radius) -> Radius:
        value, gate = _two(inputs[0])
        return value * gate if self.gate in BOUNDS_ENTRIES else min(value, gate)

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        value, gate = x
        if value.shape != gate.shape:
            raise ValueError(
                f"{self!r} multiplies a value and a gate of one shape, got {list(value.shape)} and "
                f"{list(gate.shape)}"
            )
        return value * gate

    def extra_repr(self) -> str:
        if self.gate is not self.value:
            return f"{self.value.__name__}, {self.gate.__name__}"
        return "" if self.value is RMS else self.value.__name__


class GatedTanh(Bond[tuple[RMS, RMS], RMS]):
    """(value, gate) ↦ tanh(value)·σ(gate), entry by entry, for the logistic function σ.

    Sensitivity 1, radius R_value: proved. The derivative in an entry of the value is at most 1, in
    one of the gate at most 1/4, and |tanh(a)·σ(b)| ≤ |a|.

    Example:
        >>> import torch
        >>> from modula import GatedTanh, Linear
        >>> cell = GatedTanh() @ (Linear(16, 8), Linear(16, 8))
        >>> cell.sensitivity
        2.0

    Source: van den Oord et al. 2016 (arXiv:1606.05328), equation 2.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        pair, output = super().unify(domain, codomain)
        for part in pair.parts if isinstance(pair, Product) else ():
            output = meet(output, part)
        return Product((output, output)), output

    def radius(self, *inputs: Radius) -> Radius:
        value, _ = _two(inputs[0])
        return value

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        value, gate = x
        return torch.tanh(value) * torch.sigmoid(gate)


class Sigmoid(SameSpace[Linf, Linf]):
    """The logistic function σ(x) = 1/(1 + exp(−x)), whose output is the gate of `Gate(RMS, Linf)`.

    Sensitivity 1/4, radius min(1, 1/2 + R/4): proved, by its Lipschitz constant, σ(0) = 1/2, and
    since no entry exceeds 1.

    Example:
        >>> import torch
        >>> from modula import RMS, Gate, Linear, Linf, Sigmoid
        >>> glu = Gate(RMS, Linf) @ (Linear(4, 8), Sigmoid() @ Linear(4, 8, codomain=Linf))
        >>> glu(torch.randn(3, 8)).shape
        torch.Size([3, 4])
    """

    sensitivity: float = 0.25
    claim: Claim = "proved"
    acts: ClassVar[Acts] = "entrywise"

    def radius(self, *inputs: Radius) -> Radius:
        return min(1.0, 0.5 + total_radius(inputs) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


def _width(space: AnySpace) -> int | None:
    return space.width if isinstance(space, Space) else None


def _two(radius: Radius) -> tuple[float, float]:
    """The radii of the two parts of a pair, each at most that of the whole."""
    first, second = radius if isinstance(radius, tuple) else (radius, radius)
    return total_radius(first), total_radius(second)
