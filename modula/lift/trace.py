"""`trace`: one run of a torch module, recorded as calls of torch's functions with their sources.

The recorder sees the functions of torch that the forward pass calls, under their own names
(`linear`, `layer_norm`, `scaled_dot_product_attention`), and follows each tensor from the call that
made it to the calls that read it. It keeps no tensor alive: tensors are known by weak references,
and autograd's graph of the run is made without saved activations. That graph serves to check the
recorder: each parameter that a gradient would reach must be among those that it has followed.
"""

from __future__ import annotations

import math
import types
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from modula.algebra.primitive import Primitive
from modula.checks import listed
from modula.errors import LiftError
from modula.lift.inputs import Inputs
from modula.lift.nested import tensors_in
from modula.lift.replay import Replay
from modula.lift.restoring import restored
from modula.lift.signatures import arguments, operation_name, slots
from modula.lift.views import View

COPIES = frozenset(
    ["to", "float", "double", "half", "bfloat16", "type", "type_as", "contiguous", "clone", "cpu"]
)
"""Operations that return the same entries in the same arrangement."""

_VIEWS = ["view", "view_as", "reshape", "reshape_as", "expand", "expand_as", "repeat"]
_AXES = ["t", "T", "mT", "transpose", "permute", "swapaxes", "swapdims", "movedim", "moveaxis"]
_SHAPES = ["unsqueeze", "squeeze", "flatten", "unflatten", "ravel"]
_PARTS = ["chunk", "split", "split_with_sizes", "tensor_split", "hsplit", "vsplit", "unbind"]
_CHOICES = ["getitem", "select", "narrow"]
LAYOUTS = COPIES | frozenset([*_VIEWS, *_AXES, *_SHAPES, *_PARTS, *_CHOICES])
"""Operations that rearrange entries, or leave some of them out."""

_LIKE = frozenset(["view_as", "reshape_as", "expand_as", "type_as", "to"])
"""Operations that take the shape or the dtype of their second argument alone."""

IDENTITIES = frozenset(["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"])
"""Operations that return their input entry by entry, up to entries that are left out."""

CONSTANT = frozenset(["detach", "data", "grad", "new_zeros", "zeros_like", "ones_like"])
"""Operations through which no gradient flows."""

CONTAINERS = frozenset(["multi_head_attention_forward"])
"""Functions of torch.nn.functional that are recorded as the calls inside them."""


@dataclass(frozen=True)
class Source:
    """The origin of a tensor.

    Args:
        kind: "input" of the module, "parameter", "call" for the output of an earlier call,
            "constant", or "unknown" for a tensor that requires a gradient and has no known origin.
        value: a number that identifies the tensor among those of the run; -1 for constants.
        parameter: the name, for a parameter.
        view: of the parameter.
        call: the position of the call, for its output.
    """

    kind: Literal["input", "parameter", "call", "constant", "unknown"]
    value: int = -1
    parameter: str = ""
    view: View | None = None
    call: int = -1


@dataclass(frozen=True)
class Argument:
    """One tensor that a call reads."""

    slot: str
    source: Source
    shape: tuple[int, ...]
    is_floating: bool


@dataclass(frozen=True)
class Call:
    """One call of a function of torch.

    Args:
        index: its position in the run.
        operation: the name of the function.
        path: of the innermost module whose forward method called it.
        arguments: the tensors that it read.
        constants: its other arguments, by name or position.
        outputs: a number for each tensor that it made, which identifies the tensor in the run.
        shapes: theirs.
        again: for an operation that rearranges entries, the call to be made on other tensors.
        entry: the position of the call of modula's own module inside which it happened; -1 for
            none.
    """

    index: int
    operation: str
    path: str
    arguments: tuple[Argument, ...]
    constants: Mapping[str, object]
    outputs: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    again: Replay | None = None
    entry: int = -1

    def plain(self) -> Call:
        """Return the call as data alone."""
        constants = {name: value for name, value in self.constants.items() if _is_plain(value)}
        return replace(self, constants=constants, again=None)

    def factor(self) -> float | None:
        """Return the number by which the call multiplies one tensor; None if it does not."""
        if self.operation not in ("mul", "div"):
            return None
        number = self.constants.get("other", self.constants.get("input"))
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return None
        factor = float(number) if self.operation == "mul" or not number else 1 / number
        return factor if math.isfinite(factor) else None

    def number(self, name: str, default: int) -> int:
        """Return a constant that is a whole number."""
        value = self.constants.get(name, default)
        return value if isinstance(value, int) else default

    def numbers(self, name: str, count: int, default: int) -> tuple[int, ...]:
        """Return a constant that is one whole number for each axis, or one for all."""
        value = self.constants.get(name, default)
        if isinstance(value, (tuple, list)) and len(value) == count:
            return tuple(value)
        if isinstance(value, (tuple, list)) and len(value) == 1:
            return (value[0],) * count
        return (value if isinstance(value, int) else default,) * count


@dataclass(frozen=True)
class Entry:
    """One call of a module of modula's own that is one operation.

    Args:
        path: of the module.
        inputs: the sources of the tensors that it got.
    """

    path: str
    inputs: tuple[Source, ...]


@dataclass(frozen=True)
class Trace:
    """One run of a module, or several.

    Args:
        calls: in the order in which they happened.
        outputs: the sources of the tensors that the module returned.
        names: for each name of a parameter that requires a gradient, the first name of the same
            parameter.
        unused: the parameters that the output of the run does not depend on.
        entries: the calls of modula's own modules, by number.
        unseen: the parameters that a gradient reaches through calls that were not recorded.
    """

    calls: tuple[Call, ...]
    outputs: tuple[Source, ...]
    names: Mapping[str, str]
    unused: tuple[str, ...]
    entries: Mapping[int, Entry] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()

    def reached(self) -> list[int]:
        """Return the positions of the calls that the outputs depend on, in order."""
        return sorted(_reached(self.calls, self.outputs))

    def plain(self) -> Trace:
        """Return the trace without the functions that it would call again, so that it pickles."""
        return replace(self, calls=tuple([call.plain() for call in self.calls]))

    def readers(self) -> dict[int, list[tuple[Call, Argument]]]:
        """Return for each tensor of the run the calls that read it."""
        found: dict[int, list[tuple[Call, Argument]]] = {}
        for call in self.calls:
            for argument in call.arguments:
                found.setdefault(argument.source.value, []).append((call, argument))
        return found


def trace(
    model: nn.Module,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    seed: int = 0,
    *,
    before: Trace | None = None,
    known: Collection[str] = (),
) -> Trace:
    """Run a module once and return what it did.

    Buffers, modes, hooks and random state are afterwards as they were before.

    Args:
        model: any module.
        args, kwargs: of the call.
        seed: of the random numbers of the run.
        before: of an earlier run of the same module, which the result contains too.
        known: the names of parameters that the recorder need not follow.

    Raises:
        LiftError: a gradient reaches another parameter that the recorder did not follow; or no
            output depends on a parameter that requires a gradient.
    """
    recorder = Recorder(model, before)
    with restored(model, seed), recorder.running(args, kwargs):
        output = model(*args, **kwargs)
    outputs = [t for _, t in tensors_in(output) if t.is_floating_point() or t.is_complex()]
    sources = tuple([source for t in outputs for source in recorder.sources(t)])
    calls = tuple(recorder.calls)
    followed = _parameters_of(calls, sources)
    reached = _by_autograd(outputs, model)
    missed = [name for name in recorder.names if name in reached and name not in followed]
    settled = {recorder.names[name] for name in known if name in recorder.names}
    if not settled.issuperset(missed):
        raise LiftError(_trail_lost([n for n in missed if n not in settled], recorder.lost))
    first = dict.fromkeys(recorder.names.values() if before is None else before.unused)
    unseen = tuple(missed)
    if before is not None:
        sources = (*before.outputs, *sources)
        unseen = tuple(dict.fromkeys([*before.unseen, *missed]))
    unused = tuple([name for name in first if name not in followed and name not in unseen])
    if len(unused) == len(set(recorder.names.values())):
        raise LiftError(
            f"the output of {type(model).__name__} depends on no parameter that requires a "
            "gradient: give an input that reaches some, and return tensors, alone or in tuples, "
            "lists, dicts or dataclasses"
        )
    return Trace(calls, sources, dict(recorder.names), unused, recorder.entries, unseen)


def traced(
    model: nn.Module, examples: Sequence[Inputs], seed: int = 0, known: Collection[str] = ()
) -> Trace:
    """Return the runs of a module on several example inputs, as one trace.

    Raises:
        LiftError: as `trace` does.
    """
    run: Trace | None = None
    for example in examples:
        run = trace(model, example.args, example.kwargs, seed, before=run, known=known)
    if run is None:
        raise LiftError("lift takes example inputs of at least one call")
    return run


class Recorder(TorchFunctionMode):
    """Calls of torch's functions, with the sources of the tensors that they read."""

    def __init__(self, model: nn.Module, before: Trace | None) -> None:
        super().__init__()
        self.calls: list[Call] = [] if before is None else list(before.calls)
        self.entries: dict[int, Entry] = {} if before is None else dict(before.entries)
        self.lost: list[tuple[str, str]] = []
        self.names: dict[str, str] = {}
        self._sources = _weak_dictionary()
        self._writes = _Writes()
        self._values = _largest_value(self.calls)
        self._stack = [("", -1)]
        self._paths = {id(module): name for name, module in model.named_modules()}
        first: dict[int, str] = {}
        for name, p in model.named_parameters(remove_duplicate=False):
            if p.requires_grad:
                self.names[name] = first.setdefault(id(p), name)
                source = Source("parameter", self._number(), first[id(p)], View.whole(p.shape))
                self._sources.setdefault(p, source)

    @contextmanager
    def running(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Iterator[None]:
        """Record the calls inside of the block, and the modules that make them."""
        for _, tensor in tensors_in([args, kwargs]):
            self._sources.setdefault(tensor, Source("input", self._number()))
        hooks = [
            register_module_forward_pre_hook(self.enter_module),
            register_module_forward_hook(self.leave_module, always_call=True),
        ]
        without_activations = torch.autograd.graph.saved_tensors_hooks(_drop, _refuse_backward)
        try:
            with torch.enable_grad(), without_activations, self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def enter_module(self, module: nn.Module, args: object) -> None:
        path, entry = self._stack[-1]
        path = self._paths.get(id(module), path)
        if isinstance(module, Primitive):
            entry = len(self.entries)
            inputs = [source for _, t in tensors_in(args) for source in self.sources(t)]
            self.entries[entry] = Entry(path, tuple(inputs))
        self._stack.append((path, entry))

    def leave_module(self, module: nn.Module, args: object, output: object) -> None:
        self._stack.pop()

    def source(self, tensor: Tensor) -> Source:
        """Return the origin of a tensor."""
        found = self._sources.get(tensor)
        if found is not None:
            return found
        return Source("unknown" if tensor.requires_grad else "constant")

    def sources(self, tensor: Tensor) -> list[Source]:
        """Return the origin of a tensor, and the last call that wrote into it since."""
        source, last = self.source(tensor), self._writes.last(tensor)
        return [source] if last is None or last.call <= source.call else [source, last]

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        name = operation_name(func)
        if name in CONTAINERS:
            with self:
                return _inside(func)(*args, **kwargs)
        read = list(slots(name, args, kwargs))
        versions = [_version(t) for _, t in read]
        sources = [self.source(t) for _, t in read]
        result = func(*args, **kwargs)
        made = [t for _, t in tensors_in(result) if t.is_floating_point() or t.is_complex()]
        written = [
            t
            for (_, t), before in zip(read, versions, strict=True)
            if _version(t) != before and (t.is_floating_point() or t.is_complex())
        ]
        if name not in CONSTANT and (made or written):
            self._record(name, func, args, kwargs, read, sources, made, written)
        return result

    def _record(
        self,
        name: str,
        func: Callable[..., object],
        args: Sequence[object],
        kwargs: Mapping[str, object],
        read: list[tuple[str, Tensor]],
        sources: list[Source],
        made: list[Tensor],
        written: list[Tensor],
    ) -> None:
        if name in _LIKE:  # the others give a shape or a dtype alone
            read, sources = read[:1], sources[:1]
        inputs = [t for _, t in read]
        if not written and all(any(t is one for one in inputs) for t in made):
            return  # such as contiguous() of a contiguous tensor
        if not written and self._is_view_of_parameter(name, func, args, kwargs, sources, made):
            return
        if not read and name != "setitem":
            return
        outputs = _distinct([*made, *written])
        index = len(self.calls)
        found = self._arguments(name, read, sources)
        again = None
        if name in LAYOUTS and not written:
            again = Replay.of(*_without_like(name, func, args), kwargs, self._value)
        values = tuple([self._number() for _ in outputs])
        shapes = tuple([tuple(t.shape) for t in outputs])
        constants = {
            slot: value
            for slot, value in arguments(name, args, kwargs)
            if not any(True for _ in tensors_in(value))
        }
        path, entry = self._stack[-1]
        self.calls.append(
            Call(index, name, path, tuple(found), constants, values, shapes, again, entry)
        )
        self.measure(index, func, args, kwargs)
        for tensor, value in zip(outputs, values, strict=True):
            self._sources[tensor] = Source("call", value, call=index)
        for tensor in written:
            self._writes.add(tensor, self._sources[tensor])

    def measure(
        self,
        index: int,
        func: Callable[..., object],
        args: Sequence[object],
        kwargs: Mapping[str, object],
    ) -> None:
        """Do nothing with a call that was recorded; a subclass may make it again.

        Args:
            index: its position in the run.
            func, args, kwargs: the call.
        """

    def _arguments(
        self, name: str, read: list[tuple[str, Tensor]], sources: list[Source]
    ) -> Iterator[Argument]:
        for (slot, tensor), source in zip(read, sources, strict=True):
            floating = tensor.is_floating_point() or tensor.is_complex()
            yield Argument(slot, source, tuple(tensor.shape), floating)
            if source.kind == "unknown":
                self.lost.append((name, self._stack[-1][0]))
            last = self._writes.last(tensor)
            if last is not None and last.call > source.call:
                yield Argument(f"{slot} as written", last, tuple(tensor.shape), floating)

    def _is_view_of_parameter(
        self,
        name: str,
        func: Callable[..., object],
        args: Sequence[object],
        kwargs: Mapping[str, object],
        sources: list[Source],
        made: list[Tensor],
    ) -> bool:
        """Whether the outputs are views of one parameter, which are not recorded as calls."""
        if name not in LAYOUTS or not args or not isinstance(args[0], Tensor):
            return False
        source, *others = sources
        if others and name not in _LIKE:
            return False
        if source.kind != "parameter" or source.view is None:
            return False
        if name in COPIES:
            views: list[View | None] = [source.view] * len(made)
        else:
            with torch._C.DisableTorchFunction():
                views = source.view.after(lambda t: func(t, *args[1:], **kwargs))
        if len(views) != len(made) or None in views:
            return False
        for tensor, view in zip(made, views, strict=True):
            parameter = source.parameter
            self._sources[tensor] = Source("parameter", self._number(), parameter, view)
        return True

    def _value(self, tensor: Tensor) -> int:
        return self.source(tensor).value

    def _number(self) -> int:
        self._values += 1
        return self._values


def _without_like(
    name: str, func: Callable[..., object], args: Sequence[object]
) -> tuple[Callable[..., object], Sequence[object]]:
    """The function and arguments of a call that takes a shape, where this one takes a tensor."""
    by_shape: dict[str, Callable[..., object]] = {
        "view_as": Tensor.view,
        "reshape_as": Tensor.reshape,
        "expand_as": Tensor.expand,
    }
    if name not in by_shape or len(args) < 2 or not isinstance(args[1], Tensor):
        return func, args
    return by_shape[name], (args[0], tuple(args[1].shape))


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_is_plain(one) for one in value)
    return value is None or isinstance(value, (bool, int, float, str, torch.dtype))


def _weak_dictionary() -> MutableMapping[Tensor, Source]:
    """A mapping from tensors, by identity, that keeps none of them alive."""
    return cast("MutableMapping[Tensor, Source]", WeakTensorKeyDictionary())


class _Writes:
    """The last call that wrote each storage."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[StorageWeakRef, Source]] = {}

    def add(self, tensor: Tensor, source: Source) -> None:
        reference = _weak(tensor)
        self._last[reference.cdata] = (reference, source)  # its weak reference keeps the key unique

    def last(self, tensor: Tensor) -> Source | None:
        if not self._last or tensor.layout is not torch.strided:
            return None
        found = self._last.get(_weak(tensor).cdata)
        return None if found is None else found[1]


def _weak(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call] # as torch has it


def _drop(tensor: Tensor) -> None:
    """Save nothing of an activation for a backward pass, since there is none."""


def _refuse_backward(nothing: None) -> Tensor:
    raise LiftError(
        "the forward pass runs a backward pass of its own: a network that differentiates itself "
        "cannot be lifted"
    )


def _inside(func: Callable[..., object]) -> Callable[..., object]:
    """A function of torch.nn.functional that does not hand itself to a mode, but its calls.

    It is the function's own code with another answer to the one question whether a mode is active.
    """
    if not isinstance(func, types.FunctionType):
        return func
    names = {**func.__globals__, "has_torch_function": lambda tensors: False}
    copy = types.FunctionType(
        func.__code__, names, func.__name__, func.__defaults__, func.__closure__
    )
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


def _largest_value(calls: Sequence[Call]) -> int:
    """The largest number of a tensor in earlier runs."""
    read = [a.source.value for call in calls for a in call.arguments]
    return max([*read, *[value for call in calls for value in call.outputs]], default=0)


def _distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    return list({id(t): t for t in tensors}.values())


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _reached(calls: Sequence[Call], outputs: Iterable[Source]) -> set[int]:
    """The positions of the calls that the outputs depend on."""
    found: set[int] = set()
    waiting = [source.call for source in outputs if source.kind == "call"]
    while waiting:
        index = waiting.pop()
        if index in found:
            continue
        found.add(index)
        waiting += [a.source.call for a in calls[index].arguments if a.source.kind == "call"]
    return found


def _parameters_of(calls: Sequence[Call], outputs: Sequence[Source]) -> set[str]:
    """The first names of the parameters that the outputs depend on."""
    direct = [source.parameter for source in outputs if source.kind == "parameter"]
    used = [
        argument.source.parameter
        for index in _reached(calls, outputs)
        for argument in calls[index].arguments
        if argument.source.kind == "parameter"
    ]
    return {*direct, *used}


def _by_autograd(outputs: Sequence[Tensor], model: nn.Module) -> set[str]:
    """The first names of the parameters that a gradient of the outputs reaches."""
    names = {id(p): name for name, p in model.named_parameters()}
    found: set[str] = set()
    seen: set[object] = set()
    waiting: list[torch.autograd.graph.Node | None] = [t.grad_fn for t in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) in names:
            found.add(names[id(leaf)])
        waiting += [following for following, _ in node.next_functions]
    return found


def _trail_lost(missed: Sequence[str], lost: Sequence[tuple[str, str]]) -> str:
    places = list(dict.fromkeys([f"{name} in {path or 'the model'}" for name, path in lost]))
    where = (
        f"; it was lost before {listed(places)}, which read a tensor that no recorded function of "
        "torch had made"
        if places
        else ""
    )
    return (
        f"a gradient reaches {listed(missed)}, and the recorded run does not lead there{where}. "
        "TorchScript modules, kernels of other libraries and what runs inside of a transform of "
        "torch.func are not seen: call the Python code itself, give these parameters their norms, "
        f"as in lift(…, roles={{{missed[0]!r}: modula.geometry.Spectral(RMS, RMS)}}), or freeze "
        "them with requires_grad_(False)"
    )
