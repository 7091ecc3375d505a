"""Master copies: weights of 16 bits are moved in float32 and rounded afterwards.

A bfloat16 number keeps 8 significant bits. A step of less than 1/512 of a weight is lost when it is
subtracted from it directly, and late in training most steps are of that kind. The master copy adds
them up until they show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from modula.scaling import working_dtype
from modula.sharding import to_local

MASTER = "master_weight"
"""Its name in the optimizer's state."""


def needs_master(p: Tensor) -> bool:
    """Return whether weights of this dtype are too coarse to take small steps."""
    return working_dtype(p.dtype) != p.dtype


def master_of(p: Tensor) -> Tensor:
    """Return a first master copy."""
    return p.detach().to(working_dtype(p.dtype))


def masters(params: Sequence[Tensor], states: Sequence[dict[str, Tensor]]) -> list[Tensor]:
    """Return the weights to be moved: each parameter's master copy, or else the parameter.

    A parameter may have been written by others since the last step (by load_state_dict or
    model.project, say). Where its master no longer rounds to it, the master takes its
    value.
    """
    chosen = [state.get(MASTER, p) for p, state in zip(params, states, strict=True)]
    for p, master in _copies(params, chosen):
        master.copy_(torch.where(master.to(p.dtype) == p, master, p))
    return chosen


def publish(params: Sequence[Tensor], moved: Sequence[Tensor]) -> None:
    """Round the masters into the parameters."""
    for p, master in _copies(params, moved):
        p.copy_(master)


def _copies(params: Sequence[Tensor], chosen: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """This process's shards of the parameters that have a master, and of their masters."""
    return [
        (to_local(p), to_local(master))
        for p, master in zip(params, chosen, strict=True)
        if master is not p
    ]


def restore_precision(
    state: dict[str, Tensor],
    saved: Mapping[str, Tensor],
    p: Tensor,
    numbers: Sequence[str],
    kept_in: Mapping[str, torch.dtype],
) -> None:
    """Give a loaded state the dtypes that it is kept in.

    torch casts all of it to the parameter's dtype, and leaves the count on its device.

    Args:
        state: of one parameter, as torch loaded it.
        saved: the same as it was saved.
        p: the parameter.
        numbers: the names of single numbers, which stay as they were saved.
        kept_in: the dtypes of the averages.
    """
    state.update(
        {name: torch.as_tensor(saved[name], device=p.device) for name in numbers if name in saved}
    )
    state.update(
        {name: saved[name].to(p.device, dtype) for name, dtype in kept_in.items() if name in saved}
    )
    if MASTER in saved and needs_master(p):
        state[MASTER] = saved[MASTER].to(p.device, working_dtype(p.dtype))
    else:
        state.pop(MASTER, None)
