"""The settings of a module as text: its attributes that are plain data."""

from __future__ import annotations

import dis
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from numbers import Real
from types import CellType, CodeType, FunctionType, MethodType, SimpleNamespace

import torch
from torch import Tensor, nn

from modula.network import Network
from modula.sharding import is_sharded

_NOT_SETTINGS = {*dir(nn.Module()), "gradient_checkpointing", "name_or_path"}
"""Attributes that torch and Transformers set without a change of the function."""

TABLE = "tensor("
"""The start of the text of a tensor."""

_MISSING = object()

_INTEGERS = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}

_LARGE = 1 << 20
"""The number of entries from which on a tensor is represented by their sum."""

_LONGEST = 200
"""The number of characters from which on a text is represented by its start and its hash."""


def settings_of(module: nn.Module) -> dict[str, str]:
    """Return the module's own attributes that are plain data, and its tables that it does not save.

    Some are left out: public ones that equal the class's, as if they had not been set; masses,
    because the coefficients account for them; and spaces and geometries of a module with modules
    inside, because they follow from those.
    """
    is_compound = next(module.children(), None) is not None
    ignored = _NOT_SETTINGS | ({"mass"} if isinstance(module, Network) else set())
    found = {}
    for name, value in vars(module).items():
        if name in ignored or getattr(value, "__self__", None) is module:
            continue
        text = plain_text(value, structures=not is_compound)
        is_default = text == plain_text(getattr(type(module), name, _MISSING))
        if text is not None and (name.startswith("_") or not is_default):
            found[name] = text
    for name in sorted(module._non_persistent_buffers_set):
        table = _table(module._buffers[name])
        if table is not None:
            found[name] = table
    return found


def plain_text(value: object, *, structures: bool = True) -> str | None:
    """Return plain data as text, equal for equal data; None for anything else.

    Functions and classes count as plain data by their qualified names and by the plain data that
    they enclose, a lambda by its code as well; tensors if their entries are integers; and, with
    `structures`, dataclasses such as geometries by their fields.
    """
    try:
        text = _text(value, structures)
    except RecursionError:  # it contains itself
        return None
    if text is None or len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]}… (SHA-256 {hashlib.sha256(text.encode()).hexdigest()})"


def _text(value: object, structures: bool) -> str | None:
    if value is None or isinstance(value, (bool, str, bytes, complex, range, slice, torch.dtype)):
        return repr(value)
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, Real):
        return _number(float(value))
    if isinstance(value, Tensor):
        return _table(value)
    if isinstance(value, (tuple, list)):
        return _listed("" if isinstance(value, tuple) else "list", value, structures)
    if isinstance(value, (set, frozenset)):
        return _sorted("set", value, structures)
    if isinstance(value, dict):
        return _sorted("dict", value.items(), structures)
    if isinstance(value, SimpleNamespace):
        return _sorted("namespace", vars(value).items(), structures)
    if callable(value):
        return _text_of_callable(value, structures)
    if is_dataclass(value) and structures:
        entries = [(one.name, getattr(value, one.name)) for one in fields(value) if one.compare]
        return _listed(type(value).__name__, entries, structures)
    return None


def _listed(name: str, values: Iterable[object], structures: bool) -> str | None:
    """The texts of several values in brackets; None if one of them is not plain data."""
    texts = [_text(value, structures) for value in values]
    known = [text for text in texts if text is not None]
    return f"{name}({', '.join(known)})" if len(known) == len(texts) else None


def _sorted(name: str, values: Iterable[object], structures: bool) -> str | None:
    """The same for values that have no order."""
    texts = [_text(value, structures) for value in values]
    known = sorted([text for text in texts if text is not None])
    return f"{name}({', '.join(known)})" if len(known) == len(texts) else None


def _number(value: float) -> str:
    """A number as text, the same for 2 and 2.0."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _table(value: Tensor | None) -> str | None:
    """A tensor of integers as text; None for others, since floating-point ones are often caches.

    Conversions of a model's dtype do not change it.
    """
    if value is None or value.dtype not in _INTEGERS or value.layout is not torch.strided:
        return None
    if value.is_meta or is_sharded(value):
        return None
    if value.numel() > _LARGE:  # a sum is taken on the device, without a copy
        digest = f"sum {int(value.sum(dtype=torch.int64))}"
    else:
        entries = value.detach().cpu().contiguous().numpy()
        digest = f"SHA-256 {hashlib.sha256(entries.tobytes()).hexdigest()[:16]}"
    return f"{TABLE}{str(value.dtype).removeprefix('torch.')}, {list(value.shape)}, {digest})"


def _text_of_callable(value: Callable[..., object], structures: bool) -> str | None:
    if isinstance(value, nn.Module):
        return None
    if isinstance(value, partial):
        arguments = (value.func, *value.args, *sorted(value.keywords.items()))
        return _listed("partial", arguments, structures)
    if isinstance(value, MethodType):
        return _listed(value.__qualname__, [value.__self__], structures)
    if isinstance(value, FunctionType):
        return _text_of_function(value, structures)
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    attributes = sorted(getattr(value, "__dict__", {}).items())
    return _listed(type(value).__qualname__, attributes, structures)


def _text_of_function(value: FunctionType, structures: bool) -> str:
    """Its name, and the plain data among the variables that it encloses.

    Of a function that another one makes also its defaults, which can differ each time.
    """
    others = [cell.cell_contents for cell in value.__closure__ or () if _is_set(cell)]
    if "<" in value.__qualname__:  # "<locals>" or "<lambda>"
        others += [*(value.__defaults__ or ()), *sorted((value.__kwdefaults__ or {}).items())]
    texts = [_text(other, structures) for other in others if other is not value]
    if value.__name__ == "<lambda>":
        texts += [f"code {' '.join(_steps(value.__code__))}"]
    known = [text for text in texts if text is not None]
    name = f"{value.__module__}.{value.__qualname__}"
    return f"{name}({', '.join(known)})" if known else name


def _is_set(cell: CellType) -> bool:
    """Whether an enclosed variable has a value."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _steps(code: CodeType) -> Iterator[str]:
    """The constants, names and operators in a code, in which two lambdas can differ."""
    for step in dis.get_instructions(code):
        if isinstance(step.argval, CodeType):
            yield from _steps(step.argval)
        elif "CONST" in step.opname or "SMALL_INT" in step.opname:
            yield repr(step.argval)
        elif step.opcode in dis.hasname:
            yield str(step.argval)
        elif step.opname.startswith(("BINARY", "COMPARE", "UNARY")):
            yield step.argrepr or step.opname
