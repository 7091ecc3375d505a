"""Bonds: modules that carry no weights.

Each docstring states the bond's sensitivity and radius. The sensitivity bounds how much the bond
stretches a change of its input, the radius bounds the norm of its output by the norm R of its
input. "Proved" bounds hold for all inputs, "conditional" ones for the inputs that are named.
"""

from modula.bonds.adaptive_pooling import (
    AdaptiveAvgPool1D,
    AdaptiveAvgPool2D,
    AdaptiveAvgPool3D,
    AdaptiveMaxPool1D,
    AdaptiveMaxPool2D,
    AdaptiveMaxPool3D,
)
from modula.bonds.attention import (
    ApplyAttentionScores,
    ApplyMask,
    AttentionQK,
    CausalMask,
    FunctionalAttention,
    MaskedFunctionalAttention,
    MergeHeads,
    PaddingMask,
    QKNorm,
    Rope,
    Sinusoid,
    Softmax,
    SplitIntoHeads,
    SplitQKV,
    Ungroup,
)
from modula.bonds.base import FunctionBond, SameSpace
from modula.bonds.batch_norm import BatchNorm, ChannelBatchNorm
from modula.bonds.concat import Concat
from modula.bonds.dropout import Dropout
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
from modula.bonds.frozen import FrozenLinear
from modula.bonds.gates import Gate, GatedTanh, Sigmoid
from modula.bonds.images import AvgPool, Flatten
from modula.bonds.normalization import (
    ChannelGroupNorm,
    ChannelLayerNorm,
    ChannelRMSNorm,
    GroupNorm,
    LayerNorm,
    Mean,
    MeanSubtract,
    RMSNorm,
)
from modula.bonds.patches import Patchify, TakePosition
from modula.bonds.pooling import (
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
)
from modula.bonds.resampling import PixelShuffle, PixelUnshuffle, Upsample
from modula.bonds.routing import Combine, Dispatch, TopK
from modula.bonds.token_shift import TokenShift
from modula.bonds.tokens import Enumerate
from modula.bonds.tuples import Keep, Select, Unbind

__all__ = [
    "GELU",
    "Abs",
    "AdaptiveAvgPool1D",
    "AdaptiveAvgPool2D",
    "AdaptiveAvgPool3D",
    "AdaptiveMaxPool1D",
    "AdaptiveMaxPool2D",
    "AdaptiveMaxPool3D",
    "ApplyAttentionScores",
    "ApplyMask",
    "AttentionQK",
    "AvgPool",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "BatchNorm",
    "CausalMask",
    "ChannelBatchNorm",
    "ChannelGroupNorm",
    "ChannelLayerNorm",
    "ChannelRMSNorm",
    "Combine",
    "Concat",
    "Dispatch",
    "Dropout",
    "Enumerate",
    "Flatten",
    "FrozenLinear",
    "FunctionBond",
    "FunctionalAttention",
    "Gate",
    "GatedTanh",
    "GroupNorm",
    "Keep",
    "LayerNorm",
    "MaskedFunctionalAttention",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "Mean",
    "MeanSubtract",
    "MergeHeads",
    "PaddingMask",
    "Patchify",
    "PixelShuffle",
    "PixelUnshuffle",
    "QKNorm",
    "RMSNorm",
    "ReLU",
    "Rope",
    "SameSpace",
    "ScaledGELU",
    "ScaledReLU",
    "Select",
    "SiLU",
    "Sigmoid",
    "Sinusoid",
    "Softmax",
    "SplitIntoHeads",
    "SplitQKV",
    "SquaredReLU",
    "TakePosition",
    "Tanh",
    "TokenShift",
    "TopK",
    "Unbind",
    "Ungroup",
    "Upsample",
]
