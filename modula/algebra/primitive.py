"""`Primitive`: a module that is one operation. Atoms and bonds are primitives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from modula.algebra.any_module import AnyModule
from modula.algebra.recording import Site
from modula.checks import Acts, Claim
from modula.graph import Operation, Radius, total_radius
from modula.spaces import Signature


class Primitive(AnyModule):
    """A module that is one operation, with constants that its class declares."""

    # A network derives its sensitivity; a primitive declares it.
    sensitivity: float = 1.0  # pyright: ignore[reportIncompatibleMethodOverride]
    claim: Claim = "estimate"  # until the author has proved the bounds
    acts: ClassVar[Acts] = "otherwise"

    def sensitivities(self) -> tuple[float, ...]:
        """Return s for the one input."""
        return (self.sensitivity,)

    def radius(self, *inputs: Radius) -> Radius:
        """Return a bound on the output's norm, for a weight of norm at most 1.

        Args:
            inputs: a bound R on the input's norm; for a tuple, one for each part. By default the
                bound is s·R, which holds for maps that take 0 to 0 and, in an atom, are linear in
                the weight; override it for others.
        """
        return self.sensitivity * total_radius(inputs)

    def weight_sensitivity(self, *inputs: Radius) -> float:
        """Return r with ‖∂f·Δw‖ ≤ r·‖Δw‖: 0, without a weight."""
        return 0.0

    def as_operation(self) -> Operation:
        """Return the module itself, as a node of a graph holds it."""
        return self  # pyright: ignore[reportReturnType] # a ClassVar for the protocol's property

    def sites(self, path: str, signature: Signature) -> Iterator[Site]:
        yield Site(path, self, signature, self.as_operation())
