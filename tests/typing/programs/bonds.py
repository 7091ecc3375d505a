"""Every bond: its type, and the types of its compositions."""

from typing import Literal, assert_type

import torch

from modula import (
    GELU,
    L1,
    L2,
    RMS,
    Abs,
    AdaptiveAvgPool1D,
    AdaptiveAvgPool2D,
    AdaptiveAvgPool3D,
    AdaptiveMaxPool1D,
    AdaptiveMaxPool2D,
    AdaptiveMaxPool3D,
    AvgPool,
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    BatchNorm,
    ChannelBatchNorm,
    ChannelBias,
    ChannelGain,
    ChannelGroupNorm,
    ChannelLayerNorm,
    ChannelRMS,
    ChannelRMSNorm,
    Conv1D,
    Conv2D,
    Conv3D,
    Dropout,
    Elementwise,
    Embed,
    Enumerate,
    Flatten,
    FunctionBond,
    Gain,
    GroupNorm,
    HeadRMS,
    Identity,
    LayerNorm,
    Linear,
    Linf,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
    Mean,
    MeanSubtract,
    Module,
    Mul,
    OneHot,
    Patchify,
    PixelShuffle,
    PixelUnshuffle,
    ReLU,
    RMSNorm,
    ScaledGELU,
    ScaledReLU,
    SiLU,
    SplitIntoHeads,
    SquaredReLU,
    Tanh,
    TokenShift,
    Upsample,
)
from modula.algebra.core import Transparent

# Functions of single entries take over their neighbour's space, on either side.
assert_type(Linear(4, 3) @ ReLU(), Module[RMS, RMS])
assert_type(Linear(4, 3) @ ScaledReLU(), Module[RMS, RMS])
assert_type(Linear(4, 3) @ SquaredReLU(), Module[RMS, RMS])
assert_type(Linear(4, 3) @ GELU(), Module[RMS, RMS])
assert_type(Linear(4, 3) @ ScaledGELU(), Module[RMS, RMS])
assert_type(Linear(4, 3) @ SiLU(), Module[RMS, RMS])
assert_type(Linear(4, 3) @ Tanh(), Module[RMS, RMS])
assert_type(Linear(4, 3) @ Abs(), Module[RMS, RMS])
assert_type(ReLU() @ Linear(4, 3), Module[RMS, RMS])
assert_type(ScaledReLU() @ Conv2D(4, 3), Module[ChannelRMS, ChannelRMS])
assert_type(GELU() @ Embed(4, 9), Module[OneHot, RMS])
assert_type(SiLU() @ SplitIntoHeads(2), Module[RMS, HeadRMS])
assert_type(Tanh() @ Linear(4, 3, codomain=Linf), Module[RMS, Linf])
assert_type(Abs() @ Linear(4, 3, domain=L1, codomain=L2), Module[L1, L2])
assert_type(Linear(4, 3, domain=L1) @ ScaledGELU(), Module[L1, RMS])
assert_type(Conv2D(4, 3) @ ReLU(), Module[ChannelRMS, ChannelRMS])
assert_type(Conv2D(4, 3) @ ReLU() @ Conv2D(3, 1), Module[ChannelRMS, ChannelRMS])
assert_type(AvgPool() @ ReLU(), Module[ChannelRMS, RMS])
assert_type(Linear(4, 3) @ ReLU() @ Tanh() @ Linear(3, 2), Module[RMS, RMS])
assert_type(Linear(4, 3) @ (ReLU() @ Tanh()), Module[RMS, RMS])
assert_type((ReLU() @ Tanh()) @ Linear(4, 3), Module[RMS, RMS])
assert_type(Linear(4, 3) @ (ReLU() @ Linear(3, 2)), Module[RMS, RMS])

# Without a neighbour they are bonds of any dense space.
assert_type(ReLU(), ReLU)
assert_type(ReLU() @ Tanh(), Elementwise)
assert_type(ReLU() @ Identity(), Elementwise)
assert_type(Identity() @ ReLU(), Elementwise)
assert_type(ReLU() + Tanh(), Elementwise)
assert_type(ReLU() + Identity(), Elementwise)
assert_type(0.5 * ReLU() + 0.5 * Identity(), Elementwise)
assert_type(0.5 * Identity() + 0.5 * ReLU(), Elementwise)
assert_type(0.5 * Identity() + 0.5 * Identity(), Transparent)
assert_type(2 * ReLU(), Elementwise)
assert_type(ReLU() * 2, Elementwise)
assert_type(ReLU() / ReLU().sensitivity, Elementwise)
assert_type(ReLU() ** 2, Elementwise)
assert_type(Linear(4, 4) @ (ReLU() + 0.1 * Identity()), Module[RMS, RMS])
assert_type(Linear(4, 3) @ (ReLU() ** 2), Module[RMS, RMS])

# Identity and Mul take anything, ids and tuples too.
assert_type(Identity() @ Mul(2.0), Transparent)
assert_type(Identity() @ Linear(4, 3), Module[RMS, RMS])
assert_type(Linear(4, 3) @ Identity(), Module[RMS, RMS])
assert_type(Embed(4, 9) @ Identity(), Module[OneHot, RMS])
assert_type(Identity() @ Enumerate(), Module[OneHot, OneHot])
assert_type(Mul(2.0) @ Conv2D(4, 3), Module[ChannelRMS, ChannelRMS])
assert_type(Conv2D(4, 3) @ Mul(2.0), Module[ChannelRMS, ChannelRMS])
assert_type(Linear(4, 3) @ Identity() @ Embed(3, 9), Module[OneHot, RMS])
assert_type(Identity().sensitivity, float)
assert_type(Mul(2.0).scale, float)

# Ids and tuples hold no real vectors.
Embed(4, 9) @ ReLU()  # E: ids hold no real vectors
ReLU() @ Enumerate()  # E: ids hold no real vectors
Enumerate() @ Tanh()  # E: ids hold no real vectors
Embed(4, 9) @ (ReLU() @ Identity())  # E: ids hold no real vectors
Embed(4, 9) @ (2 * ReLU())  # E: ids hold no real vectors
Embed(4, 9) @ (ReLU() ** 2)  # E: ids hold no real vectors
Enumerate() @ (ReLU() + Identity())  # E: ids hold no real vectors
ReLU() @ (Linear(4, 3), Linear(4, 3))  # E: ReLU takes vectors, not a tuple
ReLU() + Linear(4, 4) @ Embed(4, 9)  # E: ReLU maps a space to itself, the other ids to features
Linear(4, 3) @ ReLU() @ Conv2D(3, 1)  # E: what ReLU is given, it gives
Conv2D(4, 3) @ ReLU() @ Linear(3, 2)  # E: what ReLU is given, it gives
Conv2D(4, 3) @ (ReLU() @ Linear(3, 2))  # E: what ReLU is given, it gives
(Linear(4, 3) @ ReLU()) @ Conv2D(3, 1)  # E: the bond has become one of features
Embed(4, 9) @ Identity() @ Linear(9, 3)  # E: what Identity is given, it gives
Enumerate() @ Mul(2.0) @ Embed(4, 9)  # E: what Mul is given, it gives

# Feature vectors.
assert_type(MeanSubtract() @ Linear(4, 3), Module[RMS, RMS])
assert_type(Linear(4, 3) @ RMSNorm(), Module[RMS, RMS])
assert_type(RMSNorm(eps=1e-6) @ Embed(4, 9), Module[OneHot, RMS])
assert_type(LayerNorm() @ Linear(4, 3), Module[RMS, RMS])
assert_type(Linear(4, 3) @ Mean(), Module[RMS, RMS])
assert_type(Mean(axis=-3) @ ReLU() @ Embed(4, 9), Module[OneHot, RMS])
assert_type(2 * RMSNorm(), Module[RMS, RMS])
assert_type(RMSNorm() ** 2, Module[RMS, RMS])
assert_type(TokenShift() @ RMSNorm(), Module[RMS, RMS])
TokenShift() @ Conv2D(4, 3)  # E: TokenShift takes features, Conv2D gives images
RMSNorm() @ Conv2D(4, 3)  # E: RMSNorm takes features, Conv2D gives images
Conv2D(4, 3) @ LayerNorm()  # E: Conv2D takes images, LayerNorm gives features
MeanSubtract() @ Linear(4, 3, codomain=Linf)  # E: Linf is not RMS
Mean() @ SplitIntoHeads(2)  # E: Mean takes features, not heads
RMSNorm() @ Enumerate()  # E: RMSNorm takes features, not ids
Embed(4, 9) @ RMSNorm()  # E: Embed takes ids
RMSNorm("1e-6") @ Linear("4", 3)  # E: a number is no string

# From images to vectors: AvgPool and Flatten.
assert_type(Linear(10, 4) @ AvgPool() @ Conv2D(4, 3), Module[ChannelRMS, RMS])
assert_type(Linear(10, 4) @ Flatten() @ Conv2D(4, 3), Module[ChannelRMS, RMS])
assert_type(Linear(10, 4) @ ReLU() @ AvgPool() @ ReLU() @ Conv2D(4, 3), Module[ChannelRMS, RMS])
assert_type(AvgPool() @ Conv2D(4, 3), Module[ChannelRMS, RMS])
Linear(10, 4) @ Conv2D(4, 3)  # E: insert AvgPool() or Flatten()
Linear(10, 4) @ ReLU() @ Conv2D(4, 3)  # E: insert AvgPool() or Flatten()
AvgPool() @ Linear(4, 3)  # E: AvgPool takes images
Flatten() @ Embed(4, 9)  # E: Flatten takes images
AvgPool() @ AvgPool()  # E: AvgPool gives features, and takes images
Flatten() @ AvgPool()  # E: AvgPool gives features, and Flatten takes images
Conv2D(4, 3) @ Flatten()  # E: Flatten gives features
AvgPool() ** 2  # E: AvgPool does not map a space to itself
AvgPool() + Identity()  # E: the two ends of AvgPool differ

# Ids.
assert_type(Embed(4, 9) @ Enumerate(), Module[OneHot, RMS])
assert_type(Embed(4, 9) + Embed(4, 16) @ Enumerate(), Module[OneHot, RMS])
assert_type(Enumerate() @ Enumerate(), Module[OneHot, OneHot])
Enumerate() @ Embed(4, 9)  # E: Enumerate takes ids
Linear(4, 3) @ Enumerate()  # E: Enumerate gives ids
Conv2D(4, 3) @ Enumerate()  # E: Enumerate gives ids

# A function as a bond.
assert_type(FunctionBond(torch.sin, domain=RMS, codomain=RMS), FunctionBond[RMS, RMS])
assert_type(
    FunctionBond(torch.sin, domain=RMS, codomain=Linf, sensitivity=8.0) @ Linear(4, 3),
    Module[RMS, Linf],
)
assert_type(
    Linear(2, 3) @ FunctionBond(torch.sin, domain=ChannelRMS, codomain=RMS) @ Conv2D(4, 3),
    Module[ChannelRMS, RMS],
)
FunctionBond(torch.sin, domain=RMS, codomain=L2) @ Conv2D(4, 3)  # E: its domain is RMS
Linear(4, 3) @ FunctionBond(torch.sin, domain=RMS, codomain=L2)  # E: its codomain is L2
FunctionBond(torch.sin)  # E: a function does not say its norms
FunctionBond(torch.sin, RMS, RMS)  # E: the norms are given by name
FunctionBond(torch.sin, domain=RMS, codomain=RMS, sensitivity="1")  # E: a sensitivity is a number
FunctionBond(
    "sin",  # E static: what can be called is seen when it is called
    domain=RMS,
    codomain=RMS,
)

# Images, sequences and volumes: pooling, resampling, normalisation.
assert_type(AvgPool() @ MaxPool2D(3, 2, 1) @ Conv2D(4, 3), Module[ChannelRMS, RMS])
assert_type(MaxPool1D() @ Conv1D(4, 3), Module[ChannelRMS, ChannelRMS])
assert_type(MaxPool3D((1, 2, 2)) @ Conv3D(4, 3), Module[ChannelRMS, ChannelRMS])
assert_type(AvgPool1D(2) @ AvgPool1D((3,)), Module[ChannelRMS, ChannelRMS])
assert_type(AvgPool2D(2) @ ReLU() @ AvgPool2D((3, 1)), Module[ChannelRMS, ChannelRMS])
assert_type(AvgPool3D(2) + Identity(), Module[ChannelRMS, ChannelRMS])
assert_type(AdaptiveAvgPool1D(4) ** 2, Module[ChannelRMS, ChannelRMS])
assert_type(Flatten() @ AdaptiveAvgPool2D((2, 3)), Module[ChannelRMS, RMS])
assert_type(AdaptiveMaxPool1D(4) ** 2, Module[ChannelRMS, ChannelRMS])
assert_type(Flatten() @ AdaptiveMaxPool2D((2, 3)), Module[ChannelRMS, RMS])
assert_type(Conv3D(4, 3) @ AdaptiveMaxPool3D(4), Module[ChannelRMS, ChannelRMS])
assert_type(Conv3D(4, 3) @ AdaptiveAvgPool3D(4), Module[ChannelRMS, ChannelRMS])
assert_type(Upsample(2, "linear") @ Conv2D(4, 3), Module[ChannelRMS, ChannelRMS])
assert_type(Upsample().mode, Literal["nearest", "linear"])
assert_type(PixelShuffle(2) @ Conv2D(8, 3), Module[ChannelRMS, ChannelRMS])
assert_type(Conv2D(8, 12) @ PixelUnshuffle(), Module[ChannelRMS, ChannelRMS])
assert_type(Linear(4, 12) @ Patchify(2), Module[ChannelRMS, RMS])
assert_type(Patchify((2, 1)) @ Conv2D(4, 3), Module[ChannelRMS, RMS])
assert_type(ChannelRMSNorm() @ Conv2D(4, 3), Module[ChannelRMS, ChannelRMS])
assert_type(ChannelLayerNorm(eps=1e-6) @ ChannelGroupNorm(2), Module[ChannelRMS, ChannelRMS])
assert_type(ChannelBatchNorm(4) @ Conv2D(4, 3), Module[ChannelRMS, ChannelRMS])
assert_type(GroupNorm(2) @ Linear(4, 3), Module[RMS, RMS])
assert_type(BatchNorm(4) @ Embed(4, 9), Module[OneHot, RMS])
assert_type(BatchNorm(4).running_mean, torch.Tensor)
assert_type(BatchNorm(4).sensitivity, float)
assert_type(Dropout(0.1) @ Linear(4, 3), Module[RMS, RMS])
assert_type(Conv2D(4, 3) @ Dropout(), Module[ChannelRMS, ChannelRMS])
assert_type(Dropout() @ ReLU(), Elementwise)
assert_type(Dropout(0.1).sensitivity, float)
assert_type(ChannelBias(4) @ ChannelGain(4) @ Conv2D(4, 3), Module[ChannelRMS, ChannelRMS])
assert_type(ChannelBias(4, mass=0.1), ChannelBias)
assert_type(ChannelGain(4), ChannelGain)
MaxPool2D(2) @ Linear(4, 3)  # E: MaxPool2D takes images
Linear(4, 3) @ AvgPool2D(2)  # E: AvgPool2D gives images, AvgPool features
AdaptiveAvgPool2D(2) @ AvgPool()  # E: AvgPool gives features
MaxPool1D((2, 2))  # E: one number for the one axis of a sequence
AvgPool3D((2, 2))  # E: three numbers for the three axes of a volume
AdaptiveAvgPool2D()  # E: a size
Upsample(2, "bicubic")  # E: there is no such mode
PixelShuffle(2) @ Linear(4, 3)  # E: PixelShuffle takes images
Conv2D(4, 3) @ Patchify(2)  # E: Patchify gives features
Patchify(2) @ Patchify(2)  # E: Patchify gives features, and takes images
Patchify((2, 2, 2))  # E: a patch has a height and a width
ChannelRMSNorm() @ Linear(4, 3)  # E: ChannelRMSNorm takes images, RMSNorm features
RMSNorm() @ ChannelRMSNorm()  # E: RMSNorm takes features
ChannelGroupNorm(2) @ GroupNorm(2)  # E: GroupNorm gives features
ChannelGroupNorm()  # E: how many groups
BatchNorm(4) @ Conv2D(4, 3)  # E: BatchNorm takes features
Linear(4, 4) @ ChannelBatchNorm(4)  # E: ChannelBatchNorm gives images
BatchNorm()  # E: a width
Embed(4, 9) @ Dropout()  # E: ids hold no real vectors
Dropout("0.1")  # E: a probability is a number
ChannelBias(4) @ Linear(4, 3)  # E: ChannelBias takes images, Bias features
Gain(4) @ ChannelGain(4)  # E: Gain takes features
PixelShuffle(2) @ Conv2D(6, 3)  # E run: 6 channels are not a multiple of 4
BatchNorm(4) @ Linear(3, 3)  # E run: a width of 4 is not one of 3
GroupNorm(4) @ Linear(6, 3)  # E run: 6 features do not split into 4 groups
