"""Every bond: its type, and the types of its compositions."""

from typing import assert_type

import torch

from modula import (
    GELU,
    L1,
    L2,
    RMS,
    Abs,
    AvgPool,
    ChannelRMS,
    Conv2D,
    Elementwise,
    Embed,
    Enumerate,
    Flatten,
    FunctionBond,
    HeadRMS,
    Identity,
    LayerNorm,
    Linear,
    Linf,
    Mean,
    MeanSubtract,
    Module,
    Mul,
    OneHot,
    ReLU,
    RMSNorm,
    ScaledGELU,
    ScaledReLU,
    SiLU,
    SplitIntoHeads,
    SquaredReLU,
    Tanh,
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
