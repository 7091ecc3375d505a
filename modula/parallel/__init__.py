"""Training by many processes: sharing the duality map among replicas, and plans for tensor
parallelism.

Sharded parameters (`fully_shard`, `parallelize_module`, `distribute_tensor`) need nothing from
here: `model.dualize` sees that they are DTensors, and the processes share the work. See
docs/scaling-out.md.
"""

from modula.parallel.split import split_over
from modula.parallel.tensor_parallel import (
    Sharded,
    ShardedHeads,
    column_parallel,
    row_parallel,
    tensor_parallel_plan,
    vocabulary_parallel,
)

__all__ = [
    "Sharded",
    "ShardedHeads",
    "column_parallel",
    "row_parallel",
    "split_over",
    "tensor_parallel_plan",
    "vocabulary_parallel",
]
