"""`Affine`: a Linear with a bias."""

from __future__ import annotations

from modula.algebra.core import Composition
from modula.atoms import Bias, Linear
from modula.norms import RMS


class Affine(Composition[RMS, RMS]):
    """x ↦ W·x + b, the composition `Bias(fan_out) @ Linear(fan_out, fan_in)`.

    A weight and a bias are two tensors with two norms, and so two atoms. The bias has a tenth of
    the mass of the matrix: with equal masses, half of every step would go into biases.

    Sensitivity 1, radius R + 1: proved.

    Args:
        fan_out, fan_in: the widths of output and input.
        mass: of the matrix.
        bias_mass: of the bias.

    Raises:
        ValueError: a width below 1, or a negative mass.

    Example:
        >>> from modula import Affine, ReLU
        >>> model = Affine(10, 64) @ ReLU() @ Affine(64, 784)
        >>> model.mass
        2.2
    """

    def __init__(
        self, fan_out: int, fan_in: int, *, mass: float = 1.0, bias_mass: float = 0.1
    ) -> None:
        super().__init__(Bias(fan_out, mass=bias_mass) @ Linear(fan_out, fan_in, mass=mass))
        self.arguments: str = f"{fan_out}, {fan_in}"

    def extra_repr(self) -> str:
        return self.arguments
