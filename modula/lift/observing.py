"""The layers of a lifted network in one run, for instruments.

A layer is a call of a module that applies one of its own weights to one tensor, as nn.Linear,
nn.Embedding and nn.Conv2d do. Its bias is left out, so that its map is a multiple of its weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from modula.errors import LiftError
from modula.graph import Graph, Input, Node, Weight
from modula.lift.nested import tensors_in
from modula.lift.operations import Traced
from modula.lift.restoring import restored
from modula.lift.trace import Call, Trace
from modula.lift.weight import LiftedWeight
from modula.network import Network, Observation
from modula.norms import RMS, ChannelRMS, Norm, OneHot
from modula.spaces import ANYTHING, Space
from modula.values import Value

_SPACES: Mapping[str, tuple[type[Norm], type[Norm]]] = {
    "linear": (RMS, RMS),
    "addmm": (RMS, RMS),
    "embedding": (OneHot, RMS),
    "conv2d": (ChannelRMS, ChannelRMS),
}


class Layer(Network):
    """A module that applies one weight, as a network of its own.

    Args:
        module: the torch module.
        attribute: the name of the weight there.
        weight: its norm and mass.
        operation: the traced operation.
    """

    def __init__(
        self, module: nn.Module, attribute: str, weight: Weight, operation: Traced
    ) -> None:
        self._module = module
        nodes = (Node("", Input(), ()), Node("", operation, (0,), attribute))
        self._graph = Graph(nodes, {attribute: weight})
        self._zeros = {
            name: torch.zeros_like(p)
            for name, p in module.named_parameters(recurse=False)
            if name != attribute
        }

    @property
    def torch_module(self) -> nn.Module:
        return self._module

    def graph(self) -> Graph:
        return self._graph

    def apply(self, weights: Mapping[str, Tensor], x: Value) -> Value:
        """Return the map of the layer without its bias, for other values of its weight."""
        output = functional_call(self._module, {**self._zeros, **weights}, (x,))
        return cast("Value", output)

    def observe(self, *inputs: Value) -> list[Observation]:
        raise LiftError("a layer of a lifted network is observed with the whole network")

    def describe(self) -> Mapping[str, str]:
        return {"": repr(self._module)}

    def __repr__(self) -> str:
        return repr(self._module)


def observations(
    network: Network, run: Trace, weights: Mapping[str, LiftedWeight], inputs: Sequence[Value]
) -> list[Observation]:
    """Return the whole network and its layers, with their inputs and outputs in one run.

    Args:
        network: the lifted network.
        run: by which its layers are known.
        weights: its weights.
        inputs: of the run.

    Raises:
        LiftError: the output has no tensor of floating-point numbers.
    """
    module = network.torch_module
    layers = _layers(run, weights)
    seen: dict[str, Tensor] = {}
    hooks = [
        module.get_submodule(path).register_forward_pre_hook(_Noting(path, seen)) for path in layers
    ]
    try:
        with restored(module, 0), torch.no_grad():
            output = module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    outputs = [t.detach() for _, t in tensors_in(output) if t.is_floating_point()]
    if not outputs:
        raise LiftError(f"{network!r} returned no tensor of floating-point numbers")
    x = inputs[0] if len(inputs) == 1 else tuple(inputs)

    def whole(moved: Mapping[str, Tensor], x: Value) -> Value:
        result = functional_call(module, dict(moved), x if isinstance(x, tuple) else (x,))
        return next(t for _, t in tensors_in(result) if t.is_floating_point())

    rows = [
        Observation(
            "", repr(network), ANYTHING, ANYTHING, x, outputs[0], network, None, None, whole
        )
    ]
    return rows + [
        _observed(path, *layers[path], weights, seen[path], module)
        for path in layers
        if path in seen
    ]


def _layers(run: Trace, weights: Mapping[str, LiftedWeight]) -> dict[str, tuple[Call, str]]:
    """The call and the weight of each layer, by path."""
    owners = {name: name.rpartition(".")[0] for name in weights}
    found = {}
    for index in run.reached():
        call = run.calls[index]
        for argument in call.arguments:
            name = argument.source.parameter
            is_weight = argument.slot in ("weight", "mat2") and call.operation in _SPACES
            if is_weight and owners.get(name) == call.path and call.path not in found:
                found[call.path] = (call, name)
    return found


def _observed(
    path: str,
    call: Call,
    name: str,
    weights: Mapping[str, LiftedWeight],
    x: Tensor,
    module: nn.Module,
) -> Observation:
    layer_module = module.get_submodule(path)
    operation = Traced(call.operation, 1, is_weighted=True)
    layer = Layer(layer_module, weights[name].attribute, weights[name], operation)
    domain, codomain = _SPACES[call.operation]
    with torch.no_grad():
        y = layer.apply({}, x)
    label = f"{type(layer_module).__name__}({layer_module.extra_repr()})"
    spaces = Space(domain), Space(codomain)
    return Observation(path, label, *spaces, x, y, layer, operation, name, layer.apply)


class _Noting:
    """A hook that keeps the first tensor that a module gets."""

    def __init__(self, path: str, seen: dict[str, Tensor]) -> None:
        self._path, self._seen = path, seen

    def __call__(self, module: nn.Module, args: tuple[object, ...]) -> None:
        if args and isinstance(args[0], Tensor):
            self._seen.setdefault(self._path, args[0].detach())
