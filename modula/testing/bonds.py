"""The laws of bonds."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from modula.algebra.core import Bond, S, T
from modula.instruments.derivative import differentiable
from modula.instruments.observing import measured_radius
from modula.spaces import Signature, arrow
from modula.testing.bounds import Ratios, attack, require_ratio, resized, worst
from modula.testing.laws import STEPS, on_cpu, require, seeded
from modula.testing.spaces import as_float64, in_float64, signatures, unifies_consistently
from modula.values import Value, map_leaves

OTHER_SIZES = (0.1, 10.0)
"""The norms of further inputs, at which a bond that claims a proof is checked."""


@on_cpu
def check_bond(
    bond: Bond[S, T],
    x: Value,
    *,
    steps: int = STEPS,
    generator: torch.Generator | None = None,
) -> Ratios:
    """Check that a bond keeps the bounds that it declares at an input.

    A bond whose spaces are its neighbour's is checked in RMS, L1, L2 and Linf. A bond that claims
    that its bounds are "proved" is also attacked at inputs that ascent finds, and a bound that is
    exceeded is an error; for "conditional" and "estimate" the ratio at `x` is only returned. Scores
    of −∞, which a mask has set and a softmax ignores, are not measured.

    Args:
        bond: the bond.
        x: an input; a few vectors are enough.
        steps: rounds of each ascent.
        generator: where random numbers come from; None starts one of its own.

    Returns:
        The largest ratios to the bounds that were found, above 1 where a bound is exceeded.

    Raises:
        AssertionError: names the law that fails, with the numbers and the tolerance.

    Example:
        >>> import torch
        >>> from modula import SquaredReLU
        >>> from modula.testing import check_bond
        >>> ratios = check_bond(SquaredReLU(), 3 * torch.ones(2, 4))  # its condition is x ≤ 1
        >>> round(ratios.input, 3)
        3.0
    """
    rng = seeded(generator)
    bond, x = in_float64(bond), map_leaves(as_float64, x)
    _has_nothing_to_train(bond)
    for signature in signatures(bond, x):
        unifies_consistently(bond, signature, x)
    with differentiable():
        found = [_attack_bond(bond, x, at, steps, rng) for at in signatures(bond, x)]
    return worst(found)


def _has_nothing_to_train(bond: Bond[S, T]) -> None:
    trained = [name for name, p in bond.named_parameters() if p.requires_grad]
    law = "a bond has nothing to train, since no duality map would reach it"
    require(not trained, bond, law, f"{', '.join(trained)} requires a gradient")
    require(bond.mass == 0, bond, "the mass of a bond is 0", f"got {bond.mass}")
    declared = bond.sensitivities()
    law = "a bond declares one sensitivity, finite and positive"
    holds = len(declared) == 1 and 0 < declared[0] < math.inf
    require(holds, bond, law, f"got {declared}")


def _attack_bond(
    bond: Bond[S, T],
    x: Value,
    signature: Signature,
    steps: int,
    rng: torch.Generator,
) -> Ratios:
    proved = bond.claim == "proved"
    domain, codomain = signature
    found = []
    for point in [x, *[resized(domain, x, size) for size in OTHER_SIZES if proved]]:
        (part,) = bond.observe(point)
        part = replace(part, domain=domain, codomain=codomain)
        gain, radius = attack(part, measured_radius(domain, point), steps, rng)
        found.append(Ratios(gain, None, radius))
    ratios = worst(found)
    if proved:
        at = f"in {arrow(signature)}"
        require_ratio(bond, f"‖∂f·Δx‖ ≤ s·‖Δx‖ {at}, s = {bond.sensitivity:.6g}", ratios.input)
        require_ratio(bond, f"‖f(x)‖ ≤ radius(‖x‖) {at}", ratios.radius)
    return ratios
