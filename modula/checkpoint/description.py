"""The description of a model and an optimizer, by which a mismatch is found before loading."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypedDict, cast

import torch
from torch import nn

from modula.checkpoint.settings import plain_text, settings_of
from modula.checks import is_number
from modula.errors import CheckpointError
from modula.network import Network

Model: TypeAlias = "nn.Module | Network"
"""Anything that can be saved: a network, or any torch module."""

VERSION = 3
"""Of the description. Raise it whenever descriptions of one model change."""


class Description(TypedDict):
    """Everything that a model and an optimizer must share with those that were saved."""

    version: int
    modules: dict[str, str]
    """By path, each module's class and arguments, as `print` shows them."""
    settings: dict[str, dict[str, str]]
    """By path and name, each module's attributes that are plain data."""
    operations: dict[str, str] | None
    """By path, the operations of a network that is not itself the torch module."""
    geometries: dict[str, str] | None
    """By name, the norm of each of its weights."""
    measurements: dict[str, object] | None
    """The numbers that such a network has measured."""
    coefficients: dict[str, float] | None
    """By name, each weight's coefficient, if the model is a network."""
    optimizer: str | None
    """The class of the optimizer, and of its rule if it has one."""
    parameters: list[list[list[int]]] | None
    """The shapes of the optimizer's parameters, by group."""


def torch_module_of(model: Model) -> nn.Module:
    """Return the torch module with the parameters of a model."""
    return model.torch_module if isinstance(model, Network) else model


def network_of(model: Model, optimizer: torch.optim.Optimizer | None) -> Model:
    """Return the network that the optimizer trains if `model` is its torch module; else `model`."""
    trained: object = getattr(optimizer, "model", None)
    if isinstance(trained, Network) and trained.torch_module is model:
        return trained
    return model


def check_kinds(model: object, optimizer: object) -> None:
    """Raise if these are not what a checkpoint is of.

    Raises:
        TypeError: `model` is neither a network nor a torch module, or `optimizer` is not one.
    """
    if not isinstance(model, Network | nn.Module):
        raise TypeError(
            f"a checkpoint is of a network or a torch module, got {type(model).__name__}; pass "
            "anything else by name: checkpoint.save(path, model, optimizer, step=step)"
        )
    if optimizer is not None and not hasattr(optimizer, "param_groups"):
        raise TypeError(
            "a checkpoint takes a torch optimizer after the model, got "
            f"{type(optimizer).__name__}; pass anything else by name: "
            "checkpoint.save(path, model, optimizer, step=step)"
        )


def describe(model: Model, optimizer: torch.optim.Optimizer | None) -> Description:
    """Return the description of a model and an optimizer."""
    module = torch_module_of(model)
    return {
        "version": VERSION,
        "modules": {
            path: f"{_class_name(part)}({part.extra_repr()})"
            for path, part in module.named_modules()
        },
        "settings": {path: settings_of(part) for path, part in module.named_modules()},
        "operations": _operations(model),
        "geometries": _geometries(model),
        "measurements": _measurements(model),
        "coefficients": coefficients_of(model),
        "optimizer": None if optimizer is None else kind_of(optimizer),
        "parameters": None
        if optimizer is None
        else [[list(p.shape) for p in group["params"]] for group in optimizer.param_groups],
    }


def read_description(value: object, path: Path) -> Description:
    """Return the description that was read from a file.

    Raises:
        CheckpointError: it is incomplete, or of another version of this library.
    """
    if not isinstance(value, dict) or "version" not in value:
        raise CheckpointError(f"{path} was not written by `save`: its description is incomplete")
    if value["version"] != VERSION:
        raise CheckpointError(
            f"{path} is a checkpoint of version {value['version']}, this library reads version "
            f"{VERSION}: load it with the version of modula that wrote it, or take its weights "
            "over with model.load_state_dict"
        )
    if not all(name in value and has_type(value[name]) for name, has_type in _TYPES.items()):
        raise CheckpointError(f"{path} was not written by `save`: its description is incomplete")
    return cast("Description", value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_mapping(value: object, of: Callable[[object], bool] = _is_text) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and of(entry) for name, entry in value.items()
    )


_TYPES: dict[str, Callable[[object], bool]] = {
    "modules": _is_mapping,
    "settings": lambda value: _is_mapping(value, of=_is_mapping),
    "operations": lambda value: value is None or _is_mapping(value),
    "geometries": lambda value: value is None or _is_mapping(value),
    "measurements": lambda value: value is None or _is_mapping(value, of=lambda entry: True),
    "coefficients": lambda value: value is None or _is_mapping(value, of=is_number),
    "optimizer": lambda value: value is None or isinstance(value, str),
    "parameters": lambda value: value is None or isinstance(value, list),
}
"""By entry of a description, whether a value has its type."""


def kind_of(optimizer: torch.optim.Optimizer) -> str:
    """Return the class of an optimizer, and of the rule that makes its updates, if it has one."""
    name = type(optimizer).__name__
    rule: object = getattr(optimizer, "rule", None)
    return name if rule is None else f"{name} by {getattr(rule, 'kind', type(rule).__name__)}"


def _class_name(module: nn.Module) -> str:
    """The name of the module's class, not of the one that `fully_shard` derives from it."""
    return next(base.__name__ for base in type(module).__mro__ if not _is_of_fully_shard(base))


def _is_of_fully_shard(cls: type) -> bool:
    """Whether `fully_shard` derived the class, from one of its own and the module's."""
    return any(base.__module__.startswith("torch.distributed.fsdp") for base in cls.__mro__)


def _operations(model: Model) -> dict[str, str] | None:
    """The operations of a network that is not itself the torch module.

    A module of the algebra is described completely by its modules and their settings.
    """
    return None if isinstance(model, nn.Module) else dict(model.describe())


def _geometries(model: Model) -> dict[str, str] | None:
    """The norms of the weights of such a network. Those of an atom are among its settings."""
    if isinstance(model, nn.Module):
        return None
    weights = model.graph().weights
    return {name: plain_text(one.geometry) or repr(one.geometry) for name, one in weights.items()}


def _measurements(model: Model) -> dict[str, object] | None:
    return dict(model.measurements()) or None if isinstance(model, Network) else None


def coefficients_of(model: Model) -> dict[str, float] | None:
    """Return each weight's coefficient, by name; None if the model is no network."""
    if not isinstance(model, Network):
        return None
    plan = model.plan()
    return dict(zip(plan.names, plan.coefficients, strict=True))
