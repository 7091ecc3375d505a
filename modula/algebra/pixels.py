"""The axes of pixels of sequences, images and volumes, [batch, channel, *pixels]."""

from __future__ import annotations

from operator import index
from typing import TypeVar

from torch import Tensor

Sizes = TypeVar("Sizes", bound=tuple[int, ...])
"""One number for each pixel axis."""

_LAYOUTS = {
    1: "[batch, channel, position]",
    2: "[batch, channel, height, width]",
    3: "[batch, channel, depth, height, width]",
}
_LEAST = {"padding": 0, "output_padding": 0}
_LIMITS = {
    "kernel_size": "widths of at least 1",
    "output_size": "an output_size of at least 1",
    "patch_size": "a patch_size of at least 1",
    "image_size": "an image_size of at least 1",
}


def per_axis(name: str, axes: int, argument: str, value: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return an argument as one number for each pixel axis.

    Args:
        name: of the module, for errors.
        axes: the number of pixel axes.
        argument: its name.
        value: one number for all axes, or a tuple.

    Raises:
        ValueError: padding below 0, another argument below 1, or a tuple of another length.
    """
    numbers = value if isinstance(value, tuple) else (value,) * axes
    if len(numbers) == axes and min(numbers) >= _LEAST.get(argument, 1):
        return tuple([index(number) for number in numbers])
    limits = _LIMITS.get(
        argument, "a stride of at least 1 and padding of at least 0, a dilation of at least 1"
    )
    raise ValueError(
        f"{name} takes {limits}, as a number or as a tuple of {axes}; got {argument}={value!r}"
    )


def check_layout(owner: object, axes: int, x: Tensor) -> None:
    """Raise if a tensor has another number of axes than [batch, channel, *pixels].

    Raises:
        ValueError: names the owner, the layout that it takes and the shape of `x`.
    """
    if x.dim() != 2 + axes:
        raise ValueError(f"{owner!r} takes {_LAYOUTS[axes]}; got a tensor of shape {list(x.shape)}")


def count_pixel_axes(owner: object, x: Tensor) -> int:
    """Return the number of pixel axes of a tensor [batch, channel, *pixels].

    Raises:
        ValueError: it has none, or more than three; names the owner and the shape of `x`.
    """
    axes = x.dim() - 2
    if axes not in _LAYOUTS:
        raise ValueError(
            f"{owner!r} takes [batch, channel, *pixels], with one to three axes of pixels; got a "
            f"tensor of shape {list(x.shape)}"
        )
    return axes


def written(value: object) -> str:
    """Return an argument as text: a tuple of equal numbers as one number."""
    if isinstance(value, tuple) and value.count(value[0]) == len(value):
        return repr(value[0])
    return repr(value)
