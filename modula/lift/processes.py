"""Numbers that are the same on all processes, each of which lifts the same model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from modula.errors import LiftError
from modula.lift.calibration import Gains


def is_among_others() -> bool:
    """Return whether torch.distributed runs on more than one process."""
    distributed = torch.distributed
    return (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )


def agreed(measure: Callable[[], Gains]) -> Gains:
    """Return what this process measures, or the mean square over all processes.

    Every process must call it.

    Raises:
        LiftError: the measurement fails on one of them.
    """
    if not is_among_others():
        return measure()
    mine: Gains | LiftError
    try:
        mine = measure()
    except LiftError as error:
        mine = error
    found = _gathered(mine)
    for rank, one in enumerate(found):
        if isinstance(one, LiftError):
            raise LiftError(f"process {rank}: {one}")
    every = [one for one in found if isinstance(one, Gains)]
    weights = {name: _root_mean([one.weights[name] for one in every]) for name in every[0].weights}
    entering = [one.inputs for one in every if one.inputs is not None]
    reached = {
        name: frozenset[int]().union(*[one.reached[name] for one in every]) for name in weights
    }
    return Gains(weights, _root_mean(entering) if entering else None, reached)


def check_agreement(norms: Mapping[str, str]) -> None:
    """Raise if another process has found other norms.

    Args:
        norms: of this process, as text, by weight.

    Raises:
        LiftError: names the first weight that differs.
    """
    if not is_among_others():
        return
    for rank, other in enumerate(_gathered(dict(norms))):
        if not isinstance(other, dict) or other == norms:
            continue
        name = next(n for n in (*norms, *other) if norms.get(n) != other.get(n))
        raise LiftError(
            f"{name!r} is measured by {norms.get(name, 'no norm')} here and by "
            f"{other.get(name, 'no norm')} on process {rank}: give all processes example inputs "
            "that take the same branches, such as the same batch"
        )


def _gathered(mine: object) -> Sequence[object]:
    found: list[object] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, mine)
    return found


def _root_mean(values: Sequence[float]) -> float:
    """The root mean square of those that are not 0."""
    known = [value * value for value in values if value]
    return math.sqrt(math.fsum(known) / len(known)) if known else 0.0
