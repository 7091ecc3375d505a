"""Matrices: linear maps of activations, stored as [out, in] or [in, out].

For each, ‖W·x‖ ≤ ‖W‖·‖x‖ in RMS, by the definition of the operator norm.
"""

from __future__ import annotations

from collections.abc import Sequence

from modula.geometry import BallVectors, Vectors
from modula.lift.rules.base import Role, Use, rule_for
from modula.norms import RMS, DualRMS


@rule_for("linear")
def linear(use: Use) -> Role | None:
    """x·Wᵀ + b, for W stored as [out, in]."""
    if use.slot == "weight" and len(use.view.shape) == 2:
        return use.matrix(out=[0], into=[1])
    return bias(use) if use.slot == "bias" else None


@rule_for("addmm", "baddbmm", "addmv")
def addmm(use: Use) -> Role | None:
    """b + x·W, for W stored as [in, out], as in Conv1D of transformers."""
    if use.slot == "input":
        return bias(use)
    return _product(
        use, left=use.slot == "mat1" or (use.operation == "addmv" and use.slot == "mat")
    )


@rule_for("matmul", "grouped_mm", "_grouped_mm")
def matmul(use: Use) -> Role | None:
    """W·x for W stored as [out, in], or x·W for W stored as [in, out]; leading axes are experts."""
    return _product(use, left=use.slot in ("input", "0"))


@rule_for("einsum")
def einsum(use: Use) -> Role | None:
    """A contraction, in which the axes that only the output shares are output features.

    If these are not neighbours, the last of them are features, and the others count matrices.
    """
    equation = use.call.constants.get("0")
    letters = _letters(equation, use.slot) if isinstance(equation, str) else None
    if letters is None:
        return None
    mine, others, output = letters
    out = [k for k, letter in enumerate(mine) if letter in output and letter not in others]
    into = [k for k, letter in enumerate(mine) if letter in others and letter not in output]
    stacked = [k for k, letter in enumerate(mine) if letter in output and letter in others]
    if not _neighbours(out) and len(out) > 1:  # each index along the others has a matrix
        stacked, out = stacked + out[:-1], out[-1:]
    if not out or not into or len(out) + len(into) + len(stacked) != len(mine):
        return None
    return use.matrix(out, into, stacked, feature_axis=output.index(mine[out[0]]))


def bias(use: Use) -> Role:
    """A vector that is added to every feature vector, measured by its RMS."""
    return Role("bias", BallVectors(RMS, axes=max(1, len(use.shape))))


def _product(use: Use, left: bool) -> Role | None:
    axes = len(use.view.shape)
    if axes == 1 and len(use.shape) == 1:  # an operator from RMS to a number
        return Role("matrix", Vectors(DualRMS, axes=1))
    if axes < 2:
        return None
    out, into = (axes - 2, axes - 1) if left else (axes - 1, axes - 2)
    return use.matrix([out], [into], range(axes - 2), feature_axis=-2 if left else -1)


def _neighbours(axes: Sequence[int]) -> bool:
    return list(axes) == list(range(axes[0], axes[0] + len(axes)))


def _letters(equation: str, slot: str) -> tuple[str, str, str] | None:
    """The axes of the operand in the slot, of all others, and of the output."""
    if "->" not in equation or "." in equation:
        return None
    inputs, output = equation.replace(" ", "").split("->")
    operands = inputs.split(",")
    position = int(slot.rpartition(".")[2]) - (0 if "." in slot else 1)
    if not 0 <= position < len(operands):
        return None
    others = "".join(operands[:position] + operands[position + 1 :])
    return operands[position], others, output
