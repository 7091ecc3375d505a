"""What a checkpoint holds: states, what the user adds, and a description by which a mismatch is
found before anything is loaded.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, cast

import torch
from torch import Tensor, nn

from modula.errors import CheckpointError
from modula.network import Network
from modula.optim import SteepestDescent

State: TypeAlias = dict[str, Any]
"""A state dict, of a model or of an optimizer."""

_PLAIN = {type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device}
_MAPPINGS = {dict, OrderedDict, Counter}
_SEQUENCES = {list, tuple, set}


VERSION = 1
"""Of what a checkpoint holds; to be raised when older libraries can no longer read it."""


class Description(TypedDict):
    """What a model and an optimizer must have in common with those that were saved."""

    version: int
    modules: dict[str, str]
    """By path, what each module is, as `print` shows it."""
    shares: dict[str, float] | None
    """By name, each weight's share of a step, where the model is modula's."""
    optimizer: str | None
    """What kind of optimizer it is."""
    parameters: list[list[list[int]]] | None
    """The shapes of its parameters, by group."""


@dataclass
class Contents:
    """A checkpoint in memory.

    Args:
        description: of the model and the optimizer.
        model: its state dict.
        optimizer: its state dict, or None.
        extra: what the user adds.
    """

    description: Description
    model: State
    optimizer: State | None
    extra: State

    def tensors(self) -> Iterator[Tensor]:
        """All of the states."""
        yield from _tensors(self.model)
        yield from _tensors(self.optimizer)


def contents_of(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, extra: State
) -> Contents:
    """What is to be saved.

    Raises:
        CheckpointError: the model is wrapped, or something is neither a tensor nor plain data.
    """
    state = model.state_dict()
    for wrapper, inner in (("module.", "ddp.module"), ("_orig_mod.", "compiled._orig_mod")):
        if (
            state
            and all(name.startswith(wrapper) for name in state)
            and not isinstance(model, Network)
        ):
            raise CheckpointError(
                f"{type(model).__name__} wraps the model, and the names in it all start with "
                f"{wrapper!r}: pass the model itself ({inner})"
            )
    contents = Contents(
        describe(model, optimizer),
        state,
        None if optimizer is None else optimizer.state_dict(),
        extra,
    )
    refuse_meta(model)
    _refuse_objects(contents.model, "model.state_dict()")
    _refuse_objects(contents.optimizer, "optimizer.state_dict()")
    for name, value in extra.items():
        _refuse_objects(value, name)
    return contents


def refuse_meta(model: nn.Module) -> None:
    """Refuse a model without values, which can neither be saved nor written to.

    Raises:
        CheckpointError: a parameter or buffer is on the meta device.
    """
    bare = next(
        (name for name, t in model.state_dict().items() if isinstance(t, Tensor) and t.is_meta),
        None,
    )
    if bare is not None:
        raise CheckpointError(
            f"{bare!r} of the model is on the meta device, without values: call "
            "model.to_empty(device=…) first"
        )


def description_in(value: object, path: Path) -> Description:
    """The description that was read from a file.

    Raises:
        CheckpointError: it is none, or of a later version of this library.
    """
    if not isinstance(value, dict) or not set(Description.__annotations__) <= set(value):
        raise CheckpointError(f"{path} was not written by `save`: its description is incomplete")
    if value["version"] != VERSION:
        raise CheckpointError(
            f"{path} is a checkpoint of version {value['version']}, this library reads version "
            f"{VERSION}: update it"
        )
    return cast("Description", value)


def describe(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Description:
    """What a model and an optimizer are."""
    return {
        "version": VERSION,
        "modules": {
            path: f"{_class_name(module)}({module.extra_repr()})"
            for path, module in model.named_modules()
        },
        "shares": _shares(model),
        "optimizer": None if optimizer is None else kind_of(optimizer),
        "parameters": None
        if optimizer is None
        else [[list(p.shape) for p in group["params"]] for group in optimizer.param_groups],
    }


def kind_of(optimizer: torch.optim.Optimizer) -> str:
    """The class of an optimizer, with what SteepestDescent makes of gradients."""
    name = type(optimizer).__name__
    return (
        f"{name} by {type(optimizer._rule).__name__}"
        if isinstance(optimizer, SteepestDescent)
        else name
    )


def _class_name(module: nn.Module) -> str:
    """The name of its class, not of the one that `fully_shard` makes of it."""
    return next(
        base.__name__
        for base in type(module).__mro__
        if not base.__module__.startswith("torch.distributed.")
    )


def _shares(model: nn.Module) -> dict[str, float] | None:
    if not isinstance(model, Network):
        return None
    plan = model.plan()
    return dict(zip(plan.names, plan.coefficients, strict=True))


def _refuse_objects(value: object, place: str) -> None:
    """Refuse what `torch.load(weights_only=True)` would not read back, by the place where it
    stands.

    Raises:
        CheckpointError: it is neither a tensor nor plain data.
    """
    kind = type(value)
    if kind in _PLAIN or isinstance(value, Tensor):
        return
    if isinstance(value, dict) and kind in _MAPPINGS:
        for key, entry in value.items():
            _refuse_objects(key, f"a key of {place}")
            _refuse_objects(entry, f"{place}[{key!r}]")
    elif isinstance(value, (list, tuple, set)) and kind in _SEQUENCES:
        for i, entry in enumerate(value):
            _refuse_objects(entry, f"{place}[{i}]")
    else:
        raise CheckpointError(
            f"{place} is a {kind.__name__}, and a checkpoint holds tensors, numbers, strings, and "
            f"lists and dicts of them: {_cure(value)}"
        )


def _cure(value: object) -> str:
    if isinstance(value, torch.Generator):
        return "save generator.get_state()"
    if hasattr(value, "state_dict"):
        return "save its state_dict()"
    if hasattr(value, "item") and hasattr(value, "dtype"):
        return "save a number with .item(), an array with torch.from_numpy"
    return "save what is needed to make it again"


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _tensors(entry)


Move: TypeAlias = Callable[[str, Tensor, Tensor], Tensor]
"""From the name of a tensor, the tensor, and the one of the model that it belongs to, to another
tensor."""


def mapped(
    contents: Contents, model: nn.Module, optimizer: torch.optim.Optimizer | None, f: Move
) -> Contents:
    """The contents with f applied to each tensor that is as large as a parameter or buffer:
    weights, averages, master copies.

    Args:
        contents: those of this model and this optimizer, or of others that match them.
        f: gets the tensor's name ("model.0.weight", "optimizer.0.weight.momentum_buffer"), itself,
            and its counterpart.
    """
    own = model.state_dict()
    states = {
        name: f(f"model.{name}", t, own[name]) if isinstance(t, Tensor) else t
        for name, t in contents.model.items()
    }
    return Contents(
        contents.description,
        states,
        _mapped_optimizer(contents.optimizer, optimizer, f),
        contents.extra,
    )


def _mapped_optimizer(
    saved: State | None, optimizer: torch.optim.Optimizer | None, f: Move
) -> State | None:
    if saved is None or optimizer is None:
        return saved
    state = dict(saved["state"])
    for given, own in zip(saved["param_groups"], optimizer.param_groups, strict=True):
        names = given.get("param_names") or given["params"]
        for index, name, p in zip(given["params"], names, own["params"], strict=True):
            if index in state:
                state[index] = {
                    key: f(f"optimizer.{name}.{key}", t, p)
                    if isinstance(t, Tensor) and t.shape == p.shape and t.dim()
                    else t
                    for key, t in state[index].items()
                }
    return {**saved, "state": state}
