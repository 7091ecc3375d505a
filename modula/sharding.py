"""Tensors sharded over processes, and how a function of whole weights is computed on them.

A DTensor is one tensor of which every process has a shard. A function of single entries is computed
on the shards where they are. A geometry needs more: to orthogonalise a matrix, one process must
have all of it. So a batch of matrices that is sharded by rows is redistributed by an all-to-all,
after which each process has some of the matrices whole. It computes on these, and a second
all-to-all restores the layout. No process ever has all matrices of a batch.

Placements, meshes and `redistribute` are PyTorch's (torch.distributed.tensor). That module is
imported when the first DTensor is met, since importing it takes half as long as importing torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from math import ceil, prod
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import TypeIs

from modula.scaling import working_dtype

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor.placement_types import Placement

Placements: TypeAlias = "tuple[Placement, ...]"
BatchMap: TypeAlias = Callable[[Tensor], Tensor]
"""A function of a batch, on one process."""

Pairwise: TypeAlias = Callable[[list[Tensor], list[Tensor]], Sequence[Tensor]]
"""One of torch's foreach operations."""

split_meshes: list[DeviceMesh] = []
"""The last entry is the mesh over which work on plain tensors is split.

`modula.parallel.split_over` appends it. A list, not a context variable, because torch.compile
cannot read those."""

exchanges: list[Callable[[], AbstractContextManager[None]]] = []
"""The last entry makes the context in which processes exchange tensors.

`modula.optim` appends one by which processes tell each other of a failure before they exchange
anything, since the others would wait for the one that failed.
"""


def is_sharded(t: Tensor) -> TypeIs[DTensor]:
    """Return whether the tensor is a DTensor."""
    if type(t) is Tensor or type(t) is nn.Parameter or not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(t, DTensor)


class Redistribution(NamedTuple):
    """A change of a batch's layout along one axis of the mesh.

    Args:
        axis: of the mesh.
        mesh: the processes along that axis, this one among them.
        shape: of the batch that these processes have together.
        before, after: the placement along that axis.
    """

    axis: int
    mesh: DeviceMesh
    shape: torch.Size
    before: Placement
    after: Placement

    def apply(self, local: Tensor) -> Tensor:
        """Return this process's shard in the layout `after`, from that in the layout `before`."""
        return _redistributed(local, self.mesh, self.shape, self.before, self.after)

    def undo(self, local: Tensor) -> Tensor:
        """Return this process's shard in the layout `before`, from that in the layout `after`."""
        return _redistributed(local, self.mesh, self.shape, self.after, self.before)


@dataclass(frozen=True)
class Sharding:
    """The layout of one tensor on a mesh. The shards of tensors of equal layout can be stacked.

    Args:
        mesh: the processes.
        placements: for each axis of the mesh, whether it shards an axis of the tensor, and which
            one, or replicates it.
        shape: of the whole tensor.
        plain: whether it is a plain tensor, equal on all processes, which share the work on it.
    """

    mesh: DeviceMesh
    placements: Placements
    shape: torch.Size
    plain: bool = False

    def place(self, local: Tensor) -> Tensor:
        """Return the tensor of this layout of which `local` is this process's shard."""
        return local if self.plain else _dtensor(local, self.mesh, self.placements, self.shape)

    def map(self, f: BatchMap, shards: Tensor, vector_axis: int | None) -> Tensor:
        """Return this process's shards of f(whole weights).

        Args:
            f: [batch, *shape] -> [batch, *shape].
            shards: of a batch, [batch, *shard], of the same weights on every process.
            vector_axis: the axis of a weight along which the vectors run that f treats each by
                itself; None if f needs whole weights.
        """
        local, redistributions = shards, self._redistributions(len(shards), vector_axis)
        for one in redistributions:
            local = one.apply(local)
        local = f(local) if local.numel() else local
        for one in reversed(redistributions):
            local = one.undo(local)
        return local

    def measure(
        self, f: BatchMap, shards: Tensor, vector_axis: int | None, combine: BatchMap
    ) -> Tensor:
        """Return one number for each weight of the batch, on every process.

        Args:
            f: [batch, *shape] -> [batch].
            shards, vector_axis: as for `map`.
            combine: reduces the numbers of a weight's shards to one: [shard, batch] -> [batch].
        """
        redistributions = self._redistributions(len(shards), vector_axis)
        numbers = self._measured(f, shards, redistributions, torch.Size(()))
        by_weight = [one.axis for one in redistributions if one.after.is_shard(0)]
        return self._combined(numbers, combine, by_weight)

    def vectors(self, f: BatchMap, shards: Tensor, length: int) -> Tensor:
        """Return a vector for each weight of the batch, on every process.

        Args:
            f: [batch, *shape] -> [batch, length], of whole weights.
            shards: as for `map`.
            length: of the vectors.
        """
        redistributions = self._redistributions(len(shards), None)
        return self._measured(f, shards, redistributions, torch.Size((length,)))

    def shards_of(self, whole: Tensor) -> Tensor:
        """Return this process's shards of weights that it has whole: [batch, *shape] -> a view."""
        for cut in range(len(self.shape)):
            for axis, length in self._splits(cut):
                chunk = ceil(length / self.mesh.size(axis))
                begin = min(chunk * self.mesh.get_local_rank(axis), length)
                whole = whole.narrow(1 + cut, begin, _local_length(length, self.mesh, axis))
        return whole

    def combine(self, numbers: Tensor, combine: BatchMap) -> Tensor:
        """Return one number for each weight, on every process, from those of its shards.

        Args:
            numbers: of this process's shards, [batch].
            combine: reduces the numbers of a weight's shards to one: [shard, batch] -> [batch].
        """
        return self._combined(numbers, combine, ())

    def _measured(
        self,
        f: BatchMap,
        shards: Tensor,
        redistributions: Sequence[Redistribution],
        each: torch.Size,
    ) -> Tensor:
        """f of the weights after the redistributions, gathered over all that shard by weight.

        Args:
            f: [batch, *shape] -> [batch, *each].
            shards: as for `map`.
            redistributions: after which f can be computed.
            each: the shape of what f returns for one weight.
        """
        local = shards
        for one in redistributions:
            local = one.apply(local)
        dtype = working_dtype(shards.dtype)
        found = (
            f(local).to(dtype) if local.numel() else local.new_zeros(len(local), *each).to(dtype)
        )
        for one in reversed(redistributions):
            if one.after.is_shard(0):
                shape = one.shape[:1] + each
                found = _gathered(_dtensor(found, one.mesh, (one.after,), shape))
        return found

    def _combined(self, numbers: Tensor, combine: BatchMap, without: Sequence[int]) -> Tensor:
        for axis in range(self.mesh.ndim):
            if axis not in without and not self.placements[axis].is_replicate():
                numbers = combine(_all_gathered(numbers, _submesh(self.mesh, axis)))
        return numbers

    def _redistributions(self, count: int, vector_axis: int | None) -> list[Redistribution]:
        """The changes of layout after which processes can compute on a batch of `count` weights.

        Whole weights: the batch is sharded by weight over all processes, and over replicas if there
        are enough weights. Vectors: nothing changes unless the mesh shards the vectors themselves.
        Then the weights are sharded along another axis, or by weight if they have no other. Every
        replica computes the result, because that is cheaper than sending it.
        """
        shape = self._batch_shape(count)
        if vector_axis is not None:
            cut = vector_axis % len(self.shape)
            others = [1 + axis for axis in range(len(self.shape)) if axis != cut]
            return self._unsharding(shape, cut, others[0] if others else 0)
        redistributions = self._over_replicas(shape)
        for cut in range(len(self.shape)):
            redistributions += self._unsharding(shape, cut, 0)
        return redistributions

    def _over_replicas(self, shape: list[int]) -> list[Redistribution]:
        """Shard a batch of this shape by weight over replicas, and update the shape."""
        from torch.distributed.tensor import Replicate, Shard

        count = shape[0]
        redistributions = []
        for axis, p in enumerate(self.placements):
            if p.is_replicate() and worth_sharing(count, self.mesh.size(axis)):
                redistributions.append(
                    Redistribution(
                        axis, _submesh(self.mesh, axis), torch.Size(shape), Replicate(), Shard(0)
                    )
                )
                shape[0] = _local_length(shape[0], self.mesh, axis)
        return redistributions

    def _unsharding(self, shape: list[int], cut: int, target: int) -> list[Redistribution]:
        """Shard axis `target` of a batch in place of tensor axis `cut`, and update the shape."""
        from torch.distributed.tensor import Shard

        redistributions = []
        for axis, length in reversed(self._splits(cut)):
            shape[1 + cut] = length
            redistributions.append(
                Redistribution(
                    axis,
                    _submesh(self.mesh, axis),
                    torch.Size(shape),
                    Shard(1 + cut),
                    Shard(target),
                )
            )
            shape[target] = _local_length(shape[target], self.mesh, axis)
        return redistributions

    def _batch_shape(self, count: int) -> list[int]:
        """The shape of this process's shards of a batch of `count` weights."""
        shape = [count, *self.shape]
        for cut in range(len(self.shape)):
            for axis, length in self._splits(cut):
                shape[1 + cut] = _local_length(length, self.mesh, axis)
        return shape

    def _splits(self, cut: int) -> list[tuple[int, int]]:
        """Mesh axes that shard tensor axis `cut`, in order, each with the length it splits.

        The axes of a mesh are applied from left to right. A strided placement is applied after
        those on its right that make up its split_factor; that is how `fully_shard` shards the
        weights of a tensor-parallel layer.
        """
        order: list[int] = []
        for axis, p in reversed(list(enumerate(self.placements))):
            if p.is_replicate() or _sharded_axis(p) != cut:
                continue
            before = 0
            while prod([self.mesh.size(other) for other in order[:before]]) < _split_factor(p):
                before += 1
            order.insert(before, axis)
        splits, length = [], self.shape[cut]
        for axis in order:
            splits.append((axis, length))
            length = _local_length(length, self.mesh, axis)
        return splits


def worth_sharing(count: int, replicas: int) -> bool:
    """Return whether replicas share the work on a batch of `count` weights that all of them have.

    The results are gathered in chunks of equal size, so that a batch is padded to a multiple of the
    number of replicas. Replicas share the work if padding at most doubles what is sent.
    """
    return count > 1 and 2 * count >= replicas


def local_shard(t: Tensor) -> tuple[Tensor, Sharding | None]:
    """Return this process's shard and the tensor's layout, or `(t, None)` if it is not sharded."""
    if (type(t) is Tensor or type(t) is nn.Parameter) and not split_meshes:
        return t, None
    t = reduced(t)
    return to_local(t), sharding_of(t)


def sharding_of(t: Tensor) -> Sharding | None:
    """Return the tensor's layout; None if this process works on the tensor alone."""
    if is_sharded(t):
        return Sharding(t.device_mesh, t.placements, t.shape)
    if not split_meshes:
        return None
    from torch.distributed.tensor import Replicate

    mesh = split_meshes[-1]
    return Sharding(mesh, (Replicate(),) * mesh.ndim, t.shape, plain=True)


def reduced(t: Tensor) -> Tensor:
    """Return the tensor with pending sums over processes carried out."""
    if not is_sharded(t) or not any(p.is_partial() for p in t.placements):
        return t
    from torch.distributed.tensor import Replicate

    summed = [Replicate() if p.is_partial() else p for p in t.placements]
    with _exchange():
        return t.redistribute(placements=summed)


def to_local(t: Tensor) -> Tensor:
    """Return this process's shard of the tensor, or all of a plain one. It shares the memory."""
    return t.to_local() if is_sharded(t) else t


def to_local_like(t: Tensor, like: Tensor) -> Tensor:
    """Return this process's shard of `t` in the layout of `like`.

    Raises:
        TypeError: one of them is a DTensor and the other is not.
    """
    if is_sharded(t) != is_sharded(like):
        raise TypeError(
            "one of two tensors is a DTensor and the other a plain tensor: shard the plain one "
            "with torch.distributed.tensor.distribute_tensor, or gather the other one with "
            ".full_tensor()"
        )
    if is_sharded(t) and is_sharded(like) and t.placements != like.placements:
        with _exchange():
            t = t.redistribute(placements=like.placements)
    return to_local(t)


def all_to_local(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return this process's shard of each tensor."""
    return [to_local(t) for t in tensors]


def all_to_local_like(tensors: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """Return this process's shard of each tensor in the layout of its counterpart."""
    return [to_local_like(t, other) for t, other in zip(tensors, like, strict=True)]


def from_local_like(shards: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors of which these are this process's shards, in the layouts of `like`."""
    return [
        _dtensor(local, other.device_mesh, other.placements, other.shape)
        if is_sharded(other)
        else local
        for local, other in zip(shards, like, strict=True)
    ]


def entrywise(
    operation: Pairwise, tensors: Sequence[Tensor], others: Sequence[Tensor]
) -> list[Tensor]:
    """Return the results of one of torch's foreach operations, in the layouts of `tensors`."""
    if not tensors:
        return []
    return from_local_like(
        operation(all_to_local(tensors), all_to_local_like(others, tensors)), tensors
    )


def to_full(t: Tensor) -> Tensor:
    """Return the whole tensor, on every process. Meant for single numbers."""
    return _gathered(t) if is_sharded(t) else t


def dot(
    a: Sequence[Tensor], b: Sequence[Tensor], multiply: Callable[[Tensor, Tensor], Tensor]
) -> list[Tensor]:
    """Return one sum of products for all tensors of equal mesh and placements, on every process.

    Args:
        a, b: lists of tensors of equal shapes.
        multiply: the sum of the products of all entries, of two plain tensors.
    """
    totals = []
    for layout, products in _by_layout(a, b, multiply):
        device = products[0][1].device
        total = torch.stack([product.to(device) for _, product in products]).sum()
        totals.append(total if layout is None else _summed(total, layout))
    return totals


def dots(
    a: Sequence[Tensor], b: Sequence[Tensor], multiply: Callable[[Tensor, Tensor], Tensor]
) -> list[Tensor]:
    """Return the product of each tensor with its counterpart, on every process.

    Tensors of equal mesh and placements take one sum over processes together.

    Args:
        a, b: lists of tensors of equal shapes.
        multiply: sums over the entries of two plain tensors: one number, or several as a vector.
    """
    found: dict[int, Tensor] = {}
    for layout, products in _by_layout(a, b, multiply):
        if layout is not None:
            summed = _summed(torch.stack([product for _, product in products]), layout)
            products = [
                (i, product) for (i, _), product in zip(products, summed.unbind(), strict=True)
            ]
        found.update(products)
    return [found[i] for i in range(len(found))]


def _by_layout(
    a: Sequence[Tensor], b: Sequence[Tensor], multiply: Callable[[Tensor, Tensor], Tensor]
) -> Iterable[tuple[Sharding | None, list[tuple[int, Tensor]]]]:
    """This process's products, each with its position, grouped by mesh and placements.

    All products of DTensors in one group are on one device.
    """
    products: dict[Sharding | None, list[tuple[int, Tensor]]] = {}
    for i, (one, other) in enumerate(zip(map(reduced, a), b, strict=True)):
        layout = (
            Sharding(one.device_mesh, one.placements, torch.Size(())) if is_sharded(one) else None
        )
        products.setdefault(layout, []).append(
            (i, multiply(to_local(one), to_local_like(other, one)))
        )
    return products.items()


def _summed(numbers: Tensor, layout: Sharding) -> Tensor:
    """The sums over all processes that have different shards."""
    from torch.distributed.tensor import Partial, Replicate

    pending = tuple([Replicate() if p.is_replicate() else Partial() for p in layout.placements])
    return _gathered(_dtensor(numbers, layout.mesh, pending, numbers.shape))


def fill(weight: Tensor, values: Tensor) -> None:
    """Write values into a weight in place.

    If it is a DTensor, all processes write the values that the mesh's first process was given.

    Args:
        weight: where to write.
        values: the whole weight, a plain tensor.
    """
    if is_sharded(weight):
        from torch.distributed.tensor import distribute_tensor

        values = distribute_tensor(
            values.to(weight.device, weight.dtype), weight.device_mesh, weight.placements
        )
    to_local(weight).copy_(to_local(values))


def refuse_fully_sharded(model: nn.Module) -> None:
    """Raise if some module inside is under `fully_shard`, whose hooks run in backward() alone.

    Raises:
        RuntimeError: says what to do instead.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    from torch.distributed.fsdp import FSDPModule

    if any(isinstance(module, FSDPModule) for module in model.modules()):
        raise RuntimeError(
            f"{model!r} is under fully_shard, which sums gradients over processes in backward() "
            "alone: call loss.backward(), then model.gradient() without the loss"
        )


def _redistributed(
    local: Tensor, mesh: DeviceMesh, shape: torch.Size, before: Placement, after: Placement
) -> Tensor:
    given = _dtensor(local, mesh, (before,), shape)
    if before.is_replicate():  # each process has its part already
        return given.redistribute(placements=[after]).to_local()
    with _exchange():
        return given.redistribute(placements=[after]).to_local()


def _gathered(t: DTensor) -> Tensor:
    """The whole tensor, on every process."""
    with _exchange():
        return t.full_tensor()


def _exchange() -> AbstractContextManager[None]:
    return exchanges[-1]() if exchanges else nullcontext()


def _dtensor(local: Tensor, mesh: DeviceMesh, placements: Placements, shape: torch.Size) -> DTensor:
    """The DTensor of this shape of which `local` is this process's shard."""
    from torch.distributed.tensor import DTensor

    strides = tuple([prod(shape[axis + 1 :]) for axis in range(len(shape))])
    return DTensor.from_local(local.contiguous(), mesh, placements, shape=shape, stride=strides)


@cache
def _submesh(mesh: DeviceMesh, axis: int) -> DeviceMesh:
    """The processes that differ from this one along one axis of the mesh."""
    from torch.distributed.device_mesh import DeviceMesh

    return mesh if mesh.ndim == 1 else DeviceMesh.from_group(mesh.get_group(axis), mesh.device_type)


def _local_length(length: int, mesh: DeviceMesh, axis: int) -> int:
    """This process's length of a tensor axis of which each process along a mesh axis has a chunk.

    All chunks but the last are equally long.
    """
    chunk = ceil(length / mesh.size(axis))
    return max(0, min(chunk, length - chunk * mesh.get_local_rank(axis)))


def _all_gathered(numbers: Tensor, mesh: DeviceMesh) -> Tensor:
    """The numbers of all processes of a mesh: [n] -> [process, n]."""
    from torch.distributed.tensor import Shard

    return _gathered(
        _dtensor(numbers[None], mesh, (Shard(0),), torch.Size((mesh.size(), len(numbers))))
    )


def _sharded_axis(p: Placement) -> int:
    """The tensor axis that a sharding placement shards."""
    axis: int = p.dim  # type: ignore[attr-defined] # Shard and its strided form share no base class that has it
    return axis


def _split_factor(p: Placement) -> int:
    """Into how many chunks the axis is split before this placement is applied."""
    factor: int = getattr(p, "split_factor", 1)
    return factor
