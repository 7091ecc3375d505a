"""`Use`, `Role` and the registry of rules: how operations use parameters, and their norms there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeAlias

from torch import nn

from modula.errors import LiftError
from modula.geometry import Flattened, Geometry, Spectral, Stacked, Transposed
from modula.lift.trace import Call
from modula.lift.views import View
from modula.norms import RMS

Kind: TypeAlias = Literal["matrix", "table", "bias", "gain", "entries"]
"""How a weight is used, by which masses are given and weights are drawn for the calibration."""

_RMS_TO_RMS = Spectral(RMS, RMS)


@dataclass(frozen=True)
class Layout:
    """Where the matrices of a weight are stored in its axes.

    Args:
        out: the axes along which the output features extend, neighbours.
        into: the axes along which the input features extend, neighbours.
        stacked: axes each of whose indices has a matrix of its own, such as experts.
        cuts: positions at which the output features are cut into blocks.
    """

    out: tuple[int, ...]
    into: tuple[int, ...]
    stacked: tuple[int, ...] = ()
    cuts: tuple[int, ...] = ()

    def geometry(self, shape: Sequence[int]) -> Geometry:
        """Return the norm of a weight of that shape: the largest norm of a block."""
        width = 1
        for axis in self.out:
            width *= shape[axis]
        block: Geometry = _RMS_TO_RMS
        if self.cuts:
            block = Stacked(block, _sizes(self.cuts, width))
        if self.into < self.out:
            block = Transposed(block)
        first, second = sorted([self.into, self.out])
        for start, axes in ((1, second), (0, first)):
            if len(axes) > 1:
                block = Flattened(block, start, len(axes))
        for axis in sorted(self.stacked):
            block = Stacked(block, None, axis)
        return block


@dataclass(frozen=True)
class Role:
    """How one use measures a parameter.

    Args:
        kind: of the use.
        norm: a geometry of the whole parameter, or the layout of its matrices. Layouts of several
            uses are combined where they differ in cuts alone.
        proved: whether the norm bounds the effect of the parameter on the operation's output.
    """

    kind: Kind
    norm: Geometry | Layout
    proved: bool = True


@dataclass(frozen=True)
class Use:
    """One argument of a call that a parameter fills.

    Args:
        parameter: its name.
        shape: its shape.
        view: the entries that the call reads, and their arrangement.
        call: that reads them.
        slot: the argument.
        cuts: returns the positions at which the features of the output along an axis are cut, as
            a fused projection's are.
    """

    parameter: str
    shape: tuple[int, ...]
    view: View
    call: Call
    slot: str
    cuts: Callable[[int], tuple[int, ...]] = field(default=lambda axis: (), repr=False)

    @property
    def operation(self) -> str:
        """The name of the operation."""
        return self.call.operation

    def matrix(
        self,
        out: Sequence[int],
        into: Sequence[int],
        stacked: Sequence[int] = (),
        feature_axis: int | None = -1,
    ) -> Role:
        """Return the role of matrices between RMS norms.

        Args:
            out, into: the axes of the argument along which output and input features extend.
            stacked: the axes of the argument each of whose indices has a matrix of its own.
            feature_axis: the axis of the call's output along which its features extend; None if
                they are not cut into blocks.

        Raises:
            LiftError: the axes of the argument are not axes of the parameter, or those of the
                output or input features are not neighbours.
        """
        axes = self._parameter_axes()
        outward, inward = (tuple([axes[k] for k in some]) for some in (out, into))
        missing = [k for k in range(len(self.shape)) if k not in axes]
        others = (*missing, *[axes[k] for k in stacked])
        inside = sorted(set(range(len(self.shape))) - set(others))
        if not any(list(pair) == inside for pair in (outward + inward, inward + outward)):
            raise self.refused("its axes are read in an order in which they are not stored")
        cuts: set[int] = set()
        if len(outward) == 1:
            start = self.view.start(outward[0])
            length, width = self.view.shape[out[0]], self.shape[outward[0]]
            cuts = {start, start + length} - {0, width}
            if feature_axis is not None:
                cuts |= {start + cut for cut in self.cuts(feature_axis) if cut < length}
        return Role("matrix", Layout(outward, inward, others, tuple(sorted(cuts))))

    def refused(self, reason: str) -> LiftError:
        """Return the error that names the parameter, the use, the reason and the way out."""
        return LiftError(
            f"no norm is known for {self.parameter!r} of shape {list(self.shape)}, as "
            f"{self.operation} in {self.call.path or 'the model'!r} uses it: {reason}. Give one, "
            f"as in lift(…, roles={{{self.parameter!r}: Spectral(RMS, RMS)}}), or freeze it with "
            "requires_grad_(False)"
        )

    def _parameter_axes(self) -> list[int]:
        """The axis of the parameter for each axis of the argument."""
        if len(self.view.shape) == len(self.shape) and self.view.is_whole:
            return list(range(len(self.shape)))
        found = [self.view.axis_of(k) for k in range(len(self.view.shape))]
        free = [k for k in range(len(self.shape)) if k not in found and self.shape[k] == 1]
        axes = [(free.pop(0) if free else None) if k is None else k for k in found]
        known = [k for k in axes if k is not None]
        if len(known) != len(axes) or len(set(known)) != len(known):
            raise self.refused("the argument is not a part of the parameter along its axes")
        return known


Rule: TypeAlias = Callable[[Use], "Role | None"]
"""The role of a parameter in a use, or None where the rule does not apply."""

RULES_BY_OPERATION: dict[str, Rule] = {}
RULES_BY_MODULE: dict[type[nn.Module], Rule] = {}


def register_rule(target: str | type[nn.Module], rule: Rule) -> None:
    """Set the rule for an operation of torch, or for the parameters of a class of modules.

    A rule for a class has precedence, and applies to the parameters that a module of the class or
    of a subclass has itself, not to those of modules inside it.

    Args:
        target: the name of an operation, as `lift` reports it ("linear"), or a class of modules.
        rule: returns the role of a parameter in one use, or None to leave it to other rules.

    Raises:
        TypeError: `target` is neither a name nor a class of modules, or the rule is not callable.

    Example:
        >>> import torch, modula
        >>> from modula import Linf
        >>> from modula.geometry import Vectors
        >>> from modula.lift import Role, register_rule
        >>> class Spline(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.knots = torch.nn.Parameter(torch.ones(3, 4))
        ...     def forward(self, x):
        ...         return torch.special.expit(self.knots * x)
        >>> register_rule(Spline, lambda use: Role("gain", Vectors(Linf)))
        >>> modula.lift(Spline(), torch.randn(5, 3, 4)).report()["knots"].norm
        'Linf rows'
    """
    if not callable(rule):
        raise TypeError(f"a rule is a function of a Use, got {type(rule).__name__}")
    if isinstance(target, str):
        RULES_BY_OPERATION[target] = rule
    elif isinstance(target, type) and issubclass(target, nn.Module):
        RULES_BY_MODULE[target] = rule
    else:
        raise TypeError(
            "register_rule takes the name of an operation, such as 'linear', or a class of "
            f"modules; got {target!r}"
        )


def rule_for(*operations: str) -> Callable[[Rule], Rule]:
    """Return a decorator that registers a rule for several operations."""

    def register(rule: Rule) -> Rule:
        for operation in operations:
            register_rule(operation, rule)
        return rule

    return register


def role_of(use: Use, owner: nn.Module) -> Role | None:
    """Return the role of a parameter in one use; None if no rule knows it.

    Args:
        use: one argument of one call.
        owner: the module that has the parameter.
    """
    for kind in type(owner).__mro__:
        rule = RULES_BY_MODULE.get(kind)
        role = rule(use) if rule is not None else None
        if role is not None:
            return role
    rule = RULES_BY_OPERATION.get(use.operation)
    return None if rule is None else rule(use)


def _sizes(cuts: Sequence[int], width: int) -> int | tuple[int, ...]:
    """The sizes of the blocks between cuts: their number if all are equal."""
    edges = [0, *cuts, width]
    sizes = tuple([end - start for start, end in pairwise(edges)])
    return len(sizes) if len(set(sizes)) == 1 else sizes
