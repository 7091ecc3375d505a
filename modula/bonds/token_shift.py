"""`TokenShift`: features of the position before, in place of the position's own."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from modula.bonds.base import SameSpace
from modula.checks import Claim, is_number
from modula.norms import RMS


class TokenShift(SameSpace[RMS, RMS]):
    """[..., position, d] -> the same, with the first features taken from the position before.

    The first position takes zeros. It has no weights, and lets every layer of a causal network read
    two neighbouring tokens without attention: `GPT(…, norm=TokenShift() @ RMSNorm())`.

    Sensitivity 1, radius R: an estimate, right where the features that are taken and those that
    stay have the same RMS. In the worst case, where all of one vector is taken and all of the next
    one stays, both are √2 times as large.

    Args:
        share: the share of the features that are taken, between 0 and 1; rounded down to whole
            features.

    Raises:
        TypeError: the share is not a number.
        ValueError: the share is not between 0 and 1; in the forward pass, a tensor without an axis
            of positions.

    Example:
        >>> import torch
        >>> from modula import TokenShift
        >>> TokenShift(0.5)(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([[[0., 2.],
                 [1., 4.]]])

    Source: Peng et al. 2023, *RWKV* (arXiv:2305.13048), where the two positions are mixed by
    learned weights.
    """

    sensitivity: float = 1.0
    claim: Claim = "estimate"

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        if not is_number(share):
            raise TypeError(f"TokenShift takes a number for its share, got {type(share).__name__}")
        if not 0 <= share <= 1:
            raise ValueError(f"TokenShift takes a share between 0 and 1, got {share}")
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2:
            raise ValueError(
                f"{self!r} takes [..., position, d], got a tensor of shape {list(x.shape)}"
            )
        if x.shape[-2] == 0:
            return x
        taken = self._taken(x)
        return torch.cat((F.pad(x[..., :taken], (0, 0, 1, -1)), x[..., taken:]), dim=-1)

    def start(self) -> Tensor | None:
        return None

    def resume(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if x.shape[-2] == 0:
            return x, state
        taken = self._taken(x)
        last = x[..., -1:, :taken]
        if state is None:
            return self(x), last
        before = torch.cat((state, x[..., :-1, :taken]), dim=-2)
        return torch.cat((before, x[..., taken:]), dim=-1), last

    def extra_repr(self) -> str:
        return "" if self.share == 0.5 else f"{self.share:g}"

    def _taken(self, x: Tensor) -> int:
        """How many features are taken."""
        # 0.29 · 100 is 28.999999999999996 in floating point, and means 29.
        return math.floor(round(self.share * x.shape[-1], 6))
