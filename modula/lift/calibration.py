"""Sensitivities of a lifted network, measured by backward passes of random cotangents.

For a random change of weight i of norm 1, with entries of root mean square τ_i, the change of the
output has to first order the root mean square

    κ_i = τ_i · ‖J_i‖_F / √N_out,

with J_i the derivative of the output's N_out entries in the weight. E‖J_iᵀ·c‖² = ‖J_i‖_F² for
cotangents c of independent normal entries, so a few backward passes estimate κ for all weights at
once, with no rule for any operation (as Hutchinson 1990 estimates a trace). An output of several
tensors counts as the root of the sum of their squares; over several example inputs, κ is the root
mean square over those whose output depends on the weight. κ is an average over directions: the
largest effect of a change of norm 1 is larger.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modula.errors import LiftError
from modula.geometry import BallVectors, Geometry
from modula.lift.inputs import Inputs
from modula.lift.nested import map_tensors, tensors_in
from modula.lift.restoring import restored
from modula.lift.rules import Kind
from modula.lift.swapping import swapped
from modula.norms import RMS, Linf
from modula.progress import progress
from modula.vector import dense


@dataclass(frozen=True)
class Gains:
    """How much random changes move the output, in the root mean square over entries.

    Args:
        weights: κ for each weight.
        inputs: the same for a change of the floating-point inputs; None if there is none.
        reached: for each weight, the indices along its first axis that a gradient reached.
    """

    weights: Mapping[str, float]
    inputs: float | None
    reached: Mapping[str, frozenset[int]]


def drawn(
    kind: Kind, geometry: Geometry, weight: Tensor, generator: torch.Generator
) -> tuple[Tensor, float]:
    """Return the value at which a weight is calibrated, and τ.

    The value is random of norm 1, but 0 for a bias and 1 for a gain; entries that enter a weight by
    other than linear maps stay as they are. τ is the root mean square of the entries of a random
    weight of norm 1.
    """
    size, sample = 1.0, weight.detach()
    if type(geometry) is not BallVectors or geometry.vector_norm not in (RMS, Linf):
        sample = geometry.sample(tuple(weight.shape), generator, torch.device("cpu"))
        size = _rms(sample)
    if kind == "entries":
        return weight.detach().clone(), size
    if kind in ("bias", "gain"):
        return torch.full_like(weight, float(kind == "gain")), size
    return sample.to(weight.device, weight.dtype), size


def gains(
    model: nn.Module,
    examples: Sequence[Inputs],
    values: Mapping[str, Tensor],
    sizes: Mapping[str, float],
    probes: int,
    seed: int,
) -> Gains:
    """Measure κ for each weight, at the given values of the weights.

    Args:
        model: the module, whose own weights are not touched.
        examples: its example inputs.
        values: the weights at which to measure.
        sizes: τ for each of them.
        probes: the number of backward passes for each example.
        seed: of all random numbers.

    Raises:
        LiftError: no output requires a gradient or has entries, or a κ is not finite.
    """
    leaves = {name: value.detach().clone().requires_grad_() for name, value in values.items()}
    passes = progress(range(probes * len(examples)), "lift")
    runs = [_Run(model, leaves, one, probes, seed, passes) for one in examples]
    found = {
        name: size * _root_mean([run.squares[name] for run in runs if run.squares[name]])
        for name, size in sizes.items()
    }
    wrong = next((name for name, value in found.items() if not math.isfinite(value)), None)
    if wrong is not None:
        raise LiftError(
            f"the measured sensitivity of {wrong!r} is {found[wrong]}: the network overflows at "
            "these weights. Calibrate at the weights as they are, lift(…, calibrate='init'), or "
            "give the sensitivities, lift(…, calibrate={name: S})"
        )
    entering = [run.of_inputs for run in runs if run.of_inputs is not None]
    reached = {name: frozenset[int]().union(*[r.reached[name] for r in runs]) for name in leaves}
    return Gains(found, _root_mean(entering) if entering else None, reached)


class _Run:
    """The backward passes of one example.

    The weights must still be swapped in them, since activations that a checkpoint computes again
    must see the same ones.
    """

    def __init__(
        self,
        model: nn.Module,
        leaves: Mapping[str, Tensor],
        example: Inputs,
        probes: int,
        seed: int,
        passes: Iterator[int],
    ) -> None:
        self.squares = dict.fromkeys(leaves, 0.0)
        self.reached: dict[str, set[int]] = {name: set() for name in leaves}
        self.of_inputs: float | None = None
        entering: list[Tensor] = []

        def entered(tensor: Tensor) -> Tensor:
            if not (tensor.is_floating_point() or tensor.is_complex()):
                return tensor
            entering.append(tensor.detach().clone().requires_grad_())
            return entering[-1]

        args = [map_tensors(entered, value) for value in example.args]
        kwargs = {name: map_tensors(entered, value) for name, value in example.kwargs.items()}
        totals = [0.0] * len(entering)
        generator = torch.Generator().manual_seed(seed)
        with restored(model, seed), torch.enable_grad(), swapped(model, leaves):
            outputs = _differentiable(model(*args, **kwargs))
            for probe in range(probes):
                next(passes, None)
                cotangents = [_cotangent(y, generator) for y in outputs]
                torch.autograd.backward(outputs, cotangents, retain_graph=probe + 1 < probes)
                self._take(leaves, probes)
                for i, leaf in enumerate(entering):
                    totals[i] += _square(leaf) / probes
        if entering:
            self.of_inputs = sum(totals)

    def _take(self, leaves: Mapping[str, Tensor], probes: int) -> None:
        """Add the squares of the gradients, and remove these."""
        for name, leaf in leaves.items():
            if leaf.grad is not None and leaf.dim() > 2:
                rows = leaf.grad.flatten(1).any(dim=1).nonzero()
                self.reached[name].update(rows.flatten().tolist())
            self.squares[name] += _square(leaf) / probes


def _square(leaf: Tensor) -> float:
    """‖g‖² of the gradient of a leaf, which is removed."""
    if leaf.grad is None:
        return 0.0
    square = float(torch.linalg.vector_norm(_real(dense(leaf.grad)), dtype=torch.float64)) ** 2
    leaf.grad = None
    return square


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _root_mean(squares: Sequence[float]) -> float:
    return math.sqrt(math.fsum(squares) / len(squares)) if squares else 0.0


def _differentiable(output: object) -> list[Tensor]:
    """The outputs through which gradients flow: tensors, or numbers if there is nothing else."""
    found = [_real(t) for _, t in tensors_in(output) if t.requires_grad]
    if not found:
        raise LiftError("no output of the model requires a gradient, so nothing can be measured")
    if not any(t.numel() for t in found):
        raise LiftError(
            "no output of the model has an entry, so nothing can be measured: give at least one "
            "example, and a text of at least one token"
        )
    return [t for t in found if t.numel() > 1] or found


def normal_entries(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return independent normal numbers, the same under any default device and dtype.

    Args:
        shape: of the result.
        generator: of the numbers, on whose device they are.
    """
    return torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float32)


def _cotangent(output: Tensor, generator: torch.Generator) -> Tensor:
    """Normal entries of variance 1/N."""
    entries = normal_entries(output.shape, generator) / math.sqrt(output.numel())
    return entries.to(output.device, output.dtype)


def _rms(tensor: Tensor) -> float:
    return float(tensor.double().square().mean().sqrt())
