"""`View`: which entries of a parameter an operation reads, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Refined:
    """How the axes of a view run along those of its parameter.

    Args:
        shape: of the parameter, with its axes divided so that each axis of the view runs along
            whole ones.
        axes: for each axis of the view, those of `shape` along which it runs, the outer first.
        start, length: the part of each axis of `shape` that the view takes.
    """

    shape: tuple[int, ...]
    axes: tuple[tuple[int, ...], ...]
    start: tuple[int, ...]
    length: tuple[int, ...]


@dataclass(frozen=True)
class _Piece:
    """A part of an axis of a parameter along which an axis of a view runs."""

    view_axis: int
    axis: int
    step: int
    count: int


@dataclass(frozen=True)
class View:
    """Entries of a parameter, as a strided view of the parameter stored contiguously.

    Args:
        parameter: its shape.
        shape, stride, offset: of the view.
    """

    parameter: tuple[int, ...]
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0

    @classmethod
    def whole(cls, shape: Sequence[int]) -> View:
        """Return the view of all entries in their order."""
        return cls(tuple(shape), tuple(shape), _strides(shape))

    @property
    def is_whole(self) -> bool:
        """Whether the view is the parameter itself."""
        return self == View.whole(self.parameter)

    def axis_of(self, axis: int) -> int | None:
        """Return the axis of the parameter along which an axis of the view runs.

        Returns:
            None if the axis has length 1, or runs along no single axis of the parameter.
        """
        if self.shape[axis] == 1:
            return None
        return next(
            (
                k
                for k, (length, stride) in enumerate(
                    zip(self.parameter, _strides(self.parameter), strict=True)
                )
                if stride == self.stride[axis] and length >= self.shape[axis] and length > 1
            ),
            None,
        )

    def refined(self) -> Refined | None:
        """Return how the axes run along those of the parameter.

        Axes of length 1 are matched in order; where the parameter has fewer, `Refined.shape` has
        more of them in front. An axis along which entries are repeated runs along none.

        Returns:
            None if the axes run along no axes of the parameter, as that of a diagonal.
        """
        pieces: list[_Piece] = []
        for k, (length, stride) in enumerate(zip(self.shape, self.stride, strict=True)):
            found = self._pieces(k, length, stride) if length > 1 and stride else []
            if found is None:
                return None
            pieces += found
        shape: list[int] = []
        position: dict[_Piece, int] = {}
        for axis, length in enumerate(self.parameter):
            divided = _divided(length, [piece for piece in pieces if piece.axis == axis])
            if divided is None:
                return None
            for width, piece in divided:
                if piece is not None:
                    position[piece] = len(shape)
                shape.append(width)
        return self._numbered(shape, pieces, position)

    def broadcast(self, shape: Sequence[int]) -> View | None:
        """Return the view with entries repeated along axes, as `expand` and `repeat` do.

        Returns:
            None if the entries of an axis longer than 1 are repeated.
        """
        added = len(shape) - len(self.shape)
        own, strides = (1,) * added + self.shape, (0,) * added + self.stride
        if added < 0 or any(mine not in (1, new) for mine, new in zip(own, shape, strict=True)):
            return None
        stride = [
            step if mine == new else 0 for mine, new, step in zip(own, shape, strides, strict=True)
        ]
        return View(self.parameter, tuple(shape), tuple(stride), self.offset)

    def _pieces(self, view_axis: int, length: int, stride: int) -> list[_Piece] | None:
        """The parts of the parameter's axes along which an axis runs, the inner first."""
        found: list[_Piece] = []
        for axis in reversed(range(len(self.parameter))):
            whole, step = self.parameter[axis], _strides(self.parameter)[axis]
            if length == 1 or whole == 1 or not step <= stride < step * whole:
                continue
            inner = stride // step
            rest = whole // inner
            if stride % step or whole % inner or (length > rest and length % rest):
                return None
            found.append(_Piece(view_axis, axis, inner, min(length, rest)))
            length = max(1, length // rest)
            stride = step * whole
        return found if length == 1 else None

    def _numbered(
        self, shape: list[int], pieces: list[_Piece], position: dict[_Piece, int]
    ) -> Refined:
        free = [k for k, width in enumerate(shape) if width == 1]
        short = [k for k, length in enumerate(self.shape) if length == 1]
        added = max(0, len(short) - len(free))
        free = [*range(added), *[k + added for k in free]]
        axes: list[tuple[int, ...]] = [()] * len(self.shape)
        for piece in pieces:
            axes[piece.view_axis] = (position[piece] + added, *axes[piece.view_axis])
        for k, at in zip(short, free, strict=False):
            axes[k] = (at,)
        wide = (1,) * added + tuple(shape)
        start = tuple(
            [self.offset // s % max(1, w) for s, w in zip(_strides(wide), wide, strict=True)]
        )
        length = list(wide)
        for piece in pieces:
            length[position[piece] + added] = piece.count
        return Refined(wide, tuple(axes), start, tuple(length))

    def after(self, call: Callable[[Tensor], object]) -> list[View | None]:
        """Return the views that an operation makes of this one.

        Args:
            call: the operation; it is called on a tensor without values.

        Returns:
            One for each output of the operation, None for an output that is not a view; [None] if
            the operation does not apply to a tensor of this shape.
        """
        base = torch.empty(_count(self.parameter), device="meta")
        mine = base.as_strided(self.shape, self.stride, self.offset)
        try:
            made = call(mine)
        except RuntimeError:  # the operation was on a tensor of another shape
            return [None]
        outputs = made if isinstance(made, (tuple, list)) else [made]
        return [self._seen(base, one) for one in outputs]

    def _seen(self, base: Tensor, output: object) -> View | None:
        if not isinstance(output, Tensor) or output._base is not base:
            return None
        stride, offset = tuple(output.stride()), int(output.storage_offset())
        return View(self.parameter, tuple(output.shape), stride, offset)


def _divided(length: int, pieces: list[_Piece]) -> list[tuple[int, _Piece | None]] | None:
    """The widths into which pieces divide an axis, the outer first, with the piece of each.

    Returns:
        None if the pieces overlap, or one that is not the outermost leaves entries out.
    """
    if not pieces:
        return [(length, None)]
    found: list[tuple[int, _Piece | None]] = []
    step = 1
    for piece in sorted(pieces, key=lambda piece: piece.step):
        if piece.step < step or piece.step % step:
            return None
        if piece.step > step:
            found.append((piece.step // step, None))
        found.append((piece.count, piece))
        step = piece.step * piece.count
    if length % step == 0 and len(pieces) > 1:
        found += [(length // step, None)] if length > step else []
    else:  # the outermost piece takes a part of the axis
        last = found.pop()[1]
        if last is None or length % last.step:
            return None
        found.append((length // last.step, last))
    return found[::-1]


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(1, length)
    return tuple(reversed(strides))


def _count(shape: Sequence[int]) -> int:
    return max(1, torch.Size(shape).numel())
