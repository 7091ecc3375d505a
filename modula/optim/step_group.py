"""The processes that take a step together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor

from modula.optim.votes import Votes
from modula.sharding import is_sharded, split_meshes

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

_made: WeakKeyDictionary[ProcessGroup, dict[tuple[int, ...], ProcessGroup]] = WeakKeyDictionary()
"""Groups that were made for steps, by the world that they are part of and by their processes."""


def check_process_group(group: object) -> None:
    """Raise if this is neither a process group nor None.

    Raises:
        TypeError: names the type.
    """
    if group is not None and not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        raise TypeError(
            "process_group is one of torch.distributed's, such as ddp.process_group, got "
            f"{type(group).__name__}"
        )


def votes_on(params: Sequence[Tensor], group: ProcessGroup | None) -> Votes | None:
    """Return the votes on a step of these parameters; None if this process takes it alone.

    The processes are those that have a shard of a parameter, or share the work on plain tensors
    inside `split_over`, unless a group is given.

    Args:
        params: of the optimizer.
        group: the processes, as the user gave them.

    Raises:
        ValueError: the group lacks a process that has a shard.
    """
    if not params or not dist.is_available() or not dist.is_initialized():
        return None
    ranks = _ranks_of(params)
    if group is not None:
        missing = set(ranks) - set(dist.get_process_group_ranks(group))
        if missing:
            raise ValueError(
                f"process_group lacks processes that have shards of the weights, {sorted(missing)}:"
                " leave it out, or give a group of all processes that take the step"
            )
        ranks = tuple(dist.get_process_group_ranks(group))
    if len(ranks) < 2:
        return None
    chosen = _group_of(ranks, group)
    return Votes(chosen, torch.device("cpu") if _has_cpu(chosen) else params[0].device)


def _ranks_of(params: Sequence[Tensor]) -> tuple[int, ...]:
    meshes: dict[DeviceMesh, None] = dict.fromkeys(p.device_mesh for p in params if is_sharded(p))
    meshes.update(dict.fromkeys(split_meshes[-1:]))
    return tuple(sorted({rank for mesh in meshes for rank in mesh.mesh.flatten().tolist()}))


def _group_of(ranks: tuple[int, ...], given: ProcessGroup | None) -> ProcessGroup:
    """A group of these processes that exchanges tensors on CPUs, if there can be one.

    A vote on a GPU would wait for all work that is under way there.
    """
    world = cast("ProcessGroup", dist.group.WORLD)
    found = world if given is None and len(ranks) == dist.get_world_size() else given
    if found is not None and (_has_cpu(found) or not dist.is_gloo_available()):
        return found
    known = _made.setdefault(world, {})
    if ranks not in known:
        made = dist.new_group(list(ranks), backend="gloo", use_local_synchronization=True)
        known[ranks] = cast("ProcessGroup", made)
    return known[ranks]


def _has_cpu(group: ProcessGroup) -> bool:
    return "cpu" in dist.get_backend_config(group)
