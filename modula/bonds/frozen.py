"""`FrozenLinear`: a matrix that is not trained, such as one of a pretrained network."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional as F

from modula.algebra.core import Bond
from modula.algebra.widths import check_width
from modula.checks import Claim
from modula.geometry import Spectral
from modula.norms import RMS
from modula.spaces import Signature, Space


@dataclass(frozen=True)
class _Measured:
    """The norm of a weight, and the version of the weight that had it.

    No field takes part in comparisons, so that a checkpoint does not count it as a setting.
    """

    version: int = field(compare=False)
    norm: float = field(compare=False)


class FrozenLinear(Bond[RMS, RMS]):
    """x ↦ W·x for a fixed W of shape [fan_out, fan_in], which no step changes.

    Sensitivity ‖W‖, its RMS → RMS norm, radius ‖W‖·R: proved. It is measured anew when W has
    changed, as by `load_state_dict`.

    Args:
        weight: W, which is copied; not zero.

    Raises:
        TypeError: W is no tensor.
        ValueError: W is not a matrix of finite numbers with a positive norm.

    Example:
        >>> import torch
        >>> from modula import FrozenLinear
        >>> FrozenLinear(3 * torch.eye(4)).sensitivity
        3.0
    """

    claim: Claim = "proved"

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        if not isinstance(weight, Tensor):
            raise TypeError(f"FrozenLinear takes a matrix, got {type(weight).__name__}")
        if weight.dim() != 2 or not weight.is_floating_point():
            raise ValueError(
                f"FrozenLinear takes a matrix [fan_out, fan_in], got a tensor of shape "
                f"{list(weight.shape)} and dtype {weight.dtype}"
            )
        self.weight: nn.Parameter = nn.Parameter(weight.detach().clone(), requires_grad=False)
        fan_out, fan_in = weight.shape
        self.declared_signature: Signature = (Space(RMS, fan_in), Space(RMS, fan_out))
        self._measured = _Measured(-1, 0.0)
        if not 0 < self.sensitivity < math.inf:
            raise ValueError(
                f"FrozenLinear takes a matrix of finite numbers that is not zero, got one of norm "
                f"{self.sensitivity}"
            )

    @property
    def sensitivity(self) -> float:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride] # follows from the weight
        """The norm of the weight."""
        version = self.weight._version
        if self._measured.version != version:
            norm = Spectral(RMS, RMS).norm(self.weight.detach()[None])
            self._measured = _Measured(version, norm.item())
        return self._measured.norm

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, self.declared_signature[0], x)
        return F.linear(x, self.weight)

    def extra_repr(self) -> str:
        fan_out, fan_in = self.weight.shape
        return f"{fan_out}, {fan_in}"
