"""Record the inputs and outputs of all modules of a network in one run, by forward hooks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from modula.graph import Operation
from modula.network import Network, Observation
from modula.spaces import Signature
from modula.values import Value, map_leaves

Calls: TypeAlias = "dict[nn.Module, list[tuple[Value, Value]]]"
"""The input and output of each call, by module."""


class Site(NamedTuple):
    """One occurrence of a module in a network. The same bond may occur several times.

    Args:
        path: of the module, as in `model.get_submodule`.
        module: the module, which is both a torch module and a network.
        signature: its spaces there.
        operation: the module as a single operation; None for a compound.
    """

    path: str
    module: Network
    signature: Signature
    operation: Operation | None


def record(network: Network, sites: Sequence[Site], x: Value) -> list[Observation]:
    """Run the network once, and return the input and output of each module.

    Modules that the forward pass does not reach are left out. Buffers, such as running statistics,
    are afterwards as before.

    Args:
        network: to run.
        sites: the modules inside, in the order in which data enters them.
        x: its input.

    Raises:
        ValueError: a module was called more often than it occurs in the network.
    """
    calls: Calls = defaultdict(list)

    def note(module: nn.Module, arguments: tuple[Value, ...], output: Value) -> None:
        calls[module].append((_detached(arguments[0]), _detached(output)))

    modules = {site.module.torch_module for site in sites}
    hooks = [module.register_forward_hook(note) for module in modules]
    buffers = [(buffer, buffer.clone()) for buffer in network.torch_module.buffers()]
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            network.torch_module(x)
    finally:
        for hook in hooks:
            hook.remove()
        for buffer, before in buffers:
            buffer.copy_(before)
    graph = network.graph()
    weights = {graph.nodes[i].path: name for i, name in graph.uses()}
    return list(_matched(sites, calls, weights))


def _matched(
    sites: Sequence[Site], calls: Calls, weights: Mapping[str, str]
) -> Iterator[Observation]:
    """An observation of each site. A module's first call belongs to its first site."""
    counts = Counter(site.module.torch_module for site in sites)
    for module, made in calls.items():
        if len(made) != counts[module]:
            raise ValueError(
                f"{module!r} was called {len(made)} times and occurs {counts[module]} times in the "
                "network: instruments follow networks whose forward is that of Composition and "
                "Concatenation"
            )
    seen: Counter[nn.Module] = Counter()
    for site in sites:
        module = site.module.torch_module
        if calls.get(module):
            x, y = calls[module][seen[module]]
            seen[module] += 1
            yield _observation(site, x, y, weights.get(site.path) if site.operation else None)


def _observation(site: Site, x: Value, y: Value, weight: str | None) -> Observation:
    module = site.module.torch_module

    def apply(weights: Mapping[str, Tensor], value: Value) -> Value:
        buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        return cast("Value", functional_call(module, {**buffers, **weights}, (value,)))

    domain, codomain = site.signature
    return Observation(
        site.path,
        repr(module),
        domain,
        codomain,
        x,
        y,
        site.module,
        site.operation,
        weight,
        apply,
    )


def _detached(value: Value) -> Value:
    return map_leaves(Tensor.detach, value)
