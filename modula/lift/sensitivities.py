"""The sensitivities of a lifted network, at drawn weights or at the weights as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

import torch
from torch import Tensor, nn

from modula.geometry import Geometry, Reshaped, Stacked
from modula.lift.calibration import Gains, drawn, gains
from modula.lift.inputs import Inputs
from modula.lift.processes import agreed
from modula.lift.uses import Measured

ROUNDINGS, AT_MOST = 100.0, 1e-3
"""A weight is taken to have no effect if S is below this many roundings of the median S.

In float32 that is 1e-5 of it. A key's bias in attention and a bias before a BatchNorm have 1e-7.
The smallest S of a weight with an effect that was seen is 1e-4, of a time step in a state-space
model. In 16 bits it is a thousandth."""

BESIDE = 3.0
"""The length of rows that are drawn to be added to those of a tied table, over their length.

Found by experiment, see *Sensitivities are measured* in docs/guides/lifting.md."""

HIDDEN = 1e-2
"""The part of the S at drawn weights below which an S at the weights as they are gets a warning."""


@dataclass(frozen=True)
class Sensitivities:
    """What a calibration found.

    Args:
        weights: S for each weight.
        inputs: S for the floating-point inputs; None if it was not measured.
        without_effect: weights whose effect on the output is rounding.
        hidden: weights whose effect their small values hide.
        unreached: for stacks of experts, the number of those that no gradient reached.
    """

    weights: Mapping[str, float]
    inputs: float | None = None
    without_effect: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    unreached: Mapping[str, int] = field(default_factory=dict)


def measured(
    model: nn.Module,
    examples: Sequence[Inputs],
    norms: Mapping[str, Measured],
    how: Literal["drawn", "init"],
    probes: int,
    seed: int,
) -> Sensitivities:
    """Measure S for each weight.

    Weights without effect are found at drawn weights, since at small weights all effects on
    attention are small. A weight that the run at drawn weights does not reach, as in a branch that
    depends on values, is measured at the weights as they are.

    Args:
        model: the module, with whole parameters.
        examples: its example inputs.
        norms: of the weights that they use.
        how: "drawn" or "init".
        probes: the number of backward passes for each example.
        seed: of all random numbers.

    Raises:
        LiftError: an S is not finite, or no output requires a gradient.
    """
    parameters = dict(model.named_parameters())
    present = {name: parameters[name].detach() for name in norms}
    values, sizes = drawn_values(present, norms, seed)

    def at(weights: Mapping[str, Tensor]) -> Gains:
        return agreed(lambda: gains(model, examples, weights, sizes, probes, seed))

    found = at(values)
    rounding = _below_rounding(found.weights, present.values())
    missed = [name for name, S in found.weights.items() if not S]
    unreached = dict(_unreached(found, norms, present))
    if how == "drawn" and not missed:
        return Sensitivities(found.weights, found.inputs, rounding, unreached=unreached)
    actual = at(present)
    rounding -= {name for name in missed if actual.weights[name]}
    if how == "init":
        hidden = {n for n, S in found.weights.items() if actual.weights[n] < HIDDEN * S}
        unreached = dict(_unreached(actual, norms, present))
        return Sensitivities(actual.weights, actual.inputs, rounding, frozenset(hidden), unreached)
    weights = {name: S or actual.weights[name] for name, S in found.weights.items()}
    return Sensitivities(weights, found.inputs, rounding, unreached=unreached)


def drawn_values(
    present: Mapping[str, Tensor], norms: Mapping[str, Measured], seed: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return a random value for each weight, and the size τ of its entries at norm 1.

    The value has norm 1, but the rows of a table that are added to those of a tied one have
    `BESIDE` times their length. A table that is the head as well has norm 1 as a matrix, and its d
    features have a root mean square of 1/√d and less. If positions of 1 were added to them, tokens
    would hardly be seen.

    Args:
        present: the weights as they are.
        norms: theirs.
        seed: of the random numbers.
    """
    values: dict[str, Tensor] = {}
    sizes: dict[str, float] = {}
    source = torch.Generator().manual_seed(seed)
    for name, one in norms.items():
        values[name], sizes[name] = drawn(one.kinds[0], one.geometry, present[name], source)
    for name, one in norms.items():
        if one.beside is not None:
            tied = values[one.beside.table].double().square().mean().sqrt()
            length = BESIDE * abs(one.beside.factor) * float(tied)
            values[name] = values[name] * min(1.0, length)
    return values, sizes


def _below_rounding(
    sensitivities: Mapping[str, float], weights: Iterable[Tensor]
) -> frozenset[str]:
    """The weights whose gradient is rounding, such as a bias before a BatchNorm."""
    known = [S for S in sensitivities.values() if S > 0]
    dtypes = {w.dtype for w in weights}
    rounding = max(torch.finfo(dtype).eps for dtype in dtypes)
    least = min(AT_MOST, ROUNDINGS * rounding) * median(known) if known else 0.0
    return frozenset([name for name, S in sensitivities.items() if least >= S])


def _unreached(
    found: Gains, norms: Mapping[str, Measured], present: Mapping[str, Tensor]
) -> Iterator[tuple[str, int]]:
    """The stacks of experts of which a gradient reached some, with the number of the others."""
    for name, indices in found.reached.items():
        if indices and _counts_experts(norms[name].geometry):
            left = len(present[name]) - len(indices)
            if left:
                yield name, left


def _counts_experts(geometry: Geometry) -> bool:
    """Whether each index along the first axis has a matrix of its own."""
    if isinstance(geometry, Reshaped):
        return False
    return isinstance(geometry, Stacked) and geometry.sizes is None and geometry.axis == 0
