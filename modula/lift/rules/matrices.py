"""Matrices: linear maps of activations, stored as [out, in] or [in, out].

For each, ‖W·x‖ ≤ ‖W‖·‖x‖ in RMS, by the definition of the operator norm.
"""

from __future__ import annotations

from collections.abc import Sequence

from modula.geometry import BallVectors, Vectors
from modula.lift.rules.base import Role, Use, rule_for
from modula.lift.rules.equations import Equation, equation_of
from modula.lift.rules.tables import rows
from modula.norms import RMS, DualRMS, Linf


@rule_for("linear")
def linear(use: Use) -> Role | None:
    """x·Wᵀ + b, for W stored as [out, in]; a parameter in the place of x is a table of vectors."""
    if use.slot == "weight" and len(use.view.shape) == 2:
        return use.matrix(out=[0], into=[1])
    if use.slot == "weight":
        return _to_a_number(use)
    return bias(use) if use.slot == "bias" else rows(use)


@rule_for("addmm", "baddbmm", "addbmm", "addmv")
def addmm(use: Use) -> Role | None:
    """b + x·W, for W stored as [in, out], as in Conv1D of transformers."""
    if use.slot == "input":
        return bias(use)
    return _product(
        use, left=use.slot == "mat1" or (use.operation == "addmv" and use.slot == "mat")
    )


@rule_for(
    *("matmul", "dot", "inner", "vecdot", "multi_dot", "chain_matmul", "grouped_mm"),
    "_grouped_mm",
)
def matmul(use: Use) -> Role | None:
    """W·x for W stored as [out, in], or x·W for W stored as [in, out]; leading axes are experts.

    `inner` contracts the last axes of both, as `linear` does.
    """
    if use.operation == "inner" and len(use.view.shape) == 2:
        return use.matrix(out=[0], into=[1])
    if use.operation == "vecdot":
        return _to_a_number(use)
    return _product(use, left=use.slot in ("input", "0", "0.0"))


@rule_for("bilinear")
def bilinear(use: Use) -> Role | None:
    """x₁·W_o·x₂ for each output o: a matrix that maps x₁⊗x₂, whose RMS is RMS(x₁)·RMS(x₂)."""
    if use.slot == "weight":
        return use.matrix(out=[0], into=[1, 2])
    return bias(use) if use.slot == "bias" else rows(use)


@rule_for("einsum", "tensordot")
def einsum(use: Use) -> Role | None:
    """A contraction, in which the axes that only the output shares are output features.

    If these are not neighbours, the last of them are features, and the others count matrices. Axes
    that are contracted with several operands are input features of their product, whose RMS is the
    product of theirs. Without a contraction the parameter is a gain.
    """
    equation = equation_of(use.call, use.slot)
    if equation is None or len(set(equation.mine)) != len(equation.mine):
        return None
    mine, output = equation.mine, equation.output
    out = [k for k, letter in enumerate(mine) if letter in output and letter not in equation.others]
    into = [
        k for k, letter in enumerate(mine) if letter in equation.others and letter not in output
    ]
    if not out:  # in a chain of matrices, those contracted with another parameter are features too
        out = [k for k in into if mine[k] not in equation.data]
        into = [k for k in into if mine[k] in equation.data]
    if not into:
        return Role("gain", BallVectors(Linf, axes=max(1, len(use.shape))))
    if not out:
        return _to_a_number(use) if into == [len(mine) - 1] else None
    if not _neighbours(out):  # each index along the others has a matrix
        out = out[-1:]
    feature_axis = output.index(mine[out[0]]) if _is_one_axis(equation, out) else None
    return use.matrix(out, into, feature_axis)


def bias(use: Use) -> Role:
    """A vector that is added to every feature vector, measured by its RMS."""
    return Role("bias", BallVectors(RMS, axes=max(1, len(use.shape))))


def _product(use: Use, left: bool) -> Role | None:
    axes = len(use.view.shape)
    if axes == 1:
        return _to_a_number(use)
    out, into = (axes - 2, axes - 1) if left else (axes - 1, axes - 2)
    return use.matrix([out], [into], feature_axis=-2 if left else -1)


def _to_a_number(use: Use) -> Role | None:
    """An operator from RMS to a number, or one for each index along leading axes."""
    refined = use.view.refined()
    axes = len(use.shape)
    if refined is None or refined.axes[-1] != (len(refined.shape) - 1,) or axes == 0:
        return None
    return Role("matrix", Vectors(DualRMS, axes=axes))


def _is_one_axis(equation: Equation, out: Sequence[int]) -> bool:
    return len(out) == 1 and equation.mine[out[0]] in equation.output


def _neighbours(axes: Sequence[int]) -> bool:
    return list(axes) == list(range(axes[0], axes[0] + len(axes)))
