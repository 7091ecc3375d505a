"""The description of a model and an optimizer, by which a mismatch is found before loading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import TypeAlias, TypedDict, cast

import torch
from torch import nn

from modula.errors import CheckpointError
from modula.network import Network

Model: TypeAlias = "nn.Module | Network"
"""Anything that can be saved: a network, or any torch module."""

VERSION = 2
"""Of the description. Raise it whenever descriptions of one model change."""

_NO_SETTINGS = {*dir(nn.Module()), "gradient_checkpointing", "name_or_path"}
"""Attributes that torch and Transformers set without a change of the function."""


class Description(TypedDict):
    """Everything that a model and an optimizer must share with those that were saved."""

    version: int
    modules: dict[str, str]
    """By path, each module's class and arguments, as `print` shows them."""
    settings: dict[str, dict[str, str]]
    """By path and name, each module's attributes that are plain data."""
    operations: dict[str, str] | None
    """By path, the operations of a network that is not itself the torch module."""
    coefficients: dict[str, float] | None
    """By name, each weight's coefficient, if the model is a network."""
    optimizer: str | None
    """The class of the optimizer, and of its rule if it has one."""
    parameters: list[list[list[int]]] | None
    """The shapes of the optimizer's parameters, by group."""


def torch_module_of(model: Model) -> nn.Module:
    """Return the torch module with the parameters of a model."""
    return model.torch_module if isinstance(model, Network) else model


def describe(model: Model, optimizer: torch.optim.Optimizer | None) -> Description:
    """Return the description of a model and an optimizer."""
    module = torch_module_of(model)
    return {
        "version": VERSION,
        "modules": {
            path: f"{_class_name(part)}({part.extra_repr()})"
            for path, part in module.named_modules()
        },
        "settings": {path: _settings(part) for path, part in module.named_modules()},
        "operations": _operations(model),
        "coefficients": _coefficients(model),
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
    if not set(Description.__annotations__) <= set(value):
        raise CheckpointError(f"{path} was not written by `save`: its description is incomplete")
    return cast("Description", value)


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


def _settings(module: nn.Module) -> dict[str, str]:
    """The module's own attributes that are plain data.

    Some are left out: public ones that equal the class's, as if they had not been set; masses,
    because the coefficients account for them; and spaces and geometries of a module with modules
    inside, because they follow from those.
    """
    is_compound = next(module.children(), None) is not None
    ignored = _NO_SETTINGS | ({"mass"} if isinstance(module, Network) else set())
    found = {}
    for name, value in vars(module).items():
        if name in ignored or getattr(value, "__self__", None) is module:
            continue
        text = _text(value, structures=not is_compound)
        is_default = text == _text(getattr(type(module), name, _MISSING))
        if text is not None and (name.startswith("_") or not is_default):
            found[name] = text
    return found


_MISSING = object()


def _text(value: object, *, structures: bool = True) -> str | None:
    """Plain data as text, equal for equal data; None for anything else.

    Functions and classes count as plain data by their qualified names, and, with `structures`,
    dataclasses such as geometries by their fields.
    """
    if value is None or isinstance(value, (bool, str, bytes)):
        return repr(value)
    if isinstance(value, Real):
        return _number(float(value))
    if isinstance(value, tuple):
        return _listed("", value, structures=structures)
    if isinstance(value, partial):
        arguments = (value.func, *value.args, *sorted(value.keywords.items()))
        return _listed("partial", arguments, structures=structures)
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if is_dataclass(value) and structures:
        entries = [(one.name, getattr(value, one.name)) for one in fields(value) if one.compare]
        return _listed(type(value).__name__, entries, structures=True)
    return None


def _listed(name: str, values: Sequence[object], *, structures: bool) -> str | None:
    """The texts of several values in brackets; None if one of them is not plain data."""
    texts = [_text(value, structures=structures) for value in values]
    known = [text for text in texts if text is not None]
    return f"{name}({', '.join(known)})" if len(known) == len(texts) else None


def _number(value: float) -> str:
    """A number as text, the same for 2 and 2.0."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _operations(model: Model) -> dict[str, str] | None:
    """The operations of a network that is not itself the torch module.

    A module of the algebra is described completely by its modules and their settings.
    """
    return None if isinstance(model, nn.Module) else dict(model.describe())


def _coefficients(model: Model) -> dict[str, float] | None:
    if not isinstance(model, Network):
        return None
    plan = model.plan()
    return dict(zip(plan.names, plan.coefficients, strict=True))
