"""The memory that dualization may take beyond a gradient and its update."""

from __future__ import annotations

import torch

COPIES = 6
"""The most float32 copies of a batch that an orthogonalisation has in memory at a time."""

CACHED_ENTRIES = 2**21
"""The number of entries that a CPU orthogonalises at once.

The copies of so many stay in its caches, and in memory that needs no new pages. Sixteen matrices of
768×768 at once take half as long again as a few at a time (`benchmarks.rejected_ideas`)."""

THREADS: int = torch.get_num_threads()
"""The number of threads, asked once, when modula is imported: torch.compile cannot ask."""

DEFAULT_LIMIT = 2**30
"""The workspace limit at the start, in bytes."""

_limit = [DEFAULT_LIMIT]


def set_workspace_limit(num_bytes: int) -> None:
    """Set how much memory `model.dualize` may take for one batch of weights, 1 GiB by default.

    Weights of one shape are dualized together, as many at a time as stay under the limit, and one
    at a time where two exceed it. On a CPU they are fewer where its caches are smaller. The limit
    is for the whole process.

    Args:
        num_bytes: the limit, in bytes.

    Raises:
        ValueError: the limit is not positive.

    Example:
        >>> from modula.workspace import set_workspace_limit
        >>> set_workspace_limit(256 * 2**20)
        >>> set_workspace_limit(2**30)
    """
    if num_bytes <= 0:
        raise ValueError(f"the workspace needs a limit of at least one byte, got {num_bytes}")
    _limit[0] = num_bytes


def entries_at_once() -> int:
    """Return how many entries of weights may be dualized in one batch."""
    return _limit[0] // (4 * COPIES)


def matrices_at_once(entries: int, device: torch.device) -> int:
    """Return how many matrices of so many entries are orthogonalised in one batch.

    The number is at least one, and on a CPU one for each thread if they fit.
    """
    most = max(1, entries_at_once() // max(1, entries))
    if device.type != "cpu":
        return most
    return min(most, THREADS * max(1, CACHED_ENTRIES // (THREADS * max(1, entries))))
