"""Tensors that are spread over processes, and how a map of whole weights is computed on them.

A DTensor is one tensor of which every process holds a part. What treats every entry by itself is
computed on the parts as they lie. A geometry needs more: to orthogonalise a matrix, one process
must have all of it. So a batch of matrices, of which each process holds some rows of every matrix,
is redistributed until each process holds all rows of some matrices. That is one all-to-all, as is
the way back. Every process then works on its share of the matrices, and none holds all of them.

The distribution is PyTorch's: placements, meshes and `redistribute` (torch.distributed.tensor). It
is imported where the first DTensor is met, since it takes half as long to import as torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
"""The last entry is the mesh over which work on plain tensors is split;
`modula.parallel.split_over` enters it. A list, not a context variable, because torch.compile
cannot read those."""


def is_sharded(t: Tensor) -> TypeIs[DTensor]:
    """Whether the tensor is a DTensor."""
    if type(t) is Tensor or type(t) is nn.Parameter or not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(t, DTensor)


class Move(NamedTuple):
    """One redistribution of a batch, along one axis of the mesh.

    Args:
        axis: of the mesh.
        mesh: the processes along it, this one among them.
        shape: of what they hold together.
        before, after: how it lies on them.
    """

    axis: int
    mesh: DeviceMesh
    shape: torch.Size
    before: Placement
    after: Placement

    def make(self, held: Tensor) -> Tensor:
        return (
            _dtensor(held, self.mesh, (self.before,), self.shape)
            .redistribute(placements=[self.after])
            .to_local()
        )

    def undo(self, held: Tensor) -> Tensor:
        return (
            _dtensor(held, self.mesh, (self.after,), self.shape)
            .redistribute(placements=[self.before])
            .to_local()
        )


@dataclass(frozen=True)
class Sharding:
    """How one tensor lies on a mesh of processes. Tensors that lie alike can be stacked part by
    part.

    Args:
        mesh: the processes.
        placements: what each axis of the mesh does with the tensor: shard one of its axes, or
            replicate it.
        shape: of the whole tensor.
        plain: whether it is an ordinary tensor, equal on all processes, on which they share the
            work.
    """

    mesh: DeviceMesh
    placements: Placements
    shape: torch.Size
    plain: bool = False

    def place(self, part: Tensor) -> Tensor:
        """The tensor of which this process holds `part`."""
        return part if self.plain else _dtensor(part, self.mesh, self.placements, self.shape)

    def map(self, f: BatchMap, parts: Tensor, vectors: int | None) -> Tensor:
        """The parts of f(whole weights), from the parts of the weights.

        Args:
            f: [batch, *shape] -> [batch, *shape].
            parts: [batch, *part], of the same weights on every process.
            vectors: the axis of a weight on which the vectors lie that f treats each by itself;
                None if f needs whole weights.
        """
        held, moves = parts, self._moves(len(parts), vectors)
        for move in moves:
            held = move.make(held)
        held = f(held) if held.numel() else held
        for move in reversed(moves):
            held = move.undo(held)
        return held

    def measure(self, f: BatchMap, parts: Tensor, vectors: int | None, combine: BatchMap) -> Tensor:
        """One number for each weight of the batch, known to every process.

        Args:
            f: [batch, *shape] -> [batch].
            parts, vectors: as for `map`.
            combine: [n, batch] -> [batch], from the numbers of n pieces of each weight to those of
                the weights.
        """
        held, moves = parts, self._moves(len(parts), vectors)
        for move in moves:
            held = move.make(held)
        dtype = working_dtype(parts.dtype)
        numbers = f(held).to(dtype) if held.numel() else held.new_zeros(len(held), dtype=dtype)
        by_weight = [move for move in moves if move.after.is_shard(0)]
        for move in reversed(by_weight):
            numbers = _dtensor(numbers, move.mesh, (move.after,), move.shape[:1]).full_tensor()
        done = [move.axis for move in by_weight]
        for axis in range(self.mesh.ndim):
            if axis not in done and not self.placements[axis].is_replicate():
                numbers = combine(_listed(numbers, _submesh(self.mesh, axis)))
        return numbers

    def _moves(self, count: int, vectors: int | None) -> list[Move]:
        """What brings a batch of `count` weights to where the processes can work on it.

        Whole weights: the batch is divided by weight among all processes, and among replicas if
        there are enough weights to share. Vectors: nothing is moved unless vectors are cut. If they
        are, the weights are divided along another axis, or by weight where there is none. Replicas
        all do the work, which is less than to send the results.
        """
        from torch.distributed.tensor import Replicate, Shard

        shape = list(self._part_shape(count))
        moves = []
        if vectors is None:
            for axis in [
                axis
                for axis, p in enumerate(self.placements)
                if p.is_replicate() and worth_sharing(count, self.mesh.size(axis))
            ]:
                moves.append(
                    Move(axis, _submesh(self.mesh, axis), torch.Size(shape), Replicate(), Shard(0))
                )
                shape[0] = _length(shape[0], self.mesh, axis)
        for cut in range(len(self.shape)) if vectors is None else [vectors % len(self.shape)]:
            others = [1 + axis for axis in range(len(self.shape)) if axis != cut]
            target = 0 if vectors is None or not others else others[0]
            for axis, length in reversed(self._divisions(cut)):
                shape[1 + cut] = length
                moves.append(
                    Move(
                        axis,
                        _submesh(self.mesh, axis),
                        torch.Size(shape),
                        Shard(1 + cut),
                        Shard(target),
                    )
                )
                shape[target] = _length(shape[target], self.mesh, axis)
        return moves

    def _part_shape(self, count: int) -> list[int]:
        """The shape of the parts that this process holds of a batch."""
        shape = [count, *self.shape]
        for cut in range(len(self.shape)):
            for axis, length in self._divisions(cut):
                shape[1 + cut] = _length(length, self.mesh, axis)
        return shape

    def _divisions(self, cut: int) -> list[tuple[int, int]]:
        """The axes of the mesh that divide the tensor's axis `cut`, the first to divide it first,
        each with the length that it divides.

        The axes of a mesh divide from left to right. A strided one divides after those on its right
        that make up its split_factor; that is how `fully_shard` divides the weights of a
        tensor-parallel layer.
        """
        order: list[int] = []
        for axis, p in reversed(list(enumerate(self.placements))):
            if p.is_replicate() or _divided_axis(p) != cut:
                continue
            before = 0
            while prod([self.mesh.size(other) for other in order[:before]]) < _split_factor(p):
                before += 1
            order.insert(before, axis)
        divisions, length = [], self.shape[cut]
        for axis in order:
            divisions.append((axis, length))
            length = _length(length, self.mesh, axis)
        return divisions


def worth_sharing(count: int, replicas: int) -> bool:
    """Whether replicas share the work on a batch of `count` weights that all of them have.

    The results are gathered in equal parts, so that a few weights are padded to one for each
    replica. Up to double is sent for it.
    """
    return count > 1 and 2 * count >= replicas


def local_shard(t: Tensor) -> tuple[Tensor, Sharding | None]:
    """What this process holds of the tensor, and how the tensor lies on its processes; None if this
    process works on it alone.
    """
    if (type(t) is Tensor or type(t) is nn.Parameter) and not split_meshes:
        return t, None
    t = reduced(t)
    return to_local(t), sharding_of(t)


def sharding_of(t: Tensor) -> Sharding | None:
    """How the tensor lies on its processes; None if this process works on it alone."""
    if is_sharded(t):
        return Sharding(t.device_mesh, t.placements, t.shape)
    if not split_meshes:
        return None
    from torch.distributed.tensor import Replicate

    mesh = split_meshes[-1]
    return Sharding(mesh, (Replicate(),) * mesh.ndim, t.shape, plain=True)


def reduced(t: Tensor) -> Tensor:
    """The tensor with pending sums over processes carried out."""
    if not is_sharded(t) or not any(p.is_partial() for p in t.placements):
        return t
    from torch.distributed.tensor import Replicate

    return t.redistribute(placements=[Replicate() if p.is_partial() else p for p in t.placements])


def to_local(t: Tensor) -> Tensor:
    """What this process holds of the tensor: all of it, if it is a plain one. Shares its memory."""
    return t.to_local() if is_sharded(t) else t


def to_local_like(t: Tensor, like: Tensor) -> Tensor:
    """What this process holds of `t` once it lies like `like`.

    Raises:
        TypeError: one of them is a DTensor and the other is not.
    """
    if is_sharded(t) != is_sharded(like):
        raise TypeError(
            "one of two tensors is a DTensor and the other a plain tensor: spread it with "
            "torch.distributed.tensor.distribute_tensor, or make it whole with .full_tensor()"
        )
    if is_sharded(t) and is_sharded(like) and t.placements != like.placements:
        t = t.redistribute(placements=like.placements)
    return to_local(t)


def all_to_local(tensors: Sequence[Tensor]) -> list[Tensor]:
    """What this process holds of each tensor."""
    return [to_local(t) for t in tensors]


def all_to_local_like(tensors: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """What this process holds of each tensor once it lies as its counterpart does."""
    return [to_local_like(t, other) for t, other in zip(tensors, like, strict=True)]


def from_local_like(parts: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that lie as their counterparts do, and of which this process holds `parts`."""
    return [
        _dtensor(p, other.device_mesh, other.placements, other.shape) if is_sharded(other) else p
        for p, other in zip(parts, like, strict=True)
    ]


def entrywise(
    operation: Pairwise, tensors: Sequence[Tensor], others: Sequence[Tensor]
) -> list[Tensor]:
    """What one of torch's foreach operations makes of two lists of tensors, laid out as the first
    is.
    """
    return from_local_like(
        operation(all_to_local(tensors), all_to_local_like(others, tensors)), tensors
    )


def to_full(t: Tensor) -> Tensor:
    """The tensor in full on every process. Meant for single numbers."""
    return t.full_tensor() if is_sharded(t) else t


def dot(
    a: Sequence[Tensor], b: Sequence[Tensor], multiply: Callable[[Tensor, Tensor], Tensor]
) -> list[Tensor]:
    """Sums of products, known to every process: one for all tensors that lie on one mesh in one
    way.

    Args:
        a, b: lists of tensors of equal shapes.
        multiply: the sum of the products of all entries, of two plain tensors.
    """
    totals = []
    for where, products in _by_sharding(a, b, multiply):
        home = products[0][1].device
        total = torch.stack([product.to(home) for _, product in products]).sum()
        totals.append(total if where is None else _summed(total, where))
    return totals


def dots(
    a: Sequence[Tensor], b: Sequence[Tensor], multiply: Callable[[Tensor, Tensor], Tensor]
) -> list[Tensor]:
    """Products of each tensor with its counterpart, known to every process, which takes one sum
    over processes for all that lie alike.

    Args:
        a, b: lists of tensors of equal shapes.
        multiply: sums over the entries of two plain tensors: one number, or several as a vector.
    """
    found: dict[int, Tensor] = {}
    for where, products in _by_sharding(a, b, multiply):
        if where is not None:
            summed = _summed(torch.stack([product for _, product in products]), where)
            products = [
                (i, product) for (i, _), product in zip(products, summed.unbind(), strict=True)
            ]
        found.update(products)
    return [found[i] for i in range(len(found))]


def _by_sharding(
    a: Sequence[Tensor], b: Sequence[Tensor], multiply: Callable[[Tensor, Tensor], Tensor]
) -> Iterable[tuple[Sharding | None, list[tuple[int, Tensor]]]]:
    """This process's products, each with its position, by how the tensors lie; all of one sharding
    are on one device.
    """
    products: dict[Sharding | None, list[tuple[int, Tensor]]] = {}
    for i, (one, other) in enumerate(zip(map(reduced, a), b, strict=True)):
        where = (
            Sharding(one.device_mesh, one.placements, torch.Size(())) if is_sharded(one) else None
        )
        products.setdefault(where, []).append(
            (i, multiply(to_local(one), to_local_like(other, one)))
        )
    return products.items()


def _summed(numbers: Tensor, where: Sharding) -> Tensor:
    """The sums over all processes that hold different parts."""
    from torch.distributed.tensor import Partial, Replicate

    pending = tuple([Replicate() if p.is_replicate() else Partial() for p in where.placements])
    return _dtensor(numbers, where.mesh, pending, numbers.shape).full_tensor()


def fill(weight: Tensor, values: Tensor) -> None:
    """Write values into a weight in place. Of a DTensor's all processes take those of the mesh's
    first, whatever they have themselves.

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
    """Refuse to differentiate a model of which some part is under `fully_shard`, whose hooks run in
    backward() alone.

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


def _dtensor(p: Tensor, mesh: DeviceMesh, placements: Placements, shape: torch.Size) -> DTensor:
    """The DTensor of this shape of which this process holds `p`."""
    from torch.distributed.tensor import DTensor

    strides = tuple([prod(shape[axis + 1 :]) for axis in range(len(shape))])
    return DTensor.from_local(p.contiguous(), mesh, placements, shape=shape, stride=strides)


@cache
def _submesh(mesh: DeviceMesh, axis: int) -> DeviceMesh:
    """The processes that differ from this one along one axis of the mesh."""
    from torch.distributed.device_mesh import DeviceMesh

    return mesh if mesh.ndim == 1 else DeviceMesh.from_group(mesh.get_group(axis), mesh.device_type)


def _length(length: int, mesh: DeviceMesh, axis: int) -> int:
    """What this process gets of an axis of some length that an axis of the mesh divides: equal
    chunks, the last of them smaller.
    """
    chunk = ceil(length / mesh.size(axis))
    return max(0, min(chunk, length - chunk * mesh.get_local_rank(axis)))


def _listed(numbers: Tensor, mesh: DeviceMesh) -> Tensor:
    """The numbers of all processes of a mesh: [n] -> [process, n]."""
    from torch.distributed.tensor import Shard

    return _dtensor(
        numbers[None], mesh, (Shard(0),), torch.Size((mesh.size(), len(numbers)))
    ).full_tensor()


def _divided_axis(p: Placement) -> int:
    """The axis of the tensor that a sharding placement divides."""
    axis: int = p.dim  # type: ignore[attr-defined] # Shard and its strided form share no base class that has it
    return axis


def _split_factor(p: Placement) -> int:
    """Into how many pieces the axis is divided before this placement divides it."""
    factor: int = getattr(p, "split_factor", 1)
    return factor
