"""Networks that instruments measure, and what they observe in one run."""

from __future__ import annotations

import math

import torch

from modula.graph import Radius, total_radius
from modula.network import Network, Observation
from modula.spaces import AnySpace, Product, Space, measure
from modula.values import Value, map_leaves


def observations(network: Network, x: Value) -> list[Observation]:
    """Run the network on `x` once and return what flowed through it and each part of it.

    Raises:
        TypeError: it is not a network of modula's.
    """
    check_network(network)
    return network.observe(x)


def check_network(network: object) -> None:
    """Raise if this is not a network of modula's.

    Raises:
        TypeError: names the type that was given.
    """
    if isinstance(network, Network):
        return
    advice = (
        "torch.compile wraps a model; pass the model itself"
        if hasattr(network, "_orig_mod")
        else "compose it of modula's modules, or write a subclass of modula.Network"
    )
    raise TypeError(
        f"instruments measure networks of modula's; got {type(network).__name__}: {advice}"
    )


def is_atom(observation: Observation) -> bool:
    """Return whether the part is a single operation with a weight."""
    return observation.operation is not None and observation.weight is not None


def is_bond(observation: Observation) -> bool:
    """Return whether the part is a single operation without a weight."""
    return observation.operation is not None and observation.weight is None


def is_known(space: AnySpace) -> bool:
    """Return whether values of this space can be measured."""
    return (
        all(map(is_known, space.parts)) if isinstance(space, Product) else isinstance(space, Space)
    )


def unknown_space(*spaces: AnySpace) -> str:
    """Return why values of these spaces cannot be measured; empty if they can."""
    return "" if all(map(is_known, spaces)) else "the space of its input or output is not known"


def measured_radius(space: AnySpace, value: Value) -> Radius:
    """Return the norm of a value that a run observed; for a tuple, that of each part.

    Entries of −∞ count as 0. A mask gives them to scores that are left out.
    """
    if isinstance(space, Product) and isinstance(value, tuple):
        parts = zip(space.parts, value, strict=True)
        return tuple([measured_radius(part, piece) for part, piece in parts])
    kept = map_leaves(lambda t: torch.where(t == -math.inf, 0, t), value)
    return float(measure(space, kept))


def measured_norm(space: AnySpace, value: Value) -> float | None:
    """Return the norm of a value that a run observed; None if its space is not known."""
    return total_radius(measured_radius(space, value)) if is_known(space) else None
