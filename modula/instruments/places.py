"""Where the modules of a network stand, and what flows through each of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modula.algebra.core import Compound
from modula.network import AnyModule, Signature
from modula.spaces import ANYTHING, Value


@dataclass(frozen=True)
class Place:
    """A module where it stands: the same bond may stand in several places, and takes other spaces
    in each.
    """

    path: str
    """Dotted, as in `model.get_submodule`; empty for the model itself."""

    module: AnyModule
    signature: Signature

    @property
    def label(self) -> str:
        """The module as an expression."""
        return repr(self.module)


@dataclass(frozen=True)
class Visit:
    """What flowed through a place."""

    place: Place
    x: Value
    y: Value


def places(model: AnyModule) -> Iterator[Place]:
    """The model and every module inside it, in the order in which data enters them.

    Raises:
        TypeError: `model` is no module of modula's.
    """
    if not isinstance(model, AnyModule):
        raise TypeError(
            "instruments measure modules composed with modula; got "
            f"{type(model).__name__}{_unwrapped(model)}"
        )
    yield from _inside(Place("", model, model.unify(ANYTHING, ANYTHING)))


def _inside(place: Place) -> Iterator[Place]:
    yield place
    if isinstance(place.module, Compound):
        compound: Compound[object, object] = place.module
        parts = list(compound)
        for i, (part, signature) in enumerate(
            zip(parts, compound._infer_signatures(parts, *place.signature), strict=True)
        ):
            yield from _inside(
                Place(f"{place.path}.{i}" if place.path else str(i), part, signature)
            )


def _unwrapped(model: object) -> str:
    return (
        ": torch.compile wraps a model; pass the model itself"
        if hasattr(model, "_orig_mod")
        else ""
    )


def visits(model: AnyModule, x: Value) -> list[Visit]:
    """Run the model on `x` once and record what enters and leaves each module, in the order of
    `places`.

    Forward hooks do it, and are removed before this returns. Modules that the forward pass does not
    reach are left out.

    Args:
        model: the network.
        x: its input.

    Raises:
        TypeError: `model` is no module of modula's.
        ValueError: a module was called more often than it stands in the network.
    """
    tall = list(places(model))
    calls: dict[AnyModule, list[tuple[Value, Value]]] = defaultdict(list)

    def note(module: nn.Module, arguments: tuple[Value, ...], output: Value) -> None:
        if isinstance(module, AnyModule):
            calls[module].append((_detached(arguments[0]), _detached(output)))

    hooks = [module.register_forward_hook(note) for module in {place.module for place in tall}]
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return list(_matched(tall, calls))


def _matched(
    tall: list[Place], calls: dict[AnyModule, list[tuple[Value, Value]]]
) -> Iterator[Visit]:
    """A module's first call belongs to the first place where it stands, and so on: data flows in
    the order of the places.
    """
    counts = Counter(place.module for place in tall)
    for module, made in calls.items():
        if len(made) != counts[module]:
            raise ValueError(
                f"{module!r} was called {len(made)} times and stands in {counts[module]} places: "
                "instruments follow networks whose forward is that of Composition and Concatenation"
            )
    seen: Counter[AnyModule] = Counter()
    for place in tall:
        if calls.get(place.module):
            x, y = calls[place.module][seen[place.module]]
            seen[place.module] += 1
            yield Visit(place, x, y)


def _detached(value: Value) -> Value:
    return (
        value.detach() if isinstance(value, Tensor) else tuple([_detached(part) for part in value])
    )


def is_inside(path: str, outer: str) -> bool:
    """Whether the place `path` is `outer` or lies in it."""
    return not outer or path == outer or path.startswith(f"{outer}.")


def parts(place: Place, inside: list[Place]) -> list[Place]:
    """Those of the places `inside` that are its parts, and not parts of parts."""
    return [
        other
        for other in inside
        if other.path and other.path != place.path and other.path.rpartition(".")[0] == place.path
    ]
