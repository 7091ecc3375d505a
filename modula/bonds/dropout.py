"""`Dropout`, whose sensitivity depends on whether the network is in training."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from modula.algebra.core import Elementwise
from modula.checks import Claim


class Dropout(Elementwise):
    """Set each entry to zero with probability p and divide the others by 1 − p, in training.

    In evaluation, after `model.eval()`, it is the identity.

    Sensitivity 1/(1 − p) in training and 1 in evaluation, radius R times the sensitivity: proved,
    for every choice of entries and under every norm that grows with their magnitudes. A network
    reads the sensitivity anew each time, so that its steps follow `model.train()` and
    `model.eval()`.

    Args:
        p: the probability, 0 ≤ p < 1.

    Raises:
        ValueError: p is not in this range.

    Example:
        >>> from modula import Dropout, Linear
        >>> model = Dropout(0.2) @ Linear(4, 8)
        >>> model.train().sensitivity, model.eval().sensitivity
        (1.25, 1.0)

    Source: Srivastava et al. 2014, *Dropout*, section 10.
    """

    claim: Claim = "proved"

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout takes a probability from 0 to below 1, got p={p}")
        self.p = p

    @property
    def sensitivity(self) -> float:  # type: ignore[override] # it follows the mode
        """1/(1 − p) in training, 1 in evaluation."""
        return 1 / (1 - self.p) if self.training else 1.0

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"{self.p:g}"
