"""Bonds: modules that carry no weights.

Each docstring states the bond's sensitivity and radius. The sensitivity bounds how much the bond
stretches a change of its input, the radius bounds the norm of its output by the norm R of its
input. "Proved" bounds hold for all inputs, "conditional" ones for the inputs that are named.
"""

from modula.bonds.attention import (
    ApplyAttentionScores,
    AttentionQK,
    CausalMask,
    FunctionalAttention,
    MergeHeads,
    Rope,
    Softmax,
    SplitIntoHeads,
    Ungroup,
)
from modula.bonds.base import FunctionBond, SameSpace
from modula.bonds.concat import Concat
from modula.bonds.elementwise import (
    GELU,
    Abs,
    ReLU,
    ScaledGELU,
    ScaledReLU,
    SiLU,
    SquaredReLU,
    Tanh,
)
from modula.bonds.gates import Gate, GatedTanh, Sigmoid
from modula.bonds.images import AvgPool, Flatten
from modula.bonds.normalization import LayerNorm, Mean, MeanSubtract, RMSNorm
from modula.bonds.tokens import Enumerate
from modula.bonds.tuples import Keep, Select

__all__ = [
    "GELU",
    "Abs",
    "ApplyAttentionScores",
    "AttentionQK",
    "AvgPool",
    "CausalMask",
    "Concat",
    "Enumerate",
    "Flatten",
    "FunctionBond",
    "FunctionalAttention",
    "Gate",
    "GatedTanh",
    "Keep",
    "LayerNorm",
    "Mean",
    "MeanSubtract",
    "MergeHeads",
    "RMSNorm",
    "ReLU",
    "Rope",
    "SameSpace",
    "ScaledGELU",
    "ScaledReLU",
    "Select",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "SplitIntoHeads",
    "SquaredReLU",
    "Tanh",
    "Ungroup",
]
