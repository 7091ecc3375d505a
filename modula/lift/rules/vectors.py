"""Gains, which multiply features entry by entry, and vectors that are added to them."""

from __future__ import annotations

from modula.geometry import BallVectors
from modula.lift.rules.base import Role, Use, rule_for
from modula.lift.rules.matrices import bias
from modula.lift.rules.tables import rows
from modula.norms import RMS, Linf


@rule_for("layer_norm", "rms_norm", "group_norm", "batch_norm", "instance_norm", "prelu")
def normalization(use: Use) -> Role | None:
    """The gain and the bias after a normalisation; a parameter that it normalises is a table."""
    if use.slot == "weight":
        return gain(use)
    return bias(use) if use.slot == "bias" else rows(use)


@rule_for("_weight_norm")
def length(use: Use) -> Role | None:
    """The lengths that `weight_norm` gives to the rows of a weight."""
    return gain(use) if use.slot == "1" else None


@rule_for("mul", "div", "rdiv", "addcmul", "addcdiv", "lerp", "pow")
def gain(use: Use) -> Role:
    """A factor or an exponent for each feature, measured by its largest entry."""
    return Role("gain", BallVectors(Linf, axes=max(1, len(use.shape))))


@rule_for(
    *("add", "sub", "cat", "stack", "where", "index_add", "masked_fill", "masked_scatter"),
    *("setitem", "index_put", "scatter", "scatter_add", "expand", "repeat", "copy", "maximum"),
    *("minimum", "scaled_dot_product_attention", "repeat_interleave", "tile"),
    *("pad", "roll", "flip", "hstack", "vstack", "index_copy"),
)
def added(use: Use) -> Role:
    """Vectors added to features, or put beside them: a bias, positions, a class token."""
    long = [k for k, length in enumerate(use.shape) if length > 1]
    if len(long) > 1 or use.operation not in ("add", "sub", "where"):
        return rows(use) if use.shape else bias(use)
    axis = long[0] - len(use.shape) if long else -1
    return Role("bias", BallVectors(RMS, axes=max(1, len(use.shape)), axis=axis))
