"""The contents of a checkpoint: states, the user's extras, and a description of both."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from modula.checkpoint.description import Description, Model, describe, torch_module_of
from modula.errors import CheckpointError
from modula.network import Network
from modula.sharding import is_sharded

State: TypeAlias = dict[str, Any]
"""A state dict, of a model or of an optimizer."""

TensorMap: TypeAlias = Callable[[str, Tensor, Tensor], Tensor]
"""From a tensor's name, the tensor, and its counterpart in the model, to another tensor."""

_PLAIN = {type(None), bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device}
_LONGEST_INTEGER = 2000
"""In bits; those of 255 bytes and more have an opcode of their own, which torch.load refuses."""

_MAPPINGS = {dict, OrderedDict, Counter}
_SEQUENCES = {list, tuple}


@dataclass
class Contents:
    """A checkpoint in memory.

    Args:
        description: of the model and the optimizer.
        model: its state dict.
        optimizer: its state dict, or None.
        extra: the user's additions, by name.
        digest: of the file that was read; empty before that.
    """

    description: Description
    model: State
    optimizer: State | None
    extra: State
    digest: str = ""

    def tensors(self) -> Iterator[Tensor]:
        """Yield the tensors of both states."""
        yield from _tensors(self.model)
        yield from _tensors(self.optimizer)


def contents_of(model: Model, optimizer: torch.optim.Optimizer | None, extra: State) -> Contents:
    """Return the contents of a new checkpoint.

    Raises:
        CheckpointError: the model is wrapped, or something is neither a tensor nor plain data.
    """
    module = torch_module_of(model)
    if not isinstance(model, Network):
        _refuse_wrapper(module)
    refuse_meta(module)
    contents = Contents(
        describe(model, optimizer),
        module.state_dict(),
        None if optimizer is None else optimizer.state_dict(),
        extra,
    )
    _refuse_objects(contents.model, "model.state_dict()")
    _refuse_objects(contents.optimizer, "optimizer.state_dict()")
    for name, value in extra.items():
        _refuse_objects(value, name)
        if any(is_sharded(t) for t in _tensors(value)):
            raise CheckpointError(
                f"{name} is sharded, and only the first process's values are saved: save its "
                "full_tensor()"
            )
    return contents


def _refuse_wrapper(module: nn.Module) -> None:
    """Raise if the module wraps the model.

    Raises:
        CheckpointError: all its names start with a wrapper's prefix.
    """
    names = list(module.state_dict())
    for prefix, inner in (("module.", "ddp.module"), ("_orig_mod.", "compiled._orig_mod")):
        if names and all(name.startswith(prefix) for name in names):
            raise CheckpointError(
                f"{type(module).__name__} wraps the model, and the names in it all start with "
                f"{prefix!r}: pass the model itself ({inner})"
            )


def refuse_meta(module: nn.Module) -> None:
    """Raise if a model has no values, since it can neither be saved nor written to.

    Raises:
        CheckpointError: a parameter or buffer is on the meta device.
    """
    bare = next(
        (name for name, t in module.state_dict().items() if isinstance(t, Tensor) and t.is_meta),
        None,
    )
    if bare is not None:
        raise CheckpointError(
            f"{bare!r} of the model is on the meta device, without values: call "
            "model.to_empty(device=…) first"
        )


def _refuse_objects(value: object, location: str) -> None:
    """Raise if `torch.load(weights_only=True)` would not read a value back.

    Args:
        value: to be saved.
        location: of the value, for the error.

    Raises:
        CheckpointError: it is neither a tensor nor plain data, or contains itself.
    """
    try:
        _refuse_objects_in(value, location)
    except RecursionError:
        raise CheckpointError(
            f"{location} contains itself, or lists in lists to a great depth, and a checkpoint "
            "contains plain data"
        ) from None


def _refuse_objects_in(value: object, location: str) -> None:
    kind = type(value)
    if isinstance(value, Tensor):
        if value.is_meta:
            raise CheckpointError(f"{location} is on the meta device, without values")
    elif isinstance(value, dict) and kind in _MAPPINGS:
        for key, entry in value.items():
            _refuse_as_key(key, f"a key of {location}")
            _refuse_objects_in(entry, f"{location}[{key!r}]")
    elif isinstance(value, (list, tuple)) and kind in _SEQUENCES:
        for i, entry in enumerate(value):
            _refuse_objects_in(entry, f"{location}[{i}]")
    elif isinstance(value, set) and kind is set:
        for entry in value:
            _refuse_as_key(entry, f"an element of {location}")
    elif kind not in _PLAIN or not _is_read_back(value):
        raise CheckpointError(
            f"{location} is a {kind.__name__}, and a checkpoint contains tensors, numbers, "
            f"strings, and lists and dicts of them: {_alternative(value)}"
        )


def _is_read_back(value: object) -> bool:
    """Whether `torch.load(weights_only=True)` reads plain data that it reads in general."""
    if isinstance(value, int):
        return value.bit_length() <= _LONGEST_INTEGER
    return value != b""


def _refuse_as_key(key: object, location: str) -> None:
    """Raise if a value would not be equal to itself, or not be read back, as a key."""
    if isinstance(key, Tensor):
        raise CheckpointError(f"{location} is a Tensor, which no other tensor is equal to")
    _refuse_objects_in(key, location)


def _alternative(value: object) -> str:
    """The advice for an object that cannot be saved."""
    if isinstance(value, int):
        return f"save an integer of more than {_LONGEST_INTEGER} bits as a string"
    if isinstance(value, bytes):
        return "save None for bytes of length 0, which torch.load refuses"
    if isinstance(value, torch.Generator):
        return "save generator.get_state()"
    if hasattr(value, "state_dict"):
        return "save its state_dict()"
    if hasattr(value, "item") and hasattr(value, "dtype"):
        return "save a number with .item(), an array with torch.from_numpy"
    return "save the data from which it can be made again"


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _tensors(entry)


def map_tensors(
    contents: Contents, module: nn.Module, optimizer: torch.optim.Optimizer | None, f: TensorMap
) -> Contents:
    """Return the contents with f applied to each weight, buffer, average and master copy.

    Single numbers, such as counts of steps, stay as they are.

    Args:
        contents: of this model and this optimizer, or of others that match them.
        module: the model's torch module.
        optimizer: the optimizer, or None.
        f: takes the tensor's name ("model.0.weight", or "optimizer.0.momentum_buffer" of the
            optimizer's first parameter), the tensor, and its counterpart.
    """
    own = module.state_dict()
    states = {
        name: f(f"model.{name}", t, own[name]) if isinstance(t, Tensor) else t
        for name, t in contents.model.items()
    }
    return Contents(
        contents.description,
        states,
        _map_optimizer(contents.optimizer, optimizer, f),
        contents.extra,
    )


def _map_optimizer(
    saved: State | None, optimizer: torch.optim.Optimizer | None, f: TensorMap
) -> State | None:
    if saved is None or optimizer is None:
        return saved
    state = dict(saved["state"])
    for given, own in zip(saved["param_groups"], optimizer.param_groups, strict=True):
        for index, p in zip(given["params"], own["params"], strict=True):
            if isinstance(state.get(index), dict):
                kept = optimizer.state.get(p, {})
                state[index] = {
                    key: f(f"optimizer.{index}.{key}", t, _counterpart(kept.get(key), p))
                    if isinstance(t, Tensor) and t.shape == p.shape and t.dim()
                    else t
                    for key, t in state[index].items()
                }
    return {**saved, "state": state}


def _counterpart(kept: object, p: Tensor) -> Tensor:
    """The optimizer's own tensor in the place of a saved one: that of p if it has none yet.

    A sharded weight may have averages that are sharded and others that every process has whole.
    """
    return kept if isinstance(kept, Tensor) and kept.shape == p.shape else p
