"""Functions of single entries. All but SquaredReLU are bounded by their Lipschitz constant, under
every norm of magnitudes.

Large et al. 2024 (arXiv:2405.14813), appendix B, gives ReLU the sensitivity 1/√2 instead: the
factor by which it shrinks the RMS of inputs that are symmetric around zero. That is an average, not
a bound. A change that lies on the active entries passes whole, so the factor fails as soon as
inputs and changes line up, and modula declares 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from modula.algebra.core import Elementwise
from modula.checks import Claim
from modula.graph import Radius, total_radius


def _gelu_lipschitz() -> float:
    """max of Φ(x) + x·φ(x), which lies at x = √2."""
    x = math.sqrt(2)
    normal_cdf = (1 + math.erf(x / math.sqrt(2))) / 2
    normal_density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return normal_cdf + x * normal_density


def _silu_lipschitz() -> float:
    """max of σ(x)·(1 + x·(1 − σ(x))), which lies where x·tanh(x/2) = 2."""
    x = 2.0
    for _ in range(60):
        x = 2 / math.tanh(x / 2)
    logistic = 1 / (1 + math.exp(-x))
    return logistic * (1 + x * (1 - logistic))


class ReLU(Elementwise):
    """max(x, 0). Sensitivity 1: proved, its Lipschitz constant."""

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class ScaledReLU(Elementwise):
    """√2·max(x, 0), which keeps the RMS of inputs that are symmetric around zero. Sensitivity √2:
    proved, its Lipschitz constant.
    """

    sensitivity: float = math.sqrt(2)
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        return math.sqrt(2) * F.relu(x)


class GELU(Elementwise):
    """x·Φ(x). Sensitivity Φ(√2) + √2·φ(√2) ≈ 1.129: proved, its Lipschitz constant."""

    sensitivity: float = _gelu_lipschitz()
    claim: Claim = "proved"

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]  # |f(x)| ≤ |x|

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x)


class ScaledGELU(Elementwise):
    """√2·x·Φ(x). Sensitivity √2 times that of GELU, ≈ 1.597: proved, its Lipschitz constant."""

    sensitivity: float = math.sqrt(2) * _gelu_lipschitz()
    claim: Claim = "proved"

    def radius(self, *inputs: Radius) -> Radius:
        return math.sqrt(2) * total_radius(inputs)  # |f(x)| ≤ √2·|x|

    def forward(self, x: Tensor) -> Tensor:
        return math.sqrt(2) * F.gelu(x)


class SiLU(Elementwise):
    """x·σ(x) for the logistic function σ. Sensitivity ≈ 1.0998: proved, its Lipschitz constant."""

    sensitivity: float = _silu_lipschitz()
    claim: Claim = "proved"

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]  # |f(x)| ≤ |x|

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


class Tanh(Elementwise):
    """The hyperbolic tangent. Sensitivity 1: proved, its Lipschitz constant."""

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


class Abs(Elementwise):
    """|x|. Sensitivity 1: proved, its Lipschitz constant."""

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


class SquaredReLU(Elementwise):
    """max(x, 0)². Sensitivity 2: conditional on entries of at most 1, as its derivative is 2·max(x,
    0).

    Source: So et al. 2021 (arXiv:2109.08668), section 3.
    """

    sensitivity: float = 2.0
    claim: Claim = "conditional"

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]  # x² ≤ |x| for entries of at most 1, the condition of its sensitivity

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()
