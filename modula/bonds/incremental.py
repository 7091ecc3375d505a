"""`Incremental`: bonds that read earlier positions, and can continue a sequence from their state.

All other modules of a causal network treat each position by itself.
"""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

from modula.values import Value

S = TypeVar("S")

SPARE = 2
"""By how much a full buffer grows, so that n appended positions are copied O(n) times in all."""


@runtime_checkable
class Incremental(Protocol[S]):
    """A bond whose output at a position depends on earlier positions.

    `modula.KeyValueCache` calls `start` once for a sequence and `resume` for each piece of it. The
    outputs of the pieces, joined, must be that of the whole sequence.
    """

    def start(self) -> S:
        """Return the state before the first position."""
        ...

    def resume(self, x: Value, state: S) -> tuple[Value, S]:
        """Return the output at the new positions, and the state after them.

        Args:
            x: the input at the new positions.
            state: after the positions before them; it is not used again.
        """
        ...


class Positions:
    """Vectors of all positions so far, [..., position, d], which grow at the end.

    Args:
        most: the number of positions that are kept; None keeps all of them.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._buffer: Tensor | None = None
        self._first = 0
        self._end = 0

    def append(self, x: Tensor) -> Tensor:
        """Add new positions, and return them with those kept of the ones before.

        Args:
            x: [..., position, d].
        """
        kept = self._end - self._first
        if self._most is not None:
            kept = min(kept, self._most)
        new = x.shape[-2]
        buffer, first = self._buffer, self._end - kept
        if buffer is None or self._end + new > buffer.shape[-2]:
            grown = x.new_empty(*x.shape[:-2], SPARE * (kept + new), x.shape[-1])
            if buffer is not None:
                grown[..., :kept, :] = buffer[..., first : self._end, :]
            self._buffer, buffer, first = grown, grown, 0
        self._first, self._end = first, first + kept + new
        buffer[..., self._end - new : self._end, :] = x
        return buffer[..., first : self._end, :]
