"""`spectra`: the singular values of every matrix of an update, a gradient or the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from modula.instruments.report import Report, canvas, caption, number, prominent, shades, table
from modula.scaling import working_dtype
from modula.vector import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLOOR = 1e-9
"""The lower end of a plot: anything smaller is rounding."""


@dataclass(frozen=True)
class Spectrum:
    """The singular values σ₁ ≥ σ₂ ≥ … of one matrix."""

    path: str
    """The parameter's name, with the row and column of the tap for a convolution, as in
    "0.weight[1, 2]"."""

    shape: tuple[int, int]
    singular_values: tuple[float, ...]

    @property
    def stable_rank(self) -> float:
        """Σσ² / σ₁², from 1 to the rank; 0 for a zero matrix."""
        return self._over_largest(sum([value**2 for value in self._scaled]))

    @property
    def nuclear_rank(self) -> float:
        """Σσ / σ₁, the nuclear norm over the spectral norm; 0 for a zero matrix."""
        return self._over_largest(sum(self._scaled))

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of σ/Σσ (Roy & Vetterli 2007); 0 for a zero matrix."""
        total = sum(self._scaled)
        fractions = [value / total for value in self._scaled if value > 0] if total else []
        return self._over_largest(math.exp(-sum([p * math.log(p) for p in fractions])))

    @property
    def condition(self) -> float:
        """σ₁ / the smallest; infinite if that is 0, NaN for a zero matrix."""
        largest, smallest = self.singular_values[0], self.singular_values[-1]
        return largest / smallest if smallest else (math.inf if largest else math.nan)

    @property
    def _scaled(self) -> list[float]:
        largest = self.singular_values[0]
        return [value / largest if largest else 0.0 for value in self.singular_values]

    def _over_largest(self, value: float) -> float:
        """`value`, which was computed from σ/σ₁; 0 if σ₁ is 0."""
        return value if self.singular_values[0] else 0.0


@dataclass(frozen=True)
class SpectraReport(Report[Spectrum]):
    """The singular values of a vector's matrices, one row a matrix."""

    kind: str
    """The type of the vector: Update, Gradient or Weights."""

    def __str__(self) -> str:
        rows, left_out = prominent(self.rows, [float(min(row.shape)) for row in self.rows])
        header = ["parameter", "shape", "σ₁", "stable rank", "effective rank", "condition"]
        cells = [
            [
                row.path,
                f"{row.shape[0]}×{row.shape[1]}",
                *map(
                    number,
                    (row.singular_values[0], row.stable_rank, row.effective_rank, row.condition),
                ),
            ]
            for row in rows
        ]
        return f"{self.kind}\n" + table(header, cells, left_out=left_out, reason="none larger")

    def scalars(self) -> dict[str, float]:
        kind = self.kind.lower()
        numbers = {}
        for row in self.rows:
            numbers[f"spectra/{kind}/largest/{row.path}"] = row.singular_values[0]
            numbers[f"spectra/{kind}/stable_rank/{row.path}"] = row.stable_rank
        return numbers

    def plot(self, axes: Axes | None = None) -> Axes:
        axes = canvas(axes)
        rows, _ = prominent(self.rows, [float(min(row.shape)) for row in self.rows])
        for row, color in zip(rows, shades(len(rows)), strict=True):
            last = max(1, len(row.singular_values) - 1)
            ranks = [i / last for i in range(len(row.singular_values))]
            axes.plot(ranks, [max(value, FLOOR) for value in row._scaled], color=color, linewidth=1)
        axes.set(
            yscale="log",
            xlabel="rank among the singular values, 0 for the largest, 1 for the smallest",
            ylabel="σ / σ₁",
        )
        caption(
            axes,
            f"{self.kind}: one line a matrix, dark to light in the flow of data",
            legend=False,
        )
        return axes


@torch.no_grad()
def spectra(vector: Vector) -> SpectraReport:
    """Return the singular values of every matrix, with stable rank, effective rank and condition.

    A parameter of two axes is a matrix, one of three axes a stack of them, one of four a
    convolution, with one matrix a tap. Vectors, such as biases and gains, have no row.

    Args:
        vector: an update, a gradient or weights, of any network.

    Returns:
        One row a matrix. Singular values of a matrix with an entry that is not finite are NaN.

    Raises:
        TypeError: `vector` is neither an Update nor a Gradient nor Weights.

    Example:
        >>> import torch
        >>> from modula import Linear
        >>> from modula.instruments import spectra
        >>> model = Linear(4, 8)
        >>> spectrum = spectra(model.weights)["weight"]  # semi-orthogonal
        >>> round(spectrum.stable_rank, 4), round(spectrum.condition, 4)
        (4.0, 1.0)
    """
    if not isinstance(vector, Vector):
        raise TypeError(
            f"spectra takes an Update, a Gradient or Weights, got {type(vector).__name__}; as in "
            "spectra(model.weights)"
        )
    rows = [row for name, tensor in vector.items() for row in _of_parameter(name, tensor.detach())]
    return SpectraReport(tuple(rows), type(vector).__name__)


def _of_parameter(name: str, tensor: Tensor) -> list[Spectrum]:
    stacked, names = matrices(name, tensor)
    if not names:
        return []
    working = stacked.to(working_dtype(stacked.dtype))
    finite = working.isfinite().all(dim=-1).all(dim=-1)
    values = torch.linalg.svdvals(torch.where(finite[:, None, None], working, 0))
    values = torch.where(finite[:, None], values, torch.nan)
    shape = (stacked.shape[-2], stacked.shape[-1])
    return [
        Spectrum(one, shape, tuple(row)) for one, row in zip(names, values.tolist(), strict=True)
    ]


def matrices(name: str, tensor: Tensor) -> tuple[Tensor, list[str]]:
    """Return the matrices of a parameter, stacked, and their names; no names for a vector."""
    if tensor.dim() == 2:
        return tensor[None], [name]
    if tensor.dim() == 3:
        return tensor, [f"{name}[{i}]" for i in range(len(tensor))]
    if tensor.dim() == 4:
        k_h, k_w = tensor.shape[-2:]
        return rearrange(tensor, "d_out d_in k_h k_w -> (k_h k_w) d_out d_in"), [
            f"{name}[{i}, {j}]" for i in range(k_h) for j in range(k_w)
        ]
    return tensor, []
