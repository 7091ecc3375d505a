"""`Kernel`: what convolutions and transposed convolutions have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic

from torch import Tensor
from typing_extensions import Unpack

from modula.algebra.core import Atom, AtomOptions
from modula.algebra.pixels import Sizes, check_layout, per_axis, written
from modula.checks import Claim
from modula.geometry import Geometry
from modula.norms import ChannelRMS


class Kernel(Atom[ChannelRMS, ChannelRMS], Generic[Sizes]):
    """A convolution or a transposed one, in a number of dimensions that a subclass sets.

    Args:
        shape: of the kernel.
        geometry: the norm on it.
        out_channels, in_channels: of the images.
        groups: into which the channels are divided.
        mass, device, dtype: as for every atom.
    """

    claim: Claim = "proved"
    pixel_axes: ClassVar[int]
    """The number of axes of pixels: 1 for sequences, 2 for images, 3 for volumes."""

    def __init__(
        self,
        shape: Sequence[int],
        geometry: Geometry,
        *,
        out_channels: int,
        in_channels: int,
        groups: int,
        **options: Unpack[AtomOptions],
    ) -> None:
        super().__init__(shape, geometry, fan_out=out_channels, fan_in=in_channels, **options)
        self.channels: tuple[int, int] = (out_channels, in_channels)
        self.groups = groups

    @classmethod
    def per_axis(cls, argument: str, value: int | tuple[int, ...]) -> tuple[int, ...]:
        """Return an argument as one number for each pixel axis.

        Raises:
            ValueError: padding below 0, another argument below 1, or a tuple of another length.
        """
        return per_axis(cls.__name__, cls.pixel_axes, argument, value)

    @classmethod
    def check_groups(cls, groups: int, out_channels: int, in_channels: int) -> None:
        """Raise if the channels do not split evenly into the groups.

        Raises:
            ValueError: names the groups and the channels.
        """
        if groups < 1 or out_channels % groups or in_channels % groups:
            raise ValueError(
                f"{cls.__name__} divides the channels of input and output evenly into groups; got "
                f"groups={groups} for {in_channels} and {out_channels} channels"
            )

    def check_image(self, x: Tensor) -> None:
        """Raise if an input has another number of channels, or of axes.

        Raises:
            ValueError: names this module, the axes that it takes and the shape of `x`.
        """
        self.check_width(x)
        check_layout(self, self.pixel_axes, x)

    def written_arguments(self, options: Mapping[str, tuple[object, object]]) -> str:
        """Return the arguments as text: channels, size, and what differs from its default.

        Args:
            options: the value and the default of each further argument, by name.
        """
        size = tuple(self.weight.shape[2:])
        changed = {name: value for name, (value, default) in options.items() if value != default}
        named = {"kernel_size": size, **changed}
        return ", ".join(
            [
                *map(str, self.channels),
                *[f"{name}={written(value)}" for name, value in named.items()],
            ]
        )
