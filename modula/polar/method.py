"""What every method of orthogonalisation is: settings, and a map on prepared matrices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, TypeAlias

from torch import Tensor

from modula.polar.preparation import Matrices

Accuracy: TypeAlias = Literal["default", "high"]


class Method(ABC):
    """One way to compute UVᵀ from G = UΣVᵀ.

    A method is a frozen dataclass of its settings. It is called on a batch that `orthogonalize` has
    prepared: [batch, m, n] with m ≤ n, float32 or float64, no entry beyond ±1, which it may
    overwrite. A matrix that was not finite holds a NaN.
    """

    @abstractmethod
    def __call__(self, X: Tensor) -> Tensor:
        """UVᵀ for each matrix of the batch: zero where the matrix is zero, all NaN where it holds a
        NaN.
        """

    def on(self, matrices: Matrices) -> Sequence[Tensor]:
        """The same from matrices that are not prepared yet. A method overrides it that takes them
        in another form.

        Args:
            matrices: [batch, m, n] with m ≤ n, of any scale and floating-point dtype, not to be
                overwritten.

        Returns:
            A tensor for each of its parts, [count, m, n], in any floating-point dtype and memory
            layout.
        """
        return matrices.in_parts(self(matrices.prepared()))

    def with_steps(self, steps: int) -> Method:
        """The same method with another number of steps.

        Raises:
            ValueError: the method takes no steps.
        """
        raise ValueError(
            f"{self} takes no steps; leave `steps` out, or pick 'polar_express', 'newton_schulz' "
            "or 'inverse_root'"
        )

    def with_accuracy(self, accuracy: Accuracy) -> Method:
        """The same method with another accuracy.

        Raises:
            ValueError: the method has no settings for it.
        """
        raise ValueError(f"{self} has one accuracy; leave `accuracy` out, or pick 'polar_express'")
