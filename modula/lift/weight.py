"""`LiftedWeight`: one trained parameter of a torch module."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modula.geometry import Geometry
from modula.lift.calibration import drawn
from modula.lift.uses import Measured
from modula.sharding import fill


@dataclass(eq=False)
class LiftedWeight:
    """One trained parameter of a torch module, with its norm and its mass.

    Args:
        owner: the module that has the parameter.
        attribute: the parameter's name there.
        measured: its norm and its uses.
        mass: m ≥ 0.
    """

    owner: nn.Module
    attribute: str
    measured: Measured
    mass: float

    def __post_init__(self) -> None:
        self._shape = tuple(self.tensor.shape)

    @property
    def tensor(self) -> Tensor:
        """The parameter, which is the module's own."""
        tensor: Tensor = getattr(self.owner, self.attribute)
        return tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the parameter had when the module was lifted."""
        return self._shape

    @property
    def geometry(self) -> Geometry:
        """The norm of the parameter."""
        return self.measured.geometry

    def initialize_weight(self, generator: torch.Generator | None) -> None:
        """Fill the parameter with a random value of norm 1; a bias with 0 and a gain with 1.

        Entries that enter a weight by other than linear maps, and weights that the run did not use,
        stay as they are.
        """
        source = torch.Generator().manual_seed(seed_from(generator or torch.default_generator, 0))
        kind = self.measured.kinds[0]
        like = torch.empty(self.shape, dtype=self.tensor.dtype, device=self.tensor.device)
        if kind == "entries":
            return
        fill(self.tensor, drawn(kind, self.geometry, like, source)[0])

    def __repr__(self) -> str:
        return repr(self.measured.name)


def seed_from(generator: torch.Generator | None, otherwise: int) -> int:
    """Return a seed that a generator draws, or another number where there is no generator."""
    if generator is None:
        return otherwise
    return int(torch.randint(2**31, (), generator=generator, device=generator.device))
