"""`View`: which entries of a parameter an operation reads, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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

    def start(self, axis: int) -> int:
        """Return the position along an axis of the parameter at which the view starts."""
        return self.offset // _strides(self.parameter)[axis] % max(1, self.parameter[axis])

    def after(self, call: Callable[[Tensor], object]) -> list[View | None]:
        """Return the views that an operation makes of this one.

        Args:
            call: the operation; it is called on a tensor without values.

        Returns:
            One for each output of the operation, None for an output that is not a view.
        """
        base = torch.empty(_count(self.parameter), device="meta")
        mine = base.as_strided(self.shape, self.stride, self.offset)
        made = call(mine)
        outputs = made if isinstance(made, (tuple, list)) else [made]
        return [self._seen(base, one) for one in outputs]

    def _seen(self, base: Tensor, output: object) -> View | None:
        if not isinstance(output, Tensor) or output._base is not base:
            return None
        stride, offset = tuple(output.stride()), int(output.storage_offset())
        return View(self.parameter, tuple(output.shape), stride, offset)


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(1, length)
    return tuple(reversed(strides))


def _count(shape: Sequence[int]) -> int:
    return max(1, torch.Size(shape).numel())
