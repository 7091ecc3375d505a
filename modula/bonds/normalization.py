"""Bonds that centre, normalise or average feature vectors."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from modula.bonds.base import SameSpace
from modula.checks import Claim
from modula.graph import Radius
from modula.norms import RMS


class MeanSubtract(SameSpace[RMS, RMS]):
    """x − mean(x) over the features.

    Sensitivity 1, radius R: proved, since it is an orthogonal projection.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=-1, keepdim=True)


class RMSNorm(SameSpace[RMS, RMS]):
    """x / RMS(x) over the features, without a gain (compose with `Gain` for one).

    Sensitivity 1, radius 1: conditional on inputs of RMS at least 1 (the radius holds for all). The
    derivative is a projection divided by RMS(x), so that the sensitivity at an input of RMS r < 1
    is 1/r.

    Args:
        eps: added to the mean square; None takes the dtype's machine epsilon. Zero stays zero.
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    def __init__(self, eps: float | None = None) -> None:
        super().__init__()
        self.eps = eps

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], eps=self.eps)

    def extra_repr(self) -> str:
        return "" if self.eps is None else f"eps={self.eps:g}"


class LayerNorm(SameSpace[RMS, RMS]):
    """(x − mean(x)) / std(x) over the features, without gain and bias.

    Compose it with `Gain` and `Bias` for these.

    Sensitivity 1, radius 1: conditional on inputs of standard deviation at least 1 (the radius
    holds for all), since it is RMSNorm after MeanSubtract.

    Args:
        eps: added to the variance.
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=self.eps)

    def extra_repr(self) -> str:
        return "" if self.eps == 1e-5 else f"eps={self.eps:g}"


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
