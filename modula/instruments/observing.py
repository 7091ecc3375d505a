"""Which networks instruments measure, and on what."""

from __future__ import annotations

from modula.network import Network, Observation
from modula.values import Value


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
        TypeError: says what was given.
    """
    if isinstance(network, Network):
        return
    wrapped = (
        ": torch.compile wraps a model; pass the model itself"
        if hasattr(network, "_orig_mod")
        else ""
    )
    raise TypeError(
        f"instruments measure networks of modula's; got {type(network).__name__}{wrapped}"
    )


def is_atom(observation: Observation) -> bool:
    """Return whether the part is a single operation with a weight."""
    return observation.operation is not None and observation.weight is not None


def is_bond(observation: Observation) -> bool:
    """Return whether the part is a single operation without a weight."""
    return observation.operation is not None and observation.weight is None
