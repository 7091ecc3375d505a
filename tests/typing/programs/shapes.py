"""Gates, concatenation along features, networks of several inputs, and weights in other shapes."""

from typing import assert_type

import torch

from modula import (
    GEGLU,
    GRU,
    L1,
    LSTM,
    RMS,
    Add,
    Affine,
    ChannelRMS,
    ClassToken,
    Combine,
    Concat,
    Concatenation,
    Conv2D,
    Dispatch,
    Embed,
    Experts,
    FrozenLinear,
    Gate,
    GatedMLP,
    GatedTanh,
    GRUSteps,
    HeadRMS,
    Identity,
    Keep,
    Linear,
    Linf,
    LoRA,
    LowRank,
    LSTMSteps,
    MixtureOfExperts,
    Module,
    OneHot,
    Parallel,
    PositionTable,
    ReLU,
    Scalar,
    Select,
    Sigmoid,
    SiLU,
    StackedBias,
    StackedLinear,
    SwiGLU,
    TiedHead,
    TopK,
    Unbind,
    routing,
    tie,
)
from modula.compounds.moe import Routing


def a() -> Module[RMS, RMS]:
    return Linear(4, 4)


def b() -> Module[RMS, Linf]:
    return Linear(4, 4, codomain=Linf)


def e() -> Module[OneHot, RMS]:
    return Embed(4, 9)


# Concat takes a tuple of any length, as the tuple of modules or as one module into it.
assert_type(Concat(), Concat[RMS])
assert_type(Concat(4, 4), Concat[RMS])
assert_type(Concat(norm=HeadRMS), Concat[HeadRMS])
assert_type(Concat() @ (a(), a()), Module[RMS, RMS])
assert_type(Concat() @ (Identity(), a()), Module[RMS, RMS])
assert_type(Concat() @ (e(), e(), e()), Module[OneHot, RMS])
assert_type(Concat() @ ((a(), a()) @ e()), Module[OneHot, RMS])
assert_type(Concat() @ ((a(),) @ e()), Module[OneHot, RMS])
assert_type(Concat() @ ((a(), a(), a(), a()) @ e()), Module[OneHot, RMS])
many = (a(), a(), a(), a(), a(), a(), a(), a(), a()) @ e()
assert_type(Concat() @ many, Module[OneHot, RMS])
assert_type(Linear(4, 8) @ Concat() @ (a(), a()), Module[RMS, RMS])
assert_type(Linear(4, 8) @ Concat(4, 4) @ ((a(), a()) @ e()), Module[OneHot, RMS])
assert_type(ReLU() @ Concat() @ ((a(), a()) @ e()), Module[OneHot, RMS])
assert_type(Identity() @ Concat() @ ((a(), a()) @ e()), Module[OneHot, RMS])
assert_type(0.5 * Concat() @ (a(), a()), Module[RMS, RMS])
assert_type((Concat() / 2) @ ((a(), a(), a()) @ e()), Module[OneHot, RMS])
assert_type(Concat(norm=ChannelRMS) @ (Identity(), Conv2D(4, 3)), Module[ChannelRMS, ChannelRMS])
Concat() @ (a(), b())  # E: the codomains differ
Concat() @ (a(), e())  # E: the domains differ
Concat() @ a()  # E: Concat takes a tuple
Concat(norm=ChannelRMS) @ (a(), a())  # E: features are not images
Concat(norm=Linf)  # E: not a root mean square
Concat("4")  # E: a width is a whole number
Linear(4, 9) @ Concat() @ (a(), a())  # E run: the widths sum to 8
Concat(4, 5) @ (a(), a())  # E run: the second part has width 4

# Gate takes a pair, whose second part may have a norm of its own.
assert_type(Gate(), Gate[RMS, RMS])
assert_type(Gate(ChannelRMS), Gate[ChannelRMS, ChannelRMS])
assert_type(Gate(RMS, Linf), Gate[RMS, Linf])
assert_type(Gate() @ (a(), SiLU() @ a()), Module[RMS, RMS])
assert_type(Gate(RMS, Linf) @ (a(), Sigmoid() @ b()), Module[RMS, RMS])
assert_type(a() @ (0.5 * Gate()) @ (a(), a()) @ e(), Module[OneHot, RMS])
assert_type(GatedTanh() @ (a(), a()), Module[RMS, RMS])
assert_type(SwiGLU(4, 4, width=8) @ e(), Module[OneHot, RMS])
assert_type(GEGLU(4, 4, width=8), GEGLU)
assert_type(GatedMLP(4, 4, width=8, activation=ReLU()), GatedMLP)
Gate() @ (a(), b())  # E: the gate is measured in RMS
Gate() @ (a(), a(), a())  # E: Gate takes a pair
Gate() @ a()  # E: Gate takes a pair
Gate(OneHot)  # E: ids hold no real vectors
Gate(RMS, ChannelRMS)  # E run: the gate has the norm of the value, or one that bounds entries
GatedTanh() @ (a(), b())  # E: the gate is measured in RMS
Sigmoid() @ a()  # E: Sigmoid takes Linf
Gate() @ (Linear(3, 4), Linear(4, 4))  # E run: value and gate have different widths

# Parallel applies each module to its own entry; it is how a network takes several inputs.
assert_type(Parallel(a()), Parallel[tuple[RMS], tuple[RMS]])
assert_type(
    Parallel(a(), b(), e(), a()),
    Parallel[tuple[RMS, RMS, OneHot, RMS], tuple[RMS, Linf, RMS, RMS]],
)
assert_type(Parallel(a(), e()), Parallel[tuple[RMS, OneHot], tuple[RMS, RMS]])
assert_type(Parallel(a(), b(), e()), Parallel[tuple[RMS, RMS, OneHot], tuple[RMS, Linf, RMS]])
assert_type(Parallel(a(), Keep(OneHot)), Parallel[tuple[RMS, OneHot], tuple[RMS, OneHot]])
assert_type(Add() @ Parallel(a(), e()), Module[tuple[RMS, OneHot], RMS])
assert_type(a() @ (Add() @ Parallel(a(), e())), Module[tuple[RMS, OneHot], RMS])
assert_type(a() @ Add() @ Parallel(a(), e()), Module[tuple[RMS, OneHot], RMS])
a() @ Add() @ Parallel(b(), e())  # E: Linf is not RMS
assert_type(Parallel(a(), b()) @ (a(), a()), Module[RMS, tuple[RMS, Linf]])
assert_type(Parallel(a(), b()) @ (a(), a()) @ e(), Module[OneHot, tuple[RMS, Linf]])
assert_type(2 * Parallel(a(), b()), Module[tuple[RMS, RMS], tuple[RMS, Linf]])
assert_type(Concat() @ Parallel(a(), e()), Module[tuple[RMS, OneHot], RMS])
assert_type(Keep(), Keep[RMS])
assert_type(Keep(ChannelRMS), Keep[ChannelRMS])
Parallel(a(), b()) @ (a(), b())  # E: the second takes RMS
Parallel(a(), b()) @ a()  # E: Parallel takes a tuple
Parallel(a(), b()) @ (a(), a(), a())  # E: one too many
Add() @ Parallel(a(), b())  # E: the codomains differ
Parallel()  # E: at least one module
Parallel(a(), 3)  # E: a number is no module
Keep(3)  # E: a number is no norm type
Parallel(a(), Identity()) @ (a(), a())  # E static: next to no neighbour it has no type; Keep does

# Select takes one entry of a tuple, of which all norms are named.
assert_type(Select(0, RMS, OneHot), Select[tuple[RMS, OneHot], RMS])
assert_type(Select(1, RMS, OneHot), Select[tuple[RMS, OneHot], OneHot])
assert_type(Select(2, RMS, Linf, OneHot), Select[tuple[RMS, Linf, OneHot], OneHot])
assert_type(Select(3, RMS, RMS, RMS, Linf), Select[tuple[RMS, RMS, RMS, Linf], Linf])
assert_type(a() @ Select(0, RMS, OneHot), Module[tuple[RMS, OneHot], RMS])
assert_type(Select(1, RMS, Linf) @ (a(), b()), Module[RMS, Linf])
a() @ Select(1, RMS, OneHot)  # E: ids are not features
Select(2, RMS, OneHot)  # E: there are two entries
Select(0, RMS, OneHot) @ (a(), a())  # E: the second entry holds ids
Select(0, 3, RMS)  # E: a number is no norm type

# A tuple of modules on both sides of @ needs parentheses.
assert_type(Add() @ (a() @ a(), a() @ a()), Module[RMS, RMS])
Add() @ (a(), a()) @ (a(), a())  # E: each module of a tuple takes the whole input
(a(), a()) @ (a(), a())  # E: tuples of Python, which no module sees
(a(), a()) @ Concatenation(a(), a())  # E: each module of a tuple takes the whole input

# Weights in other shapes.
assert_type(PositionTable(4, context=8), PositionTable)
assert_type(ClassToken(4) @ PositionTable(4, 8) @ e(), Module[OneHot, RMS])
assert_type(Scalar(), Scalar[RMS, RMS])
assert_type(Scalar(ChannelRMS), Scalar[ChannelRMS, ChannelRMS])
assert_type(Scalar(Linf, mass=0.5) @ b(), Module[RMS, Linf])
assert_type(StackedLinear(3, 4, 4) @ e(), Module[OneHot, RMS])
assert_type(StackedBias(3, 4) @ StackedLinear(3, 4, 4), Module[RMS, RMS])
assert_type(Unbind(2), Unbind[tuple[RMS, RMS]])
assert_type(Unbind(3), Unbind[tuple[RMS, RMS, RMS]])
assert_type(Gate() @ Unbind(2) @ StackedLinear(2, 4, 4), Module[RMS, RMS])
assert_type(Experts(3, 4, 4), Experts)
assert_type(GRUSteps(4) @ StackedLinear(3, 4, 2), Module[RMS, RMS])
assert_type(LSTMSteps(4), LSTMSteps)
assert_type(LSTM(4, 4) @ e(), Module[OneHot, RMS])
assert_type(GRU(4, 3, recurrent_mass=0.5), GRU)
assert_type(TopK(2) @ b(), Module[RMS, tuple[OneHot, L1]])
assert_type(Dispatch() @ (Identity(), TopK(2) @ b()), Module[RMS, tuple[tuple[RMS, OneHot], L1]])
assert_type(
    Combine() @ Parallel(Experts(4, 4, 4), Keep(L1)) @ Dispatch() @ (Identity(), TopK(1) @ b()),
    Module[RMS, RMS],
)
assert_type(MixtureOfExperts(4, num_experts=4, k=2, width=8) @ e(), Module[OneHot, RMS])
assert_type(FrozenLinear(torch.eye(4)) @ e(), Module[OneHot, RMS])
assert_type(LowRank(4, 4, rank=2), LowRank)
assert_type(LoRA(Linear(4, 4), rank=2), LoRA)
assert_type(LoRA(torch.eye(4), rank=2, scale=0.5) @ e(), Module[OneHot, RMS])
assert_type(TiedHead(Embed(4, 9)) @ e(), Module[OneHot, Linf])
assert_type(tie(Linear(9, 4), Embed(4, 9)), Linear[RMS, RMS])
assert_type(Affine(4, 3), Affine)
assert_type(Affine(4, 4) @ ReLU() @ Affine(4, 4) @ e(), Module[OneHot, RMS])
with routing(MixtureOfExperts(4, num_experts=4, k=2, width=8)) as layers:
    assert_type(layers, list[Routing])
PositionTable(4)  # E: how many positions
PositionTable(4, 8) @ Conv2D(4, 3)  # E: images are not sequences
ClassToken(4) @ b()  # E: ClassToken takes RMS
Scalar(OneHot)  # E: ids are not multiplied
Scalar() @ b()  # E: Scalar() takes RMS
Gate() @ Unbind(3) @ StackedLinear(3, 4, 4)  # E: Gate takes a pair
Unbind(2) @ b()  # E: Unbind takes RMS
Experts(3, 4, 4) @ a()  # E: Experts takes a tuple
Experts(3, 4, 4) @ (a(), a())  # E: the second entry holds ids
TopK(2) @ a()  # E: scores are measured in Linf
Combine() @ (a(), b())  # E: weights are measured in L1
Dispatch() @ (a(), b())  # E: the second entry is a choice
LSTM(4, 4) @ Conv2D(4, 3)  # E: an LSTM takes sequences of features
LSTM(4)  # E: the width of the input
MixtureOfExperts(4, num_experts=4, k=2)  # E: the width of the experts
LoRA(Embed(4, 9), rank=2)  # E: a table is not adapted
LoRA(Linear(4, 4))  # E: the rank
TiedHead(Linear(4, 9))  # E: a head is tied to an Embed
TiedHead(Embed(4, 9)) @ b()  # E: TiedHead takes RMS
a() @ TiedHead(Embed(4, 9))  # E: logits are measured in Linf
Linear(4, 3, bias=True)  # E: Affine is the composition
Affine(4, 3) @ b()  # E: Affine takes RMS
FrozenLinear([[1.0]])  # E: a list is no matrix
tie(Linear(9, 4), Embed(3, 9))  # E run: the shapes differ
LSTM(4, 3) @ Linear(4, 4)  # E run: a width of 3 is not one of 4
