"""Functions of single entries.

All take 0 to 0. Their bounds hold under every norm that grows with the magnitudes of the entries:
the sensitivity is the largest |f′|, the radius follows from |f(x)| ≤ c·|x|.

Large et al. 2024 (arXiv:2405.14813), appendix B, gives ReLU the sensitivity 1/√2 instead: the
factor by which it shrinks the RMS of inputs that are symmetric around zero. That is an average and
not a bound. ReLU passes a change of the active entries whole, so the factor fails where the change
is correlated with the input, and modula declares 1.
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
    """The maximum of Φ(x) + x·φ(x), reached at x = √2."""
    x = math.sqrt(2)
    normal_cdf = (1 + math.erf(x / math.sqrt(2))) / 2
    normal_density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return normal_cdf + x * normal_density


def _silu_lipschitz() -> float:
    """The maximum of σ(x)·(1 + x·(1 − σ(x))), reached where x·tanh(x/2) = 2."""
    x = 2.0
    for _ in range(60):
        x = 2 / math.tanh(x / 2)
    logistic = 1 / (1 + math.exp(-x))
    return logistic * (1 + x * (1 - logistic))


class ReLU(Elementwise):
    """The function max(x, 0).

    Sensitivity 1, radius R: proved, by its Lipschitz constant.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class ScaledReLU(Elementwise):
    """The function √2·max(x, 0), which keeps the RMS of inputs that are symmetric around zero.

    Sensitivity √2, radius √2·R: proved, by its Lipschitz constant.
    """

    sensitivity: float = math.sqrt(2)
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        return math.sqrt(2) * F.relu(x)


class GELU(Elementwise):
    """The function x·Φ(x), for the normal distribution function Φ.

    Sensitivity Φ(√2) + √2·φ(√2) ≈ 1.129, radius R: proved, by its Lipschitz constant and since
    |x·Φ(x)| ≤ |x|.
    """

    sensitivity: float = _gelu_lipschitz()
    claim: Claim = "proved"

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]  # |f(x)| ≤ |x|

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x)


class ScaledGELU(Elementwise):
    """The function √2·x·Φ(x), for the normal distribution function Φ.

    Sensitivity √2 times that of GELU, ≈ 1.597, radius √2·R: proved, as for GELU.
    """

    sensitivity: float = math.sqrt(2) * _gelu_lipschitz()
    claim: Claim = "proved"

    def radius(self, *inputs: Radius) -> Radius:
        return math.sqrt(2) * total_radius(inputs)  # |f(x)| ≤ √2·|x|

    def forward(self, x: Tensor) -> Tensor:
        return math.sqrt(2) * F.gelu(x)


class SiLU(Elementwise):
    """The function x·σ(x), for the logistic function σ.

    Sensitivity ≈ 1.0998, radius R: proved, by its Lipschitz constant and since |x·σ(x)| ≤ |x|.
    """

    sensitivity: float = _silu_lipschitz()
    claim: Claim = "proved"

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]  # |f(x)| ≤ |x|

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


class Tanh(Elementwise):
    """The hyperbolic tangent.

    Sensitivity 1, radius R: proved, by its Lipschitz constant.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


class Abs(Elementwise):
    """The magnitude |x|.

    Sensitivity 1, radius R: proved, by its Lipschitz constant.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


class SquaredReLU(Elementwise):
    """The function max(x, 0)².

    Sensitivity 2, radius R: conditional on entries of at most 1, where the derivative 2·max(x, 0)
    is at most 2 and max(x, 0)² ≤ |x|.

    Source: So et al. 2021 (arXiv:2109.08668), section 3.
    """

    sensitivity: float = 2.0
    claim: Claim = "conditional"

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0]  # under the condition of its sensitivity

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()
