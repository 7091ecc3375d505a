"""Bonds that centre, normalise or average feature vectors and images."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from modula.algebra.core import SpaceType
from modula.bonds.base import SameSpace
from modula.checks import Claim
from modula.errors import MismatchError
from modula.graph import Radius
from modula.norms import RMS, ChannelRMS
from modula.spaces import AnySpace, Signature, Space

X = TypeVar("X", bound=SpaceType)
Y = TypeVar("Y", bound=SpaceType)


class MeanSubtract(SameSpace[RMS, RMS]):
    """x − mean(x) over the features.

    Sensitivity 1, radius R: proved, since it is an orthogonal projection.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=-1, keepdim=True)


class VectorNormalization(SameSpace[X, Y]):
    """The vectors along one axis at RMS 1; a subclass says which, and how."""

    sensitivity: float = 1.0
    claim: Claim = "conditional"
    axis: ClassVar[int] = -1
    """The axis of the vectors."""

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0

    def normalized(self, vectors: Tensor) -> Tensor:
        """Return vectors of RMS 1.

        Args:
            vectors: along the last axis.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say how vectors are normalised: define "
            f"{type(self).__name__}.normalized"
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.normalized(x.movedim(self.axis, -1)).movedim(-1, self.axis)


class RootMeanSquare(VectorNormalization[X, Y]):
    """x / RMS(x) for the vectors along one axis, which a subclass sets.

    Args:
        eps: added to the mean square; None takes the dtype's machine epsilon. Zero stays zero.
    """

    def __init__(self, eps: float | None = None) -> None:
        super().__init__()
        self.eps = eps

    def normalized(self, vectors: Tensor) -> Tensor:
        return F.rms_norm(vectors, vectors.shape[-1:], eps=self.eps)

    def extra_repr(self) -> str:
        return "" if self.eps is None else f"eps={self.eps:g}"


class RMSNorm(RootMeanSquare[RMS, RMS]):
    """x / RMS(x) over the features, without a gain (compose with `Gain` for one).

    Sensitivity 1, radius 1: conditional on inputs of RMS at least 1 (the radius holds for all). The
    derivative is a projection divided by RMS(x), so that the sensitivity at an input of RMS r < 1
    is 1/r.

    Args:
        eps: added to the mean square; None takes the dtype's machine epsilon. Zero stays zero.
    """


class ChannelRMSNorm(RootMeanSquare[ChannelRMS, ChannelRMS]):
    """x / RMS(x) over the channels of each pixel, without a gain (compose with `ChannelGain`).

    Sensitivity 1, radius 1: conditional on pixels of RMS at least 1 (the radius holds for all), as
    for `RMSNorm`.

    Args:
        eps: added to the mean square; None takes the dtype's machine epsilon. Zero stays zero.

    Example:
        >>> import torch
        >>> from modula import ChannelRMS, ChannelRMSNorm
        >>> ChannelRMS.measure(ChannelRMSNorm()(torch.randn(2, 8, 5, 5)))
        tensor(1.000...)
    """

    axis: ClassVar[int] = ChannelRMS.axis


class Standardization(VectorNormalization[X, Y]):
    """(x − mean(x)) / std(x) for the vectors along one axis, which a subclass sets.

    Args:
        eps: added to the variance.
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps

    def normalized(self, vectors: Tensor) -> Tensor:
        return F.layer_norm(vectors, vectors.shape[-1:], eps=self.eps)

    def extra_repr(self) -> str:
        return "" if self.eps == 1e-5 else f"eps={self.eps:g}"


class LayerNorm(Standardization[RMS, RMS]):
    """(x − mean(x)) / std(x) over the features, without gain and bias.

    Compose it with `Gain` and `Bias` for these.

    Sensitivity 1, radius 1: conditional on inputs of standard deviation at least 1 (the radius
    holds for all), since it is RMSNorm after MeanSubtract.

    Args:
        eps: added to the variance.
    """


class ChannelLayerNorm(Standardization[ChannelRMS, ChannelRMS]):
    """(x − mean(x)) / std(x) over the channels of each pixel, without gain and bias.

    Compose it with `ChannelGain` and `ChannelBias` for these.

    Sensitivity 1, radius 1: conditional on pixels of standard deviation at least 1 (the radius
    holds for all), as for `LayerNorm`.

    Args:
        eps: added to the variance.

    Example:
        >>> import torch
        >>> from modula import ChannelBias, ChannelGain, ChannelLayerNorm
        >>> affine = ChannelBias(8) @ ChannelGain(8) @ ChannelLayerNorm()
        >>> affine(torch.randn(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])
    """

    axis: ClassVar[int] = ChannelRMS.axis


class GroupStatistics(SameSpace[X, Y]):
    """(x − mean(x)) / std(x) within equal groups of features or channels.

    Args:
        groups: the number of groups, which divides the width.
        eps: added to the variance.

    Raises:
        ValueError: fewer than one group.
    """

    sensitivity: float = 1.0

    def __init__(self, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        if groups < 1:
            raise ValueError(f"{type(self).__name__} takes at least 1 group, got {groups}")
        self.groups = groups
        self.eps = eps

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        space, same = super().unify(domain, codomain)
        if isinstance(space, Space) and space.width is not None and space.width % self.groups:
            raise MismatchError(
                f"a width of {space.width} does not split into {self.groups} groups"
            )
        return space, same

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0

    def extra_repr(self) -> str:
        return f"{self.groups}" + ("" if self.eps == 1e-5 else f", eps={self.eps:g}")


class GroupNorm(GroupStatistics[RMS, RMS]):
    """LayerNorm of each of several equal groups of features, without gain and bias.

    Sensitivity 1, radius 1: conditional on groups of standard deviation at least 1 (the radius
    holds for all), as for `LayerNorm`, since the mean square is the mean over groups.

    Args:
        groups: the number of groups, which divides the number of features.
        eps: added to the variance.

    Raises:
        ValueError: fewer than one group.

    Example:
        >>> from modula import GroupNorm, Linear
        >>> str((GroupNorm(4) @ Linear(8, 3)).codomain)
        'RMS(8)'

    Source: Wu & He 2018 (arXiv:1803.08494), equation 7.
    """

    claim: Claim = "conditional"

    def forward(self, x: Tensor) -> Tensor:
        groups = rearrange(x, "... (group feature) -> ... group feature", group=self.groups)
        return F.layer_norm(groups, groups.shape[-1:], eps=self.eps).flatten(-2)


class ChannelGroupNorm(GroupStatistics[ChannelRMS, ChannelRMS]):
    """(x − mean(x)) / std(x) over all pixels and the channels of a group, without gain and bias.

    With one group it normalises an image as a whole, with one group for each channel it is the
    instance normalisation.

    Sensitivity 1, radius 1: estimates. Both hold for the RMS over all entries of an image, where
    the standard deviation of each group is at least 1, since the derivative is then a projection
    divided by it. A pixel alone may be larger: by up to the square root of the number of pixels.

    Args:
        groups: the number of groups, which divides the number of channels.
        eps: added to the variance.

    Raises:
        ValueError: fewer than one group.

    Example:
        >>> import torch
        >>> from modula import ChannelGroupNorm
        >>> ChannelGroupNorm(2)(torch.randn(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])

    Source: Wu & He 2018 (arXiv:1803.08494), equation 7.
    """

    claim: Claim = "estimate"

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.groups, eps=self.eps)


class Mean(SameSpace[RMS, RMS]):
    """The mean over one axis in front of the features, such as positions.

    [batch, position, d] -> [batch, d].

    Sensitivity 1, radius R: proved, since a mean of vectors is no longer than the longest.

    Args:
        axis: the axis over which the mean is taken, counted from the end; not −1, the axis of the
            features.

    Raises:
        ValueError: the axis is not below −1.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def __init__(self, axis: int = -2) -> None:
        super().__init__()
        if axis > -2:
            raise ValueError(
                f"Mean averages an axis in front of the features, -2 or below; got axis={axis}"
            )
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=self.axis)

    def extra_repr(self) -> str:
        return "" if self.axis == -2 else f"axis={self.axis}"
