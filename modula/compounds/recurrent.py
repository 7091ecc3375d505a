"""`GRU` and `LSTM`: recurrent layers over [batch, time, width]."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from modula.algebra.core import Composition
from modula.atoms import GRUSteps, LSTMSteps, StackedBias, StackedLinear
from modula.atoms.recurrent import State, Steps
from modula.norms import RMS


class Recurrent(Composition[RMS, RMS]):
    """A recurrence after the input projections of its gates, and their biases.

    Args:
        steps: the recurrence, whose width is that of the output.
        fan_in: the width of the input.
        mass: of the projections; the recurrent weight and the biases have masses of their own.
        bias_mass: of the biases.
    """

    def __init__(self, steps: Steps, fan_in: int, mass: float, bias_mass: float) -> None:
        d = steps.weight.shape[1]
        project = StackedLinear(steps.gates, d, fan_in, mass=mass)
        super().__init__(steps @ StackedBias(steps.gates, d, mass=bias_mass) @ project)
        self.arguments: str = f"{d}, {fan_in}"

    def run(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the outputs of all steps and the state after the last, to go on from.

        Args:
            x: [batch, time, fan_in].
            state: as an earlier call returned it; None for zeros.

        Returns:
            Outputs [batch, time, d], and the state.
        """
        project, bias, steps = self.components()
        return cast("Steps", steps).run(cast("Tensor", bias(project(x))), state)

    def extra_repr(self) -> str:
        return self.arguments


class GRU(Recurrent):
    """A gated recurrent layer: [batch, time, fan_in] -> [batch, time, d].

    Each gate's matrices are blocks of one tensor, with a duality map of their own. The weights have
    the layouts of `weight_ih`, `weight_hh` and `bias_ih` of torch.nn.GRU, which computes the same.

    Sensitivity 2: an estimate, as `GRUSteps`; radius 1: proved.

    Args:
        d: the width of the state and of the output.
        fan_in: the width of the input.
        mass: of the input projections.
        recurrent_mass: of the recurrent weight; it is not divided by the number of steps.
        bias_mass: of the biases.

    Raises:
        ValueError: a width below 1, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import GRU
        >>> layer = GRU(16, 8)
        >>> layer(torch.randn(2, 5, 8)).shape
        torch.Size([2, 5, 16])
        >>> start, state = layer.run(torch.randn(2, 5, 8))
        >>> more, state = layer.run(torch.randn(2, 1, 8), state)

    Source: Cho et al. 2014 (arXiv:1406.1078), in the variant of torch.nn.GRU.
    """

    def __init__(
        self,
        d: int,
        fan_in: int,
        *,
        mass: float = 1.0,
        recurrent_mass: float = 1.0,
        bias_mass: float = 0.1,
    ) -> None:
        super().__init__(GRUSteps(d, mass=recurrent_mass), fan_in, mass, bias_mass)


class LSTM(Recurrent):
    """A layer of long short-term memory: [batch, time, fan_in] -> [batch, time, d].

    Each gate's matrices are blocks of one tensor, with a duality map of their own. The weights have
    the layouts of `weight_ih`, `weight_hh` and `bias_ih` of torch.nn.LSTM, which computes the same.

    Sensitivity 1: an estimate, as `LSTMSteps`; radius 1: proved.

    Args:
        d: the width of the state and of the output.
        fan_in: the width of the input.
        mass: of the input projections.
        recurrent_mass: of the recurrent weight; it is not divided by the number of steps.
        bias_mass: of the biases.

    Raises:
        ValueError: a width below 1, or a negative mass.

    Example:
        >>> import torch
        >>> from modula import LSTM
        >>> layer = LSTM(16, 8)
        >>> output, (h, c) = layer.run(torch.randn(2, 5, 8))
        >>> output.shape, torch.equal(output[:, -1], h)
        (torch.Size([2, 5, 16]), True)

    Source: Hochreiter & Schmidhuber 1997; Gers et al. 2000, for the forget gate.
    """

    def __init__(
        self,
        d: int,
        fan_in: int,
        *,
        mass: float = 1.0,
        recurrent_mass: float = 3.0,
        bias_mass: float = 0.1,
    ) -> None:
        super().__init__(LSTMSteps(d, mass=recurrent_mass), fan_in, mass, bias_mass)
