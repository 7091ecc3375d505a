"""`BatchNorm` and `ChannelBatchNorm`: normalisation by the statistics of a batch."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from modula.algebra.core import SpaceType
from modula.algebra.widths import check_width
from modula.bonds.base import SameSpace
from modula.checks import Claim
from modula.graph import Radius, total_radius
from modula.norms import RMS, ChannelRMS, Dense
from modula.spaces import Signature, Space

X = TypeVar("X", bound=SpaceType)
Y = TypeVar("Y", bound=SpaceType)


class BatchStatistics(SameSpace[X, Y]):
    """(x − mean)/std for each feature, over all vectors of a batch or by running statistics.

    Args:
        d: the width.
        norm: the norm type of the space, along whose axis the features are.
        momentum: the share of the present batch in the running statistics.
        eps: added to the variance.

    Raises:
        ValueError: a width below 1, a momentum that is not from 0 to 1, or an eps that is not above
            0.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, d: int, norm: type[Dense], momentum: float, eps: float) -> None:
        super().__init__()
        name = type(self).__name__
        if d < 1:
            raise ValueError(f"{name} takes a width of at least 1, got {d}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"{name} takes a momentum from 0 to 1, got {momentum}")
        if not eps > 0:
            raise ValueError(f"{name} takes an eps above 0, got {eps}")
        space = Space(norm, d)
        self.declared_signature: Signature = (space, space)
        self.axis: int = norm.axis
        self.momentum = momentum
        self.eps = eps
        self.register_buffer("running_mean", torch.zeros(d))
        self.register_buffer("running_var", torch.ones(d))

    def reset_running_stats(self) -> None:
        """Set the running statistics to mean 0 and variance 1, as at the start."""
        self.running_mean.zero_()
        self.running_var.fill_(1.0)

    @property
    def sensitivity(self) -> float:  # type: ignore[override] # it follows the mode
        """1 in training; in evaluation 1 over the smallest running standard deviation."""
        if self.training or self.running_var.is_meta:
            return 1.0
        return float((self.running_var.min() + self.eps).rsqrt())

    @property
    def claim(self) -> Claim:  # type: ignore[override] # it follows the mode
        """An estimate in training, proved in evaluation."""
        return "estimate" if self.training else "proved"

    def radius(self, *inputs: Radius) -> Radius:
        if self.training or self.running_var.is_meta:
            return 1.0
        shift = self.running_mean * (self.running_var + self.eps).rsqrt()
        return self.sensitivity * total_radius(inputs) + float(RMS.norm(shift))

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, self.declared_signature[0], x)
        vectors = x.movedim(self.axis, -1)
        normalized = F.batch_norm(
            vectors.flatten(end_dim=-2),
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
        )
        return normalized.view(vectors.shape).movedim(-1, self.axis)

    def extra_repr(self) -> str:
        momentum = "" if self.momentum == 0.1 else f", momentum={self.momentum:g}"
        eps = "" if self.eps == 1e-5 else f", eps={self.eps:g}"
        return f"{self.running_mean.shape[0]}{momentum}{eps}"


class BatchNorm(BatchStatistics[RMS, RMS]):
    """(x − mean)/std for each feature over all vectors of a batch, without gain and bias.

    [..., d] -> [..., d]. Compose it with `Gain` and `Bias` for these. In training, the statistics
    are those of the batch, and running averages of them are kept in the buffers `running_mean` and
    `running_var`, which state dicts and checkpoints hold. In evaluation, after `model.eval()`, the
    running averages are used.

    In training, sensitivity 1 and radius 1: estimates. Both hold for the RMS over all entries of a
    batch, where each feature has a standard deviation of at least 1; a vector alone may be larger.
    In evaluation, with the running mean μ and deviation σ, sensitivity max 1/σ and radius
    R·max 1/σ + RMS(μ/σ): proved, since the map is affine. Both are read from the buffers each time.

    With several processes, each normalises by the statistics of its own part of the batch, and has
    running averages of its own; broadcast the buffers of one process before they are compared or
    saved. `DistributedDataParallel` does so before each forward pass, `fully_shard` does not.

    Args:
        d: the width.
        momentum: the share of the present batch in the running averages, from 0 to 1.
        eps: added to the variance.

    Raises:
        ValueError: a width below 1, a momentum that is not from 0 to 1, or an eps that is not above
            0.

    Example:
        >>> import torch
        >>> from modula import BatchNorm, Bias, Gain, Linear
        >>> model = Bias(8) @ Gain(8) @ BatchNorm(8) @ Linear(8, 4)
        >>> y = model(torch.randn(32, 4))
        >>> sorted(name for name, _ in model.named_buffers())
        ['1.running_mean', '1.running_var']

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), algorithms 1 and 2.
    """

    def __init__(self, d: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(d, RMS, momentum, eps)


class ChannelBatchNorm(BatchStatistics[ChannelRMS, ChannelRMS]):
    """(x − mean)/std for each channel over all pixels of a batch, without gain and bias.

    [batch, channel, *pixels] -> the same. Compose it with `ChannelGain` and `ChannelBias` for
    these. Running averages are kept as by `BatchNorm`, also over several processes.

    In training, sensitivity 1 and radius 1: estimates. In evaluation, sensitivity max 1/σ and
    radius R·max 1/σ + RMS(μ/σ): proved. Both for the reasons that `BatchNorm` gives.

    Args:
        d: the number of channels.
        momentum: the share of the present batch in the running averages, from 0 to 1.
        eps: added to the variance.

    Raises:
        ValueError: a width below 1, a momentum that is not from 0 to 1, or an eps that is not above
            0.

    Example:
        >>> import torch
        >>> from modula import ChannelBatchNorm, Conv2D
        >>> (ChannelBatchNorm(8) @ Conv2D(8, 3))(torch.randn(4, 3, 5, 5)).shape
        torch.Size([4, 8, 5, 5])
    """

    def __init__(self, d: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(d, ChannelRMS, momentum, eps)
