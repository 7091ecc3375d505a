"""`movement`: how far weights have moved, relative to their size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from modula.geometry import Spectral
from modula.instruments.report import (
    Report,
    canvas,
    caption,
    name_rows,
    number,
    prominent,
    ratio,
    scatter_rows,
    table,
)
from modula.instruments.spectra import matrices
from modula.norms import L2
from modula.scaling import working_dtype
from modula.vector import Weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Movement:
    """How far one parameter moved; None where it started at zero."""

    path: str
    """The parameter's name."""

    entries: float | None
    """mean |Δw| / mean |w| over the entries."""

    frobenius: float | None
    """‖Δw‖₂ / ‖w‖₂ over the entries."""

    norm: float | None
    """σ₁(ΔW) / σ₁(W), for a convolution the largest over the taps; for a vector, `frobenius`.

    From RMS to RMS, and for every other norm that is a multiple of σ₁, this is the ratio of the
    atom's own norms."""


@dataclass(frozen=True)
class MovementReport(Report[Movement]):
    """The movement of a network's weights, one row a parameter."""

    def __str__(self) -> str:
        rows, left_out = prominent(self.rows, [row.norm or 0.0 for row in self.rows])
        cells = [[row.path, *map(number, (row.entries, row.frobenius, row.norm))] for row in rows]
        return table(
            ["parameter", "by entry", "Frobenius", "σ₁"],
            cells,
            left=(0,),
            left_out=left_out,
            reason="none moved further",
        )

    def scalars(self) -> dict[str, float]:
        entries = {
            f"movement/entries/{row.path}": row.entries
            for row in self.rows
            if row.entries is not None
        }
        return entries | {
            f"movement/norm/{row.path}": row.norm for row in self.rows if row.norm is not None
        }

    def plot(self, axes: Axes | None = None) -> Axes:
        rows, _ = prominent(self.rows, [row.norm or 0.0 for row in self.rows])
        axes = canvas(axes, height=1.2 + 0.25 * len(rows))
        by_entry, in_norm = "by entry, mean |Δw| / mean |w|", "in norm, σ₁(ΔW) / σ₁(W)"
        scatter_rows(axes, [row.entries for row in rows], by_entry, "tab:blue")
        scatter_rows(axes, [row.norm for row in rows], in_norm, "tab:orange")
        name_rows(axes, [row.path for row in rows])
        axes.set(xlabel="relative change", xlim=(0, None))
        caption(axes, "Movement of the weights")
        return axes


@torch.no_grad()
def movement(weights_before: Weights, weights_after: Weights) -> MovementReport:
    """Measure how far the weights have moved, relative to their size, by entry and in norm.

    The two differ at large width: a change of low rank can be large in norm while every entry
    hardly moves.

    Args:
        weights_before: a copy, `model.weights.clone()`, taken earlier.
        weights_after: of the same network, as from `model.weights`.

    Returns:
        One row a parameter.

    Raises:
        TypeError: one of them is not Weights.
        LayoutError: they belong to different networks.
        ValueError: they share memory, as two live views of one network do.

    Example:
        >>> import torch
        >>> from modula import Linear, Update
        >>> from modula.instruments import movement
        >>> model = Linear(4, 8)
        >>> before = model.weights.clone()
        >>> model.weights -= Update({"weight": 0.1 * before["weight"]})
        >>> round(movement(before, model.weights)["weight"].norm, 3)
        0.1
    """
    for weights in (weights_before, weights_after):
        if not isinstance(weights, Weights):
            raise TypeError(
                f"movement takes Weights, before and after; got {type(weights).__name__}"
            )
    if any(
        a.data_ptr() == b.data_ptr()
        for a, b in zip(weights_before.tensors, weights_after.tensors, strict=False)
        if a.numel()
    ):
        raise ValueError(
            "movement got the same tensors before and after: model.weights is a live view; keep a "
            "copy, before = model.weights.clone()"
        )
    moved = weights_after - weights_before
    return MovementReport(
        tuple([_moved(name, moved[name], weights_before[name]) for name in moved.names])
    )


def _moved(name: str, change: Tensor, start: Tensor) -> Movement:
    change, start = (
        change.to(working_dtype(change.dtype)),
        start.detach().to(working_dtype(start.dtype)),
    )
    return Movement(
        name,
        ratio(float(change.abs().mean()), float(start.abs().mean())),
        ratio(_length(change), _length(start)),
        ratio(_largest(name, change), _largest(name, start)),
    )


def _largest(name: str, tensor: Tensor) -> float:
    """σ₁ of the largest matrix of a parameter; for a vector its ℓ2 norm."""
    stacked, names = matrices(name, tensor)
    return float(Spectral(L2, L2).norm(stacked).amax()) if names else _length(tensor)


def _length(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))
