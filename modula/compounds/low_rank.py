"""Products of two factors: `LowRank`, and `LoRA`, one beside a frozen matrix."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from modula.algebra.core import Composition, Module
from modula.algebra.primitive import Primitive
from modula.atoms import Linear
from modula.bonds import FrozenLinear
from modula.norms import RMS, Norm

X = TypeVar("X", bound=Norm)
Y = TypeVar("Y", bound=Norm)


class LowRank(Composition[RMS, RMS]):
    """x ↦ B·A·x for B of shape [fan_out, rank] and A of shape [rank, fan_in].

    Sensitivity 1, radius R: proved, since ‖B·A‖ ≤ ‖B‖·‖A‖. Both factors have norms of their own,
    and a step moves both; of the product itself nothing more is bounded.

    Args:
        fan_out, fan_in: the widths of output and input.
        rank: the width between the factors.

    Raises:
        ValueError: a width below 1.

    Example:
        >>> from modula import LowRank
        >>> sum(w.numel() for w in LowRank(64, 64, rank=4).parameters())
        512
    """

    def __init__(self, fan_out: int, fan_in: int, *, rank: int) -> None:
        super().__init__(Linear(fan_out, rank) @ Linear(rank, fan_in))
        self.arguments: str = f"{fan_out}, {fan_in}, rank={rank}"

    def extra_repr(self) -> str:
        return self.arguments


class LoRA(Composition[RMS, RMS]):
    """x ↦ W·x + scale·B·A·x for a frozen W: the low-rank adaptation of a pretrained matrix.

    B starts at zero, so that the network starts as the pretrained one; `initialize` sets it back.

    Sensitivity ‖W‖ + |scale| and radius (‖W‖ + |scale|)·R: proved, by ‖B·A‖ ≤ ‖B‖·‖A‖.

    Args:
        base: the pretrained layer, or its matrix [fan_out, fan_in], which is copied.
        rank: the width between A and B.
        scale: of the adaptation.

    Raises:
        TypeError: `base` is neither a Linear nor a matrix.
        ValueError: a matrix that is zero; a rank below 1; a scale of 0.

    Example:
        >>> import torch
        >>> from torch import Tensor, nn
        >>> from modula import LoRA
        >>> base = nn.Linear(8, 4, bias=False)
        >>> layer = LoRA(base.weight, rank=2)
        >>> x = torch.randn(3, 8)
        >>> torch.equal(layer(x), base(x)), len(layer.weights)
        (True, 2)

    Source: Hu et al. 2021 (arXiv:2106.09685), equation 3.
    """

    def __init__(self, base: Linear[RMS, RMS] | Tensor, *, rank: int, scale: float = 1.0) -> None:
        matrix = _matrix(base)
        fan_out, fan_in = matrix.shape
        outer: Module[RMS, RMS] = _ZeroLinear(fan_out, rank)
        adaptation = outer @ Linear(rank, fan_in)
        super().__init__(FrozenLinear(matrix) + scale * adaptation)
        self.arguments: str = f"{fan_out}, {fan_in}, rank={rank}"

    def extra_repr(self) -> str:
        return self.arguments


class _ZeroLinear(Linear[X, Y]):
    """A Linear that starts at zero."""

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Set the weight to zero."""
        self.weight.zero_()


def _matrix(base: Primitive | Tensor) -> Tensor:
    """The matrix of a layer that LoRA adapts."""
    if not isinstance(base, Primitive):
        return base
    if base.acts != "matrix":
        raise TypeError(
            f"LoRA adapts a Linear or a matrix, got {base!r}: of a torch.nn.Linear, give its "
            "weight; a bias of it is added by a Bias after the LoRA"
        )
    (matrix,) = base.weights.tensors
    return matrix
