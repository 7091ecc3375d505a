"""The recurrent weight of a GRU or an LSTM, applied at every step of a sequence.

The input projections of all steps are one product and a module of their own. What is left is one
weight that a sequence of T steps uses T times: `GRUSteps` and `LSTMSteps` are atoms whose forward
pass is the whole recurrence.

Their sensitivities are estimates. With a recurrent weight of norm 1 no bound holds for all inputs
and lengths: the worst case grows exponentially with T. Declared is the gain of the recurrence at
the origin, summed over infinitely many steps, which is the largest for small inputs.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Unpack

from modula.algebra.core import Atom, AtomOptions
from modula.checks import Claim
from modula.geometry import Spectral, Stacked
from modula.graph import Radius
from modula.norms import RMS

State: TypeAlias = tuple[Tensor, ...]
"""What a step leaves to the next: h, or h and c, [batch, d] each."""


class Steps(Atom[RMS, RMS]):
    """A recurrence over [batch, time, gate, d] with one weight, [gates·d, d].

    The weight has torch's layout of `weight_hh`, one block of d rows for each gate. Its norm is the
    largest RMS → RMS norm of a block, and each block is dualized by itself.

    A subclass defines `gates`, `states` and `step`.

    Args:
        d: the width of the state.
        mass, device, dtype: as for every atom; the mass is that of all gates together.
    """

    gates: ClassVar[int]
    """The number of gates."""
    states: ClassVar[int]
    """The number of tensors that a step leaves to the next, of which the first is h."""
    claim: Claim = "estimate"

    def __init__(self, d: int, **options: Unpack[AtomOptions]) -> None:
        super().__init__(
            (self.gates * d, d),
            Stacked(Spectral(RMS, RMS), self.gates),
            fan_out=d,
            fan_in=d,
            **options,
        )

    @abstractmethod
    def step(self, x: Tensor, recurrent: Tensor, state: State) -> State:
        """Return the state after one step, of which the first tensor is the output.

        Args:
            x: the input of the gates, [batch, gate, d].
            recurrent: U·h, [batch, gate, d].
            state: after the step before.
        """

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the outputs of all steps, and the state after the last.

        Args:
            x: the inputs of the gates, [batch, time, gate, d].
            state: to start from, as an earlier call returned it; None for zeros.
        """
        self.check_width(x)
        if x.dim() < 3 or x.shape[-2] != self.gates:
            raise ValueError(
                f"{self!r} takes the inputs of {self.gates} gates, [..., time, {self.gates}, d]; "
                f"got a tensor of shape {list(x.shape)}"
            )
        state = (torch.zeros_like(x[..., 0, 0, :]),) * self.states if state is None else state
        outputs = []
        for one in x.unbind(-3):
            recurrent = torch.unflatten(F.linear(state[0], self.weight), -1, (self.gates, -1))
            state = self.step(one, recurrent, state)
            outputs.append(state[0])
        return torch.stack(outputs, dim=-2), state

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0  # every entry of the state is at most 1

    def weight_sensitivity(self, *inputs: Radius) -> float:
        return self.sensitivity  # the weight reads a state of norm at most 1

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.run(x)
        return outputs

    def extra_repr(self) -> str:
        return str(self.weight.shape[1])


class GRUSteps(Steps):
    """The recurrence of a GRU: [batch, time, 3, d] -> [batch, time, d], for gates (r, z, n).

    h ← (1 − z)·n + z·h, with r = σ(x_r + U_r·h), z = σ(x_z + U_z·h), n = tanh(x_n + r·U_n·h).

    Sensitivity 2: an estimate, the gain at the origin, where h ← (x_n + U_n·h/2)/2 + h/2 and
    ‖U_n‖ = 1. Radius 1: proved, since every step is a mean of entries of at most 1.

    Args:
        d: the width of the state.
        mass, device, dtype: as for every atom.

    Example:
        >>> import torch
        >>> from modula import GRUSteps
        >>> GRUSteps(16)(torch.randn(2, 5, 3, 16)).shape
        torch.Size([2, 5, 16])

    Source: Cho et al. 2014 (arXiv:1406.1078), in the variant of torch.nn.GRU.
    """

    gates: ClassVar[int] = 3
    states: ClassVar[int] = 1
    sensitivity: float = 2.0

    def step(self, x: Tensor, recurrent: Tensor, state: State) -> State:
        (h,) = state
        (x_r, x_z, x_n), (u_r, u_z, u_n) = x.unbind(-2), recurrent.unbind(-2)
        reset, update = torch.sigmoid(x_r + u_r), torch.sigmoid(x_z + u_z)
        new = torch.tanh(x_n + reset * u_n)
        return (new + update * (h - new),)


class LSTMSteps(Steps):
    """The recurrence of an LSTM: [batch, time, 4, d] -> [batch, time, d], for gates (i, f, g, o).

    c ← σ(f)·c + σ(i)·tanh(g) and h ← σ(o)·tanh(c), with (i, f, g, o) = x + U·h.

    Sensitivity 1: an estimate, the gain at the origin, where c ← c/2 + (x_g + U_g·h)/2, h = c/2 and
    ‖U_g‖ = 1. Radius 1: proved, since |h| ≤ |tanh(c)|.

    Args:
        d: the width of the state.
        mass, device, dtype: as for every atom.

    Example:
        >>> import torch
        >>> from modula import LSTMSteps
        >>> LSTMSteps(16)(torch.randn(2, 5, 4, 16)).shape
        torch.Size([2, 5, 16])

    Source: Hochreiter & Schmidhuber 1997; Gers et al. 2000, for the forget gate.
    """

    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2
    sensitivity: float = 1.0

    def step(self, x: Tensor, recurrent: Tensor, state: State) -> State:
        _, c = state
        into, forget, new, out = (x + recurrent).unbind(-2)
        c = torch.sigmoid(forget) * c + torch.sigmoid(into) * torch.tanh(new)
        return torch.sigmoid(out) * torch.tanh(c), c
