"""`Use`, `Role` and the registry of rules: how operations use parameters, and their norms there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, TypeAlias

from torch import nn

from modula.errors import LiftError
from modula.geometry import Flattened, Geometry, Reshaped, Spectral, Stacked, Transposed
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
        out: the axes along which the output features extend.
        into: the axes along which the input features extend.
        stacked: axes each of whose indices has a matrix of its own, such as experts.
        cuts: positions at which the output features are cut into blocks.
        shape: in which the axes are counted; None for the weight's own.
    """

    out: tuple[int, ...]
    into: tuple[int, ...]
    stacked: tuple[int, ...] = ()
    cuts: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None

    def geometry(self, shape: Sequence[int]) -> Geometry:
        """Return the norm of a weight of that shape: the largest norm of a block."""
        own = tuple(shape)
        inner = own if self.shape is None else self.shape
        inside = [k for k in range(len(inner)) if k not in self.stacked]
        if inside in ([*self.out, *self.into], [*self.into, *self.out]):
            block = self._matrices(inner, self.out, self.into)
            for axis in sorted(self.stacked):
                block = Stacked(block, None, axis)
            return block if inner == own else Reshaped(block, len(own), inner)
        order = (*sorted(self.stacked), *self.out, *self.into)
        first = len(self.stacked)
        second = first + len(self.out)
        block = self._matrices(inner, range(first, second), range(second, len(order)))
        for _ in self.stacked:
            block = Stacked(block, None)
        return Reshaped(block, len(own), inner, order)

    def _matrices(self, shape: Sequence[int], out: Sequence[int], into: Sequence[int]) -> Geometry:
        """The norm of the matrices between two groups of neighbouring axes."""
        block: Geometry = _RMS_TO_RMS
        if self.cuts:
            block = Stacked(block, _sizes(self.cuts, math.prod([shape[k] for k in self.out])))
        if tuple(into) < tuple(out):
            block = Transposed(block)
        first, second = sorted([tuple(into), tuple(out)])
        for start, axes in ((1, second), (0, first)):
            if len(axes) > 1:
                block = Flattened(block, start, len(axes))
        return block


@dataclass(frozen=True)
class Kernels:
    """A convolution's kernel, whose output features may be cut into blocks.

    Args:
        kernel: the norm of the kernel of a block, with the output features along its first axis.
        features: the number of all output features.
        stacked: further axes of the weight, each of whose indices has a kernel of its own.
        cuts: positions at which the output features are cut into blocks.
        shape: in which the axes are counted; None for the weight's own.
    """

    kernel: Geometry
    features: int
    stacked: tuple[int, ...] = ()
    cuts: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None

    def geometry(self, shape: Sequence[int]) -> Geometry:
        """Return the norm of a weight of that shape: the largest norm of a block."""
        block = self.kernel
        if self.cuts:
            block = Stacked(block, _sizes(self.cuts, self.features))
        for axis in self.stacked:
            block = Stacked(block, None, axis)
        return block if self.shape is None else Reshaped(block, len(shape), self.shape)


@dataclass(frozen=True)
class Role:
    """How one use measures a parameter.

    Args:
        kind: of the use.
        norm: a geometry of the whole parameter, or the layout of its matrices or kernels. Those of
            several uses are combined where they differ in cuts alone.
        proved: whether the norm bounds the effect of the parameter on the operation's output.
    """

    kind: Kind
    norm: Geometry | Layout | Kernels
    proved: bool = True


def no_cuts(axis: int) -> tuple[int, ...]:
    """Return no positions: features that are not cut."""
    return ()


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
    cuts: Callable[[int], tuple[int, ...]] = field(default=no_cuts, repr=False)

    @property
    def operation(self) -> str:
        """The name of the operation."""
        return self.call.operation

    def plain(self) -> Use:
        """Return the use as data alone, with features that are not cut."""
        return replace(self, call=self.call.plain(), cuts=no_cuts)

    def matrix(
        self,
        out: Sequence[int],
        into: Sequence[int],
        feature_axis: int | None = -1,
    ) -> Role:
        """Return the role of matrices between RMS norms.

        Each index along the other axes of the parameter has a matrix of its own.

        Args:
            out, into: the axes of the argument along which output and input features extend.
            feature_axis: the axis of the call's output along which its features extend; None if
                they are not cut into blocks.

        Raises:
            LiftError: the axes of the argument do not run along axes of the parameter.
        """
        refined = self.view.refined()
        if refined is None:
            raise self.refused("the argument is not a part of the parameter along its axes")
        outward, inward = (
            tuple([axis for k in some for axis in refined.axes[k]]) for some in (out, into)
        )
        if not outward or not inward:
            raise self.refused("the entries of the parameter are repeated along features")
        known = {*outward, *inward}
        others = tuple([k for k in range(len(refined.shape)) if k not in known])
        cuts: set[int] = set()
        if len(outward) == 1:
            start, length = refined.start[outward[0]], refined.length[outward[0]]
            cuts = {start, start + length} - {0, refined.shape[outward[0]]}
            if feature_axis is not None:
                cuts |= {start + cut for cut in self.cuts(feature_axis) if cut < length}
        shape = None if refined.shape == self.shape else refined.shape
        return Role("matrix", Layout(outward, inward, others, tuple(sorted(cuts)), shape))

    def refused(self, reason: str) -> LiftError:
        """Return the error that names the parameter, the use, the reason and the way out."""
        return LiftError(
            f"no norm is known for {self.parameter!r} of shape {list(self.shape)}, as "
            f"{self.operation} in {self.call.path or 'the model'!r} uses it: {reason}. Give one, "
            f"as in lift(…, roles={{{self.parameter!r}: Spectral(RMS, RMS)}}), or freeze it with "
            "requires_grad_(False)"
        )


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
