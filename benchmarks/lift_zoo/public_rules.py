"""Rules in use that choose which parameters Muon orthogonalises, by axes, names and classes."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

Rule = Callable[[str, nn.Parameter, nn.Module], bool]

_TABLES = ("embed", "wte", "wpe", "lm_head", "head", "classifier")


def two_axes(name: str, p: nn.Parameter, owner: nn.Module) -> bool:
    """Matrices by their number of axes, as torch.optim.Muon asks for."""
    return p.dim() == 2


def two_or_more(name: str, p: nn.Parameter, owner: nn.Module) -> bool:
    """All but vectors, with kernels flattened, as in Muon's first code."""
    return p.dim() >= 2


def without_names(name: str, p: nn.Parameter, owner: nn.Module) -> bool:
    """All but vectors and what is called an embedding or a head, as in Moonlight's."""
    return p.dim() >= 2 and not any(word in name for word in _TABLES)


def of_linear(name: str, p: nn.Parameter, owner: nn.Module) -> bool:
    """The weights of nn.Linear."""
    return isinstance(owner, nn.Linear) and name.endswith("weight")


def of_layers(name: str, p: nn.Parameter, owner: nn.Module) -> bool:
    """The weights of nn.Linear and of convolutions."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return isinstance(owner, kinds) and name.endswith("weight")


RULES: dict[str, Rule] = {
    "2 axes": two_axes,
    "≥ 2 axes": two_or_more,
    "≥ 2 axes and names": without_names,
    "nn.Linear": of_linear,
    "nn.Linear and convolutions": of_layers,
}
