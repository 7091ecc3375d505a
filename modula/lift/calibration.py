"""Sensitivities of a lifted network, measured by backward passes of random cotangents.

For a random change of weight i of norm 1, with entries of root mean square τ_i, the change of the
output has to first order the root mean square

    κ_i = τ_i · ‖J_i‖_F / √N_out,

with J_i the derivative of the output's N_out entries in the weight. E‖J_iᵀ·c‖² = ‖J_i‖_F² for
cotangents c of independent normal entries, so a few backward passes estimate κ for all weights at
once, with no rule for any operation (as Hutchinson 1990 estimates a trace). An output of several
tensors counts as the root of the sum of their squares. κ is an average over directions: the largest
effect of a change of norm 1 is larger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modula.errors import LiftError
from modula.geometry import BallVectors, Geometry
from modula.lift.nested import tensors_in
from modula.lift.restoring import restored
from modula.lift.rules import Kind
from modula.lift.swapping import swapped
from modula.norms import RMS, Linf


@dataclass(frozen=True)
class Gains:
    """How much random changes move the output, in the root mean square over entries.

    Args:
        weights: κ for each weight.
        inputs: the same for a change of the floating-point inputs; None if there is none.
    """

    weights: Mapping[str, float]
    inputs: float | None


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
    args: Sequence[object],
    kwargs: Mapping[str, object],
    values: Mapping[str, Tensor],
    sizes: Mapping[str, float],
    probes: int,
    seed: int,
) -> Gains:
    """Measure κ for each weight, at the given values of the weights.

    Args:
        model: the module, whose own weights are not touched.
        args, kwargs: its example inputs.
        values: the weights at which to measure.
        sizes: τ for each of them.
        probes: the number of backward passes.
        seed: of all random numbers.

    Raises:
        LiftError: no output requires a gradient, or a κ is not finite.
    """
    leaves = {name: value.detach().clone().requires_grad_() for name, value in values.items()}
    given = [t for _, t in tensors_in([args, kwargs]) if t.is_leaf]
    before = [t.grad for t in given]
    args = [_as_leaf(value) for value in args]
    kwargs = {name: _as_leaf(value) for name, value in kwargs.items()}
    entering = [t for t in (*args, *kwargs.values()) if isinstance(t, Tensor) and t.requires_grad]
    try:
        with restored(model, seed), torch.enable_grad(), swapped(model, leaves):
            squares = _squares(model, list(leaves.values()), entering, args, kwargs, probes, seed)
    finally:
        for tensor, grad in zip(given, before, strict=True):
            tensor.grad = grad
    found = {
        name: sizes[name] * math.sqrt(square / probes)
        for name, square in zip(leaves, squares, strict=False)
    }
    wrong = next((name for name, value in found.items() if not math.isfinite(value)), None)
    if wrong is not None:
        raise LiftError(
            f"the measured sensitivity of {wrong!r} is {found[wrong]}: the network overflows at "
            "these weights. Calibrate at the weights as they are, lift(…, calibrate='init'), or "
            "give the sensitivities, lift(…, calibrate={name: S})"
        )
    of_inputs = squares[len(leaves) :]
    return Gains(found, math.sqrt(sum(of_inputs) / probes) if of_inputs else None)


def _squares(
    model: nn.Module,
    leaves: Sequence[Tensor],
    entering: Sequence[Tensor],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    probes: int,
    seed: int,
) -> list[float]:
    """The sum over probes of ‖Jᵀ·c‖² for each leaf, and for each input.

    The weights must still be swapped in the backward passes, since activations that a checkpoint
    computes again must see the same ones.
    """
    outputs = _differentiable(model(*args, **kwargs))
    wanted = [*leaves, *entering]
    totals = [0.0] * len(wanted)
    generator = torch.Generator().manual_seed(seed)
    for probe in range(probes):
        cotangents = [_cotangent(y, generator) for y in outputs]
        torch.autograd.backward(outputs, cotangents, retain_graph=probe + 1 < probes)
        for i, leaf in enumerate(wanted):
            if leaf.grad is not None:
                totals[i] += float(torch.linalg.vector_norm(leaf.grad, dtype=torch.float64)) ** 2
                leaf.grad = None
    return totals


def _differentiable(output: object) -> list[Tensor]:
    """The outputs through which gradients flow: tensors, or numbers if there is nothing else."""
    found = [t for _, t in tensors_in(output) if t.requires_grad and t.is_floating_point()]
    if not found:
        raise LiftError("no output of the model requires a gradient, so nothing can be measured")
    return [t for t in found if t.numel() > 1] or found


def _cotangent(output: Tensor, generator: torch.Generator) -> Tensor:
    """Normal entries of variance 1/N."""
    entries = torch.randn(output.shape, generator=generator) / math.sqrt(output.numel())
    return entries.to(output.device, output.dtype)


def _as_leaf(value: object) -> object:
    """An input of floating-point numbers as a tensor that gets a gradient; others as they are."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().clone().requires_grad_()
    return value


def _rms(tensor: Tensor) -> float:
    return float(tensor.double().square().mean().sqrt())
