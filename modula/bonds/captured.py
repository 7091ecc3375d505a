"""The tensors that a function uses beside its arguments."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from functools import partial

from torch import Tensor, nn

DEPTH = 6
"""How many functions and containers deep the search goes."""


def captured_tensors(function: object) -> Iterator[Tensor]:
    """Yield the parameters and tensors that a function is bound to, closes over or refers to.

    The search goes through modules, bound methods, partial functions, closures, defaults, globals
    that the function's code names, attributes of callable objects, and lists, tuples, sets and
    dicts of all of these. It leaves out functions of torch.

    Args:
        function: any callable.

    Example:
        >>> from torch import nn
        >>> from modula.bonds.captured import captured_tensors
        >>> layer = nn.Linear(2, 3)
        >>> [list(p.shape) for p in captured_tensors(lambda x: layer(x))]
        [[3, 2], [3]]
    """
    return _search(function, set(), DEPTH)


def _search(value: object, seen: set[int], depth: int) -> Iterator[Tensor]:
    if id(value) in seen or depth < 0:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
    else:
        for inner in _held_by(value):
            yield from _search(inner, seen, depth - 1)


def _held_by(value: object) -> Iterator[object]:
    """The objects from which a value is made."""
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, types.FunctionType):
        yield from _held_by_function(value)
    elif not isinstance(value, (type, types.ModuleType)):
        yield getattr(value, "__dict__", {})
        if callable(value):
            yield type(value).__call__  # a method of the class, where Python looks for it


def _held_by_function(function: types.FunctionType) -> Iterator[object]:
    if function.__module__ is not None and function.__module__.partition(".")[0] == "torch":
        return
    yield function.__defaults__ or ()
    yield function.__kwdefaults__ or {}
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # the cell is still empty
            continue
    for name in function.__code__.co_names:
        named = function.__globals__.get(name)
        if isinstance(named, (Tensor, nn.Module, types.FunctionType, list, tuple, dict)):
            yield named
