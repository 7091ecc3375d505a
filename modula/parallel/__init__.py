"""Training by many processes: replicas that share the duality map, and tensor parallelism.

Sharded parameters (`fully_shard`, `parallelize_module`, `distribute_tensor`) need nothing from this
package: `model.dualize` recognises DTensors, and the processes share the work. See
docs/guides/scaling-out.md.
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
