"""Suggested fixes for errors of composition. Used in messages only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, Protocol

from torch import Tensor, nn

from modula.errors import MismatchError, NormPairError
from modula.geometry import operator_geometry
from modula.network import Network
from modula.norms import HeadRMS, Norm, VectorNorm
from modula.spaces import AnySpace, Product, Space, meet


class Fitting(Protocol):
    """A module, of which the two spaces matter here."""

    @property
    def domain(self) -> AnySpace: ...

    @property
    def codomain(self) -> AnySpace: ...


def suggest_fix(given: AnySpace, wanted: AnySpace) -> str:
    """Return how to connect two modules, as the end of an error message; empty if unknown.

    Args:
        given: the codomain of the module that is applied first.
        wanted: the domain of the next.
    """
    if isinstance(given, Product) and isinstance(wanted, Product):
        return _fix_of_parts(given.parts, wanted.parts)
    if isinstance(wanted, Product):
        return (
            f"; a tuple of {len(wanted.parts)} modules is taken, as in … @ (f, g)"
            if isinstance(given, Space)
            else ""
        )
    if isinstance(given, Product):
        return (
            "; insert Add() between them"
            if isinstance(wanted, Space)
            and not _clash(given, Product((wanted,) * len(given.parts)))
            else ""
        )
    if not isinstance(given, Space) or not isinstance(wanted, Space):
        return ""
    if given.norm is wanted.norm:
        widths = given.width, wanted.width
        return f"; make both widths {widths[0]} or both {widths[1]}" if None not in widths else ""
    known = _FIXES.get((given.norm.__name__, wanted.norm.__name__)) or _FIXES.get(
        ("", wanted.norm.__name__)
    )
    return f"; {known}" if known else _bridge(given.norm, wanted.norm)


def suggest_pairs(outer: Sequence[Fitting], inner: Sequence[Fitting]) -> str:
    """Return how to apply each of several modules to one entry of a tuple; empty if they clash.

    Args:
        outer: the modules of a tuple on the left of `@`.
        inner: those of the tuple on its right.
    """
    if (
        not outer
        or len(outer) != len(inner)
        or any(_clash(f.domain, g.codomain) for f, g in zip(outer, inner, strict=True))
    ):
        return ""
    pairs = ", ".join([f"{f!r} @ {g!r}" for f, g in zip(outer, inner, strict=True)])
    return (
        "; every module of a tuple takes the whole input, so that a tuple on both sides of @ needs "
        f"parentheses: write … @ ({pairs}), or Parallel({', '.join(map(repr, outer))}) for the "
        "tuple on the left"
    )


_FIXES = {
    ("ChannelRMS", "RMS"): "insert AvgPool() or Flatten() between them",
    ("RMS", "HeadRMS"): "insert SplitIntoHeads(num_heads) between them",
    ("HeadRMS", "RMS"): "insert MergeHeads() between them",
    ("OneHot", "RMS"): "insert Embed(d_embed, num_embed) between them",
    ("Linf", "L1"): "insert Softmax() between them",
    ("", "OneHot"): "one-hot ids enter a network only at its start",
    ("", "ChannelRMS"): "only images and Conv2D give images",
}
"""By the names of the norms that are given and wanted; "" stands for every other norm given."""


def _fix_of_parts(given: tuple[AnySpace, ...], wanted: tuple[AnySpace, ...]) -> str:
    if len(given) != len(wanted):
        grouped = len(given) == 2 and isinstance(given[0], Product) and len(given[0].parts) == 2
        if grouped and len(wanted) == 3 and not _clash(wanted[0], Space(HeadRMS)):
            return "; insert Ungroup() between them"
        return f"; a tuple of {len(wanted)} is taken and one of {len(given)} given"
    return next(
        (
            f"{suggest_fix(g, w)} (part {i})"
            for i, (g, w) in enumerate(zip(given, wanted, strict=True))
            if _clash(g, w) and suggest_fix(g, w)
        ),
        "",
    )


def _clash(one: AnySpace, other: AnySpace) -> bool:
    """Whether no space is both."""
    try:
        meet(one, other)
    except MismatchError:
        return True
    return False


def _bridge(given: type[Norm], wanted: type[Norm]) -> str:
    """The Linear from one norm to the other, or that there is none."""
    if not (issubclass(given, VectorNorm) and issubclass(wanted, VectorNorm)):
        return ""
    try:
        operator_geometry(given, wanted)
    except NormPairError:
        return (
            f"; no Linear leads from {given.__name__} to {wanted.__name__}: change the norm of one "
            "of them"
        )
    return (
        f"; a Linear(…, domain={given.__name__}, codomain={wanted.__name__}) leads from one to the "
        "other"
    )


def refuse_operand(
    module: object, operation: str, other: object, *, reflected: bool = False
) -> NoReturn:
    """Raise the error for an operand that the algebra does not take.

    Args:
        module: the operand that is a module; None for a tuple.
        operation: the operator, as written; a comma for a tuple.
        other: the other operand.
        reflected: whether the other operand is on the left.

    Raises:
        TypeError: always; says what to write instead.
    """
    if isinstance(other, type):
        theirs = other.__name__
    else:
        theirs = repr(other) if isinstance(other, Network) else type(other).__name__
    if operation == ",":
        written = f"a tuple with {theirs}"
    elif reflected:
        written = f"{theirs} {operation} {module!r}"
    else:
        written = f"{module!r} {operation} {theirs}"
    raise TypeError(f"{written} has no meaning: {_operand_advice(operation, other)}")


def _operand_advice(operation: str, other: object) -> str:
    """How to write what `module operation other` may have meant."""
    name = type(other).__name__
    if isinstance(other, type) and issubclass(other, nn.Module):
        return f"this is a class; write {other.__name__}(…) to make a module"
    if operation == "-":
        return "subtract by adding a multiple, as in f + (-1) * g"
    if operation in ("*", "/"):
        return "a module is scaled by a number; to compose modules use @"
    if isinstance(other, nn.Module):
        return _advice_for_torch(other, name)
    if isinstance(other, Tensor):
        return "to apply a module to a tensor call it, as in module(x)"
    if operation.startswith("["):
        return "a component is a module; for several side by side write Concatenation(f, g)"
    return "modules compose with modules and with tuples of modules"


_COUNTERPARTS = {
    nn.Linear: "Linear(fan_out, fan_in), with Bias(fan_out) @ before it for a bias",
    nn.Embedding: "Embed(d_embed, num_embed)",
    nn.LSTM: "LSTM(d, fan_in)",
    nn.GRU: "GRU(d, fan_in)",
    nn.Conv2d: "Conv2D(out_channels, in_channels)",
}


_IN_PLACE = {
    "_orig_mod": "compile it in place, as in module.compile()",
    "_checkpoint_wrapped_module": (
        "checkpoint its activations in place, as in "
        "torch.distributed._composable.checkpoint(module)"
    ),
}
"""What to write instead of a wrapper, by the name under which it holds the module.

A wrapper changes the names of the weights inside, by which networks and checkpoints know them."""


def _advice_for_torch(module: nn.Module, name: str) -> str:
    """How to write a torch module in the algebra."""
    for inner, instead in _IN_PLACE.items():
        if isinstance(dict(module.named_children()).get(inner), Network):
            return f"{name} wraps a module and renames its weights: {instead}"
    counterpart = next(
        (text for kind, text in _COUNTERPARTS.items() if isinstance(module, kind)), None
    )
    if counterpart is not None:
        return f"a torch.nn.{name} declares no norms; its counterpart here is {counterpart}"
    if any(p.requires_grad for p in module.parameters()):
        return (
            f"a torch.nn module declares no norms, and {name} has parameters to train: write an "
            "Atom for each, or compose atoms and bonds"
        )
    return (
        "a torch.nn module declares no norms; wrap it, as in "
        f"FunctionBond({name}(…), domain=RMS, codomain=RMS, sensitivity=…)"
    )
