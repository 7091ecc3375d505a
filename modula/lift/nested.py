"""Tensors inside of nested data: tuples, lists, mappings and dataclasses."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping

from torch import Tensor

SEQUENCES = (tuple, list, set, frozenset)


def tensors_in(data: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor in nested data, with its path of keys, indices and fields.

    Args:
        data: tensors in tuples, lists, mappings and dataclasses, nested in any way. Anything else
            is passed over.
        path: of the data itself.

    Example:
        >>> import torch
        >>> from modula.lift.nested import tensors_in
        >>> [path for path, _ in tensors_in({"a": [torch.ones(1), 2], "b": (torch.ones(1),)})]
        ['a.0', 'b.0']
    """
    if isinstance(data, Tensor):
        yield path, data
        return
    inside = f"{path}." if path else ""
    for key, value in _entries(data):
        yield from tensors_in(value, f"{inside}{key}")


def map_tensors(f: Callable[[Tensor], Tensor], data: object) -> object:
    """Return nested data of the same types, with f applied to each tensor.

    Example:
        >>> import torch
        >>> from modula.lift.nested import map_tensors
        >>> map_tensors(torch.neg, {"a": (torch.ones(1), "text")})
        {'a': (tensor([-1.]), 'text')}
    """
    if isinstance(data, Tensor):
        return f(data)
    if isinstance(data, MutableMapping):
        changed = copy.copy(data)
        for key, value in data.items():
            changed[key] = map_tensors(f, value)
        return changed
    if isinstance(data, (tuple, list)):
        values = [map_tensors(f, value) for value in data]
        make: Callable[..., object] = getattr(data, "_make", type(data))  # a named tuple has one
        return make(values)
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        changed_data = copy.copy(data)
        for key, value in _entries(data):
            object.__setattr__(changed_data, str(key), map_tensors(f, value))
        return changed_data
    return data


def _entries(data: object) -> Iterator[tuple[object, object]]:
    if isinstance(data, Mapping):
        yield from data.items()
    elif isinstance(data, SEQUENCES):
        yield from enumerate(data)
    elif dataclasses.is_dataclass(data) and not isinstance(data, type):
        for field in dataclasses.fields(data):
            yield field.name, getattr(data, field.name, None)
