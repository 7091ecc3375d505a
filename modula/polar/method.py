"""The contract of a method of orthogonalisation: settings, and a map on prepared matrices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, TypeAlias

from torch import Tensor

from modula.polar.preparation import Matrices

Accuracy: TypeAlias = Literal["default", "high"]
"""How near to 1 an iteration brings the singular values: for training, or to digits."""

SMALL_ROWS = 32
"""The number of rows below which matrices are small.

Over fewer rows the rounding errors of 16 bits do not average out, and 16 bits are no faster."""


def is_small(rows: int) -> bool:
    """Return whether matrices of so many rows are small, and may be computed in another way."""
    return rows < SMALL_ROWS


class Method(ABC):
    """One way to compute UVᵀ from G = UΣVᵀ.

    A method is a frozen dataclass of its settings. A subclass has to define `__call__` only.
    """

    takes_padding: ClassVar[bool] = False
    """Whether matrices may be padded with zeros, rows and columns, to join a batch of larger ones.

    A method may say True if the zeros stay zero and change the other entries by no more than
    rounding. Matrices of fewer than 32 rows are never padded to 32 or more, so that a method may
    compute the two in different ways.
    """

    @abstractmethod
    def __call__(self, X: Tensor) -> Tensor:
        """Return UVᵀ of each matrix of a batch.

        Args:
            X: [batch, m, n] with m ≤ n, float32 or float64, with no entry beyond ±1. A matrix that
                was not finite contains a NaN. The method may overwrite X.

        Returns:
            [batch, m, n], zero for a matrix of zeros, all NaN for one that contains a NaN. Each
            matrix is independent of the others in its batch.
        """

    def on_batch(self, matrices: Matrices) -> Sequence[Tensor]:
        """Return UVᵀ of matrices that are not prepared yet.

        Override this in a method that takes its matrices in another form than `__call__` does.

        Args:
            matrices: [batch, m, n] with m ≤ n, of any scale and floating-point dtype. A method must
                not overwrite them.

        Returns:
            A tensor for each part of `matrices`, [count, m, n], in any floating-point dtype and
            memory layout.
        """
        return matrices.in_parts(self(matrices.prepared()))

    def with_steps(self, steps: int) -> Method:
        """Return the same method with another number of steps.

        Raises:
            ValueError: the method takes no steps.
        """
        raise ValueError(
            f"{self} takes no steps; leave `steps` out, or pick 'polar_express', 'newton_schulz' "
            "or 'inverse_root'"
        )

    def with_accuracy(self, accuracy: Accuracy) -> Method:
        """Return the same method with another accuracy.

        Raises:
            ValueError: the method has one accuracy only.
        """
        raise ValueError(f"{self} has one accuracy; leave `accuracy` out, or pick 'polar_express'")
