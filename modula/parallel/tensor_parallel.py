"""Plans for tensor parallelism: layers of which every process computes a shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ParallelStyle
from torch.distributed.tensor.placement_types import Placement

from modula.checks import Acts
from modula.graph import Node
from modula.network import Network


class Sharded(ParallelStyle):
    """A module of which every process computes a shard.

    A style for `torch.distributed.tensor.parallel.parallelize_module`, as torch's ColwiseParallel
    and RowwiseParallel are for nn.Linear. Inputs and outputs are plain tensors: the process's
    shards.

    Args:
        taken: the layout of the input.
        given: the layout of the output.
        weight: the layout of the weight; None for a module without one.
    """

    def __init__(self, taken: Placement, given: Placement, weight: Placement | None = None) -> None:
        super().__init__()
        self.taken = taken
        self.given = given
        self.weight = weight

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        self._check(module, device_mesh.size())
        # torch annotates the last two as returning None, and uses their return values.
        return distribute_module(module, device_mesh, self._shard, self._take, self._give)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    def _check(self, module: nn.Module, processes: int) -> None:
        """Raise if shards would differ in size where the next module must know the size.

        Raises:
            ValueError: rows or columns do not split evenly among the processes.
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

    def _shard(self, name: str, module: nn.Module, mesh: DeviceMesh) -> None:
        for own, parameter in list(module.named_parameters(recurse=False)):
            placements = [Replicate() if self.weight is None else self.weight]
            sharded = distribute_tensor(parameter.detach(), mesh, placements)
            module.register_parameter(
                own, nn.Parameter(sharded, requires_grad=parameter.requires_grad)
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
    """A module that maps features to heads."""

    num_heads: int


class ShardedHeads(Sharded):
    """A map from features to heads, after which every process has some of the heads.

    Args:
        taken: the layout of the features.
        weight: the layout of the weight; None for a module without one.
    """

    def __init__(self, taken: Placement, weight: Placement | None = None) -> None:
        super().__init__(taken, Shard(-3), weight)

    def _check(self, module: nn.Module, processes: int) -> None:
        if isinstance(module, _HasHeads):
            _refuse_uneven(module, module.num_heads, "heads", processes)


def _refuse_uneven(module: nn.Module, count: int, unit: str, processes: int) -> None:
    if count % processes:
        raise ValueError(
            f"{module!r} cannot be sharded over {processes} processes, since its {count} {unit} "
            "do not split evenly: change the width or the size of the mesh, or leave the module "
            "out of the plan"
        )


def column_parallel() -> Sharded:
    """Return the style of a Linear whose outputs are sharded, by the rows of its weight."""
    return Sharded(taken=Replicate(), given=Shard(-1), weight=Shard(0))


def split_heads_parallel() -> ShardedHeads:
    """Return the style of a SplitIntoHeads after a Linear whose outputs are sharded."""
    return ShardedHeads(taken=Shard(-1))


def head_parallel() -> ShardedHeads:
    """Return the style of a HeadLinear of which every process has the rows of some heads."""
    return ShardedHeads(taken=Replicate(), weight=Shard(0))


def row_parallel() -> Sharded:
    """Return the style of a Linear whose inputs are sharded, by the columns of its weight.

    Its outputs are summed over the processes.
    """
    return Sharded(taken=Shard(-1), given=Replicate(), weight=Shard(1))


def vocabulary_parallel() -> Sharded:
    """Return the style of an Embed, or of a Linear without a partner.

    Its weight is sharded by rows, and its output is gathered on every process.
    """
    return Sharded(taken=Replicate(), given=Replicate(), weight=Shard(0))


def tensor_parallel_plan(model: Network) -> dict[str, ParallelStyle]:
    """Return how the modules inside are sharded, for torch's `parallelize_module`.

    Attention is sharded by heads: a HeadLinear, or a Linear before SplitIntoHeads, by rows, the
    Linear after MergeHeads by columns. All operations between must treat each head by itself, as
    those of `modula.bonds` do, all but `SplitQKV`. Of two Linears with nothing but functions of
    single entries between them, as in an MLP, the first is sharded by rows and the second by
    columns, so that the features between them stay sharded. Every other Linear, and every Embed, is
    sharded by rows and its output gathered. Everything else is replicated: modules of other kinds,
    and those that are used more than once or share their weight.

    Args:
        model: a network, or a part of one.

    Returns:
        Styles by the paths of modules, in an ordinary dict, whose entries may be removed or added.

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
    flow = _Flow.of(model.graph().nodes)
    plan = _by_heads(flow)
    plan |= _in_pairs(flow, plan)
    for i in sorted(flow.matrices | flow.tables):
        plan.setdefault(flow.nodes[i].path, vocabulary_parallel())
    return plan


@dataclass(frozen=True)
class _Flow:
    """The nodes of a graph, and which of them can be sharded.

    Args:
        nodes: in topological order.
        matrices, head_matrices, tables, splits: nodes that multiply by a matrix, or by one for each
            head, look up in a table, or split features into heads, by their positions. Their
            modules and weights are used once.
        reader: for each node that one other node reads, by itself alone, that other node.
    """

    nodes: Sequence[Node]
    matrices: frozenset[int]
    head_matrices: frozenset[int]
    tables: frozenset[int]
    splits: frozenset[int]
    reader: Mapping[int, int]

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> _Flow:
        paths = Counter(node.path for node in nodes[1:])
        operations = Counter(id(node.operation) for node in nodes)
        weights = Counter(node.weight for node in nodes)

        def used_once(acts: Acts) -> frozenset[int]:
            return frozenset(
                i
                for i, node in enumerate(nodes)
                if node.operation.acts == acts
                and paths[node.path] == operations[id(node.operation)] == 1
                and (node.weight is None or weights[node.weight] == 1)
            )

        return cls(
            nodes,
            used_once("matrix"),
            used_once("head_matrix"),
            used_once("table"),
            used_once("split_heads"),
            _only_readers(nodes),
        )

    def acts(self, i: int) -> Acts:
        return self.nodes[i].operation.acts


def _only_readers(nodes: Sequence[Node]) -> dict[int, int]:
    readers: dict[int, list[int]] = {}
    for i, node in enumerate(nodes):
        for j in node.inputs:
            readers.setdefault(j, []).append(i)
    return {
        j: found[0]
        for j, found in readers.items()
        if len(found) == 1 and len(nodes[found[0]].inputs) == 1
    }


def _by_heads(flow: _Flow) -> dict[str, ParallelStyle]:
    """The styles of layers around heads, where heads can stay sharded from split to merge."""
    matrix_before = {flow.reader[i]: i for i in flow.matrices if flow.reader.get(i) in flow.splits}
    matrix_before |= {i: i for i in flow.head_matrices}
    origins = _origins(flow, matrix_before)
    while broken := _broken(flow, matrix_before, origins):
        matrix_before = {i: j for i, j in matrix_before.items() if i not in broken}
        origins = _origins(flow, matrix_before)
    plan: dict[str, ParallelStyle] = {}
    for split, matrix in matrix_before.items():
        if split == matrix:
            plan[flow.nodes[matrix].path] = head_parallel()
        else:
            plan[flow.nodes[matrix].path] = column_parallel()
            plan[flow.nodes[split].path] = split_heads_parallel()
    for i, node in enumerate(flow.nodes):
        if flow.acts(i) == "merge_heads" and origins[node.inputs[0]]:
            plan[flow.nodes[flow.reader[i]].path] = row_parallel()
    return plan


def _origins(flow: _Flow, matrix_before: Mapping[int, int]) -> list[frozenset[int]]:
    """For each node the maps to heads whose sharded heads reach its output.

    Args:
        flow: the nodes.
        matrix_before: for each map to heads, the matrix that it begins with, which may be itself.
    """
    origins: list[frozenset[int]] = []
    for i, node in enumerate(flow.nodes):
        if i in matrix_before:
            origins.append(frozenset({i}))
        elif flow.acts(i) == "merge_heads":
            origins.append(frozenset())
        else:
            origins.append(frozenset().union(*[origins[j] for j in node.inputs]))
    return origins


def _broken(
    flow: _Flow, matrix_before: Mapping[int, int], origins: Sequence[frozenset[int]]
) -> frozenset[int]:
    """The maps to heads whose heads reach a node that must have all of them.

    It must if it has a weight, if it takes heads apart from one another, if it has another input
    that is whole, or if it is the output. A merge must unless it is followed by a matrix that can
    be sharded by columns.
    """
    broken: frozenset[int] = origins[-1]
    for i, node in enumerate(flow.nodes):
        entering = [origins[j] for j in node.inputs]
        if i in matrix_before or not any(entering):
            continue
        if flow.acts(i) == "merge_heads":
            after = flow.reader.get(i)
            keeps = after in flow.matrices and after not in matrix_before.values()
        else:
            keeps = node.weight is None and all(entering) and flow.acts(i) != "mixes_heads"
        if not keeps:
            broken = broken.union(*entering)
    return broken


def _in_pairs(flow: _Flow, plan: Mapping[str, ParallelStyle]) -> dict[str, ParallelStyle]:
    """The styles of two matrices with functions of single entries between them.

    Matrices that have a style in `plan` are passed over.
    """
    pairs: dict[str, ParallelStyle] = {}
    for i in sorted(flow.matrices):
        after = flow.reader.get(i)
        while after is not None and flow.acts(after) == "entrywise":
            after = flow.reader.get(after)
        if after is None or after not in flow.matrices:
            continue
        first, second = flow.nodes[i].path, flow.nodes[after].path
        if not {first, second} & (plan.keys() | pairs.keys()):
            pairs |= {first: column_parallel(), second: row_parallel()}
    return pairs
