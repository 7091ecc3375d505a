"""`AvgPool` and `Flatten`: the two bonds from an image to a vector."""

from __future__ import annotations

from einops import rearrange, reduce
from torch import Tensor

from modula.algebra.core import Bond
from modula.checks import Claim
from modula.norms import RMS, ChannelRMS
from modula.spaces import AnySpace, Signature, Space, meet


class AvgPool(Bond[ChannelRMS, RMS]):
    """The mean over all pixels: [batch, channel, *pixels] -> [batch, channel].

    Sensitivity 1, radius R: proved, since a mean of vectors is no longer than the longest.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        image, vector = super().unify(domain, codomain)
        width = meet(Space(RMS, _width(image)), vector)
        return Space(ChannelRMS, _width(width)), width

    def forward(self, x: Tensor) -> Tensor:
        return reduce(x, "batch channel ... -> batch channel", "mean")


class Flatten(Bond[ChannelRMS, RMS]):
    """The channels of all pixels as one vector.

    [batch, channel, *pixels] -> [batch, channel·pixels].

    Sensitivity 1, radius R: proved, since the mean square over the image is at most the largest
    over a pixel.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(x, "batch channel ... -> batch (channel ...)")


def _width(space: AnySpace) -> int | None:
    return space.width if isinstance(space, Space) else None
