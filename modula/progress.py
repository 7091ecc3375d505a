"""`progress`: a sequence of steps with a progress bar, for what may take long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 3.0
"""Seconds after which a bar appears."""


def progress(steps: Sequence[T], description: str, unit: str = "pass") -> Iterator[T]:
    """Yield the steps, with a bar on a terminal if they take more than `PATIENCE`.

    The bar shows the time left and goes when the last step has ended. It needs tqdm; without it the
    steps come alone.

    Args:
        steps: of which the number is known.
        description: stands before the bar.
        unit: what one step is.

    Example:
        >>> from modula.progress import progress
        >>> [k**2 for k in progress(range(3), "squares", "number")]
        [0, 1, 4]
    """
    try:
        from tqdm import tqdm
    except ImportError:
        yield from steps
    else:
        yield from tqdm(
            steps, desc=description, unit=unit, delay=PATIENCE, leave=False, disable=None
        )
