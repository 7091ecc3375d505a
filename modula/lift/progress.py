"""`steps`: a count with a progress bar, for what may take long."""

from __future__ import annotations

from collections.abc import Iterator

PATIENCE = 3.0
"""Seconds after which a bar appears."""


def steps(count: int, description: str) -> Iterator[int]:
    """Yield 0, 1, …, with a bar if this takes more than `PATIENCE` and tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield from range(count)
    else:
        yield from tqdm(
            range(count), desc=description, unit="pass", delay=PATIENCE, leave=False, disable=None
        )
