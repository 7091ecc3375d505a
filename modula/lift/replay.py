"""`Replay`: a call that can be made again on other tensors, and keeps none alive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from modula.lift.nested import tensors_in


@dataclass(frozen=True)
class Reference:
    """The place of a tensor in the arguments of a call."""

    value: int


@dataclass(frozen=True)
class Replay:
    """A function with its arguments, in which references stand for tensors."""

    function: Callable[..., object]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]

    @classmethod
    def of(
        cls,
        function: Callable[..., object],
        args: Sequence[object],
        kwargs: Mapping[str, object],
        number: Callable[[Tensor], int],
    ) -> Replay:
        """Return the replay of a call, with the number of each tensor in its place."""

        def replaced(data: object) -> object:
            return _mapped(lambda leaf: Reference(number(leaf)), Tensor, data)

        named = {name: replaced(value) for name, value in kwargs.items()}
        return cls(function, tuple(map(replaced, args)), named)

    def on(self, tensors: Mapping[int, Tensor]) -> list[Tensor]:
        """Make the call again, with these tensors, and return those that it makes."""

        def filled(data: object) -> object:
            return _mapped(lambda reference: tensors[reference.value], Reference, data)

        named = {name: filled(value) for name, value in self.kwargs.items()}
        made = self.function(*map(filled, self.args), **named)
        return [tensor for _, tensor in tensors_in(made)]


def _mapped(f: Callable[..., object], kind: type, data: object) -> object:
    """The data with f applied to each leaf of that type."""
    if isinstance(data, kind):
        return f(data)
    if type(data) is tuple:
        return tuple([_mapped(f, kind, one) for one in data])
    if type(data) is list:
        return [_mapped(f, kind, one) for one in data]
    return data
