"""Plans for tensor parallelism: modules of which every process computes a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ParallelStyle
from torch.distributed.tensor.placement_types import Placement

from modula.graph import Node
from modula.network import Network


class Sharded(ParallelStyle):
    """A module of which every process computes a part; a style for
    `torch.distributed.tensor.parallel.parallelize_module`.

    What torch's ColwiseParallel and RowwiseParallel are for nn.Linear, for a module of modula's.
    Inputs and outputs are plain tensors, the parts that the process holds.

    Args:
        taken: how the input lies on the processes.
        given: how the output is to lie.
        weight: how the weight is to lie; None for a module without one.
    """

    def __init__(self, taken: Placement, given: Placement, weight: Placement | None = None) -> None:
        super().__init__()
        self.taken = taken
        self.given = given
        self.weight = weight

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        self._check(module, device_mesh.size())
        # torch annotates the last two as returning None, and uses what they return.
        return distribute_module(module, device_mesh, self._spread, self._take, self._give)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    def _check(self, module: nn.Module, processes: int) -> None:
        """Refuse a module whose parts would not be equal, where the next module must know how large
        its part is.
        """
        if isinstance(self.weight, Shard) and not (
            self.taken.is_replicate() and self.given.is_replicate()
        ):
            for weight in module.parameters(recurse=False):
                _refuse_uneven(
                    module,
                    weight.shape[self.weight.dim],
                    "rows" if self.weight.dim == 0 else "columns",
                    processes,
                )

    def _spread(self, name: str, module: nn.Module, mesh: DeviceMesh) -> None:
        for own, parameter in list(module.named_parameters(recurse=False)):
            placements = [Replicate() if self.weight is None else self.weight]
            spread = distribute_tensor(parameter.detach(), mesh, placements)
            module.register_parameter(
                own, nn.Parameter(spread, requires_grad=parameter.requires_grad)
            )

    def _take(self, module: nn.Module, inputs: tuple[Tensor], mesh: DeviceMesh) -> DTensor:
        return DTensor.from_local(inputs[0], mesh, [self.taken])

    def _give(self, module: nn.Module, output: DTensor, mesh: DeviceMesh) -> Tensor:
        return output.redistribute(placements=[self.given]).to_local()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(taken={self.taken}, given={self.given}, weight={self.weight})"
        )


@runtime_checkable
class _HasHeads(Protocol):
    """A module that splits features into heads."""

    num_heads: int


class ShardedHeads(Sharded):
    """`SplitIntoHeads` of features that are divided among the processes: each gets whole heads."""

    def __init__(self) -> None:
        super().__init__(taken=Shard(-1), given=Shard(-3))

    def _check(self, module: nn.Module, processes: int) -> None:
        if isinstance(module, _HasHeads):
            _refuse_uneven(module, module.num_heads, "heads", processes)


def _refuse_uneven(module: nn.Module, count: int, what: str, processes: int) -> None:
    if count % processes:
        raise ValueError(
            f"{module!r} cannot be divided among {processes} processes, since its {count} {what} "
            "do not split evenly: change the width or the size of the mesh, or leave the module "
            "out of the plan"
        )


def column_parallel() -> Sharded:
    """A Linear whose outputs are divided among the processes, by the rows of its weight."""
    return Sharded(taken=Replicate(), given=Shard(-1), weight=Shard(0))


def row_parallel() -> Sharded:
    """A Linear whose inputs are divided among the processes, by the columns of its weight; the
    outputs are summed over them.
    """
    return Sharded(taken=Shard(-1), given=Replicate(), weight=Shard(1))


def vocabulary_parallel() -> Sharded:
    """A table, or a Linear that stands alone: divided by the rows of its weight, with the whole
    output on every process.
    """
    return Sharded(taken=Replicate(), given=Replicate(), weight=Shard(0))


def tensor_parallel_plan(model: Network) -> dict[str, ParallelStyle]:
    """Return how the modules inside are divided, for torch's `parallelize_module`.

    In attention each process has some of the heads. A Linear that is followed by another one with
    nothing but functions of single entries between them, as in an MLP, is divided by rows and the
    other by columns, so that the features between them stay divided. Every other Linear, and every
    Embed, is divided by rows and its output gathered. Modules of other kinds stay whole on every
    process.

    Args:
        model: a network, or a part of one.

    Returns:
        Styles by the paths of modules. It is an ordinary dict: take entries out, or put your own
        in.

    Raises:
        ValueError: in `parallelize_module`, where heads, rows or columns do not split evenly among
            the processes.

    Example:
        >>> from modula import MLP
        >>> from modula.parallel import tensor_parallel_plan
        >>> for path, style in tensor_parallel_plan(MLP(10, 784, width=256)).items():
        ...     print(path, style)
        0 Sharded(taken=R, given=S(-1), weight=S(0))
        2 Sharded(taken=S(-1), given=R, weight=S(1))

    Source: Shoeybi et al. 2019, *Megatron-LM* (arXiv:1909.08053), section 3.
    """
    nodes = model.graph().nodes
    follower = _only_followers(nodes)
    plan: dict[str, ParallelStyle] = {}
    for i, node in enumerate(nodes):
        if node.operation.acts == "matrix" and node.path not in plan:
            plan |= _from_matrix(nodes, follower, i)
        elif node.operation.acts == "merge_heads":
            after = follower.get(i)
            if after is not None and nodes[after].operation.acts == "matrix":
                plan[nodes[after].path] = row_parallel()
    for node in nodes:
        if node.operation.acts in ("matrix", "table"):
            plan.setdefault(node.path, vocabulary_parallel())
    return plan


def _only_followers(nodes: Sequence[Node]) -> dict[int, int]:
    """For each node that a single other one reads, by itself alone, that other."""
    readers: dict[int, list[int]] = {}
    for i, node in enumerate(nodes):
        for j in node.inputs:
            readers.setdefault(j, []).append(i)
    return {
        j: found[0]
        for j, found in readers.items()
        if len(found) == 1 and len(nodes[found[0]].inputs) == 1
    }


def _from_matrix(
    nodes: Sequence[Node], follower: Mapping[int, int], start: int
) -> dict[str, ParallelStyle]:
    """The styles of a matrix, and of what makes use of its divided output."""
    first = nodes[start].path
    after = follower.get(start)
    if after is not None and nodes[after].operation.acts == "split_heads":
        return {first: column_parallel(), nodes[after].path: ShardedHeads()}
    while after is not None and nodes[after].operation.acts == "entrywise":
        after = follower.get(after)
    if after is not None and nodes[after].operation.acts == "matrix":
        return {first: column_parallel(), nodes[after].path: row_parallel()}
    return {}
