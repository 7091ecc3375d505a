"""Sharing the duality map of plain tensors among replicas."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed.device_mesh import DeviceMesh

from modula.sharding import split_meshes


@contextmanager
def split_over(mesh: DeviceMesh) -> Iterator[None]:
    """Inside this context the processes of `mesh` share the duality maps of plain tensors, of which
    all of them hold the same.

    That is what DistributedDataParallel leaves: every process has all gradients. Without this
    context every process dualizes all of them, which is right too, and needs no communication. With
    it each process orthogonalises its share of the matrices, and one all-gather for each batch of
    equal shapes gives the results to all. Vectors (rows of an embedding, biases, gains) are
    dualized by every process, since that is cheaper than to send them. DTensors are shared out
    whether in this context or not.

    All processes of the mesh must enter with the same gradients. If they do not (a gradient that
    was not reduced), each matrix is moved by what the one process saw that dualized it.

    Args:
        mesh: as `torch.distributed.device_mesh.init_device_mesh` makes it.

    Example:
        >>> import torch
        >>> from modula import Linear, ReLU, SteepestDescent
        >>> from modula.parallel import split_over
        >>> def train(ddp, mesh, batches):
        ...     optimizer = SteepestDescent(ddp.module, lr=0.1)
        ...     for x, y in batches:
        ...         optimizer.zero_grad()
        ...         torch.nn.functional.cross_entropy(ddp(x), y).backward()
        ...         with split_over(mesh):
        ...             optimizer.step()
    """
    split_meshes.append(mesh)
    try:
        yield
    finally:
        split_meshes.pop()
