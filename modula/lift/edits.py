"""Edits of a torch module after it was lifted, which are refused by name."""

from __future__ import annotations

from collections.abc import Mapping

from modula.errors import ParameterError
from modula.graph import Graph
from modula.lift.weight import LiftedWeight
from modula.network import Network, check_parameters


def refuse_edits(network: Network, graph: Graph, weights: Mapping[str, LiftedWeight]) -> None:
    """Raise if the parameters are not those that were lifted.

    A parameter may be replaced by one of its shape, as `fully_shard` and `load_state_dict` do.

    Args:
        network: the lifted network.
        graph: its graph, as it was made.
        weights: its weights.

    Raises:
        ParameterError: names the first parameter that was added, removed, replaced by one of
            another shape or in another module, frozen or unfrozen.
    """
    left = set(weights)
    for name, p in network.torch_module.named_parameters():
        weight = weights.get(name)
        if weight is None:
            if p.requires_grad:
                check_parameters(network, graph)
            continue
        left.discard(name)
        change = _change(weight, p is weight.tensor, tuple(p.shape), p.requires_grad)
        if change:
            raise ParameterError(f"{name!r} of {network!r} {change} since: lift the model again")
    if left:
        raise ParameterError(
            f"{min(left)!r} of {network!r} was a parameter when the model was lifted, and is not "
            "any more: lift the model again"
        )


def _change(
    weight: LiftedWeight, is_same: bool, shape: tuple[int, ...], is_trained: bool
) -> str | None:
    """The change of a weight, in words."""
    if not is_same:
        return "was lifted as the parameter of a module that was replaced"
    if shape != weight.shape:
        return f"had the shape {list(weight.shape)} when it was lifted, and became {list(shape)}"
    return None if is_trained else "was trained when it was lifted, and was frozen"
