"""`Parallel`: the product f × g of modules, each applied to its own entry of a tuple."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from modula.algebra.any_module import AnyModule
from modula.algebra.compound import Compound, join_path
from modula.algebra.core import Concatenation, Module
from modula.algebra.hints import refuse_operand
from modula.errors import MismatchError
from modula.graph import GraphBuilder, Part, Tuple
from modula.spaces import ANYTHING, AnySpace, Product, Signature, meet
from modula.values import Value

X = TypeVar("X")
Y = TypeVar("Y")

if TYPE_CHECKING:
    from modula.algebra.operators import (  # pyright: ignore[reportMissingModuleSource]
        ParallelOperators,
    )
else:
    ParallelOperators = Module


class Parallel(Compound, ParallelOperators[X, Y]):
    """f × g: (x, y) ↦ (f(x), g(y)), one module for each entry of a tuple.

    It is how a network takes several inputs: `Parallel(f, g)` takes a tuple, where the tuple
    `(f, g)` of the algebra applies both modules to one input.

    Sensitivity max of the modules' own, since the norm of a tuple is the sum of its entries' norms.

    Args:
        modules: at least one; a tuple among them stands for its concatenation.

    Raises:
        TypeError: an argument is not a module.
        ValueError: there is no module.

    Example:
        >>> import torch
        >>> from modula import Add, Embed, Linear, Parallel
        >>> model = Add() @ Parallel(Linear(8, 4), 3 * Embed(8, 9))
        >>> model((torch.randn(2, 4), torch.tensor([3, 7]))).shape
        torch.Size([2, 8])
        >>> model.sensitivity
        3.0
    """

    if not TYPE_CHECKING:

        def __init__(self, *modules):
            super().__init__()
            if not modules:
                raise ValueError("Parallel takes at least one module")
            components = [_as_component(module) for module in modules]
            signatures = [component.signature for component in components]
            self.set_components(components, self.outer_signature(signatures))

    def forward(self, x: tuple[Value, ...]) -> tuple[Value, ...]:
        if not isinstance(x, tuple) or len(x) != len(self):
            got = f"a tuple of {len(x)}" if isinstance(x, tuple) else "a tensor"
            raise TypeError(
                f"{self!r} takes a tuple of {len(self)}, as in model((x, y)); got {got}"
            )
        return tuple([f(entry) for f, entry in zip(self.components(), x, strict=True)])

    def flatten(self, builder: GraphBuilder, path: str, source: int) -> int:
        outputs = []
        for i, component in enumerate(self.components()):
            entry = builder.add(path, Part(i), (source,), part=i)
            outputs.append(component.flatten(builder, join_path(path, str(i)), entry))
        return builder.add(path, Tuple(len(outputs)), tuple(outputs))

    def infer_signatures(
        self, components: Sequence[AnyModule], domain: AnySpace, codomain: AnySpace
    ) -> list[Signature]:
        anything: AnySpace = Product((ANYTHING,) * len(components))
        before, after = meet(anything, domain), meet(anything, codomain)
        if not (isinstance(before, Product) and isinstance(after, Product)):
            raise MismatchError(f"{self!r} maps a tuple to a tuple, not {domain} to {codomain}")
        return [
            component.unify(*ends)
            for component, *ends in zip(components, before.parts, after.parts, strict=True)
        ]

    def outer_signature(self, signatures: Sequence[Signature]) -> Signature:
        domains, codomains = zip(*signatures, strict=True)
        return Product(tuple(domains)), Product(tuple(codomains))

    def title(self) -> str:
        return "Parallel" if type(self) is Parallel else repr(self)

    def __repr__(self) -> str:
        if type(self) is not Parallel:
            return super().__repr__()
        return f"Parallel({', '.join([repr(module) for module in self.components()])})"


def _as_component(operand: object) -> AnyModule:
    """The operand as a module: for a tuple of modules, their concatenation."""
    if isinstance(operand, tuple):
        return Concatenation(*operand)
    if not isinstance(operand, AnyModule):
        refuse_operand(None, ",", operand)
    return operand
