"""A network that is not itself a torch module, as one that is made from an existing module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modula import RMS, Network
from modula.checks import Acts, Claim
from modula.geometry import Geometry, operator_geometry
from modula.graph import Graph, GraphBuilder, Radius, total_radius
from modula.network import Observation
from modula.values import Value


@dataclass
class LinearOperation:
    """A matrix product, and its weight."""

    module: nn.Linear
    mass: float = 1.0
    claim: Claim = "proved"
    acts: Acts = "matrix"

    def sensitivities(self) -> tuple[float, ...]:
        return (1.0,)

    def radius(self, *inputs: Radius) -> Radius:
        return total_radius(inputs)

    def weight_sensitivity(self, *inputs: Radius) -> float:
        return total_radius(inputs)

    @property
    def tensor(self) -> Tensor:
        return self.module.weight

    @property
    def geometry(self) -> Geometry:
        return operator_geometry(RMS, RMS)

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        with torch.no_grad():
            self.tensor.normal_(generator=generator)


class ChainOfLinears(Network):
    """An `nn.Sequential` of `nn.Linear` without biases and of activations, as a network.

    Args:
        module: the chain.
        title: written into the description.
    """

    def __init__(self, module: nn.Sequential, title: str = "Linear") -> None:
        self.module = module
        self.title = title
        self.operations = {
            name: LinearOperation(part)
            for name, part in module.named_children()
            if isinstance(part, nn.Linear)
        }

    @property
    def torch_module(self) -> nn.Module:
        return self.module

    def graph(self) -> Graph:
        builder = GraphBuilder()
        source = 0
        for name, operation in self.operations.items():
            source = builder.add_weighted(name, operation, (source,), f"{name}.weight", operation)
        return builder.finish()

    def observe(self, *inputs: Value) -> list[Observation]:
        raise NotImplementedError

    def describe(self) -> Mapping[str, str]:
        return dict.fromkeys(self.operations, self.title)


def chain_of_linears(title: str = "Linear") -> ChainOfLinears:
    """A network of two layers with random weights."""
    layers = nn.Linear(5, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)
    return ChainOfLinears(nn.Sequential(*layers).double(), title)
