"""Replicas that share the duality maps of plain tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed.device_mesh import DeviceMesh

from modula.sharding import split_meshes


@contextmanager
def split_over(mesh: DeviceMesh) -> Iterator[None]:
    """Share the duality maps of plain tensors among the processes of a mesh, inside this context.

    The tensors must be equal on all processes, as gradients are under DistributedDataParallel.
    Without this context every process dualizes all of them, which gives the same result and needs
    no communication. With it, each of N processes orthogonalises 1/N of the matrices, and one
    all-gather for each batch of equal shapes sends the results to all. Vectors (rows of an
    embedding, biases, gains) are dualized by every process, because that is cheaper than sending
    them. Processes share the work on DTensors inside and outside of this context.

    If gradients differ between processes (because they were not reduced), the update of each matrix
    follows from the gradient of the process that dualized it.

    Args:
        mesh: of `torch.distributed.device_mesh.init_device_mesh`.

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
