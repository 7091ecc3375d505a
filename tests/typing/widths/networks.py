"""Widths that mypy compares with the plugin `modula.mypy`: chains, sums, tuples, heads, images."""

from modula import (
    GEGLU,
    GELU,
    GPT,
    GRU,
    L2,
    LSTM,
    MLP,
    RMS,
    Add,
    Affine,
    Attention,
    AvgPool,
    AvgPool2D,
    BatchNorm,
    Bias,
    ChannelBias,
    ChannelRMSNorm,
    Composition,
    Concat,
    Concatenation,
    Conv1D,
    Conv2D,
    ConvTranspose2D,
    Dropout,
    Embed,
    Enumerate,
    FeedForward,
    Flatten,
    Gain,
    Gate,
    Identity,
    LayerNorm,
    Linear,
    Linf,
    LowRank,
    MergeHeads,
    MixtureOfExperts,
    Module,
    OneHot,
    Parallel,
    ReLU,
    ResMLP,
    RMSNorm,
    SplitIntoHeads,
    SwiGLU,
    Tanh,
    UNet,
)

WIDTH = 64
HIDDEN = 4 * WIDTH

# Chains.
Linear(10, 256) @ Linear(256, 784)
Linear(10, 256) @ ReLU() @ Linear(256, 784)
Linear(10, 256) @ (ReLU() @ (Tanh() @ Linear(256, 784)))
Linear(10, 256) @ Bias(256) @ Gain(256) @ RMSNorm() @ LayerNorm() @ Linear(256, 784)
Linear(10, 256) @ Dropout(0.1) @ (2 * Linear(256, 784)) / 3
Linear(10, WIDTH) @ Linear(64, HIDDEN) @ Linear(256, 3)
MLP(10, 64, width=32) @ Affine(64, 784)
Linear(8, 4, codomain=Linf) @ Linear(4, 3)
Linear(8, 4, domain=L2, codomain=L2) @ Linear(4, 3, domain=L2, codomain=L2)
Linear(fan_in=4, fan_out=8) @ Linear(4, 3)
Linear(8, 4) @ Embed(4, 100)
Linear(8, 4) @ LowRank(4, 7, rank=2) @ SwiGLU(7, 7, width=3) @ GEGLU(7, 5, width=3)
Linear(8, 4) @ LSTM(4, 6) @ GRU(6, 3)
Linear(8, 9) @ GPT(9, d_embed=8, num_heads=2, num_blocks=1)
ResMLP(3, 8, width=4, num_blocks=1) @ MixtureOfExperts(8, num_experts=4, k=2, width=8)
Linear(8, 4).tare(2.0) @ Linear(4, 3)
Linear(4, 4) ** 3
(Linear(4, 3) @ Linear(3, 4)) ** 2
Composition(Linear(4, 3)) @ Linear(3, 2)
Linear(10, 256) @ Linear(128, 784)  # E: 256 is not 128
Linear(10, 256) @ ReLU() @ Linear(255, 784)  # E: 256 is not 255
Linear(10, 256) @ (ReLU() @ (Tanh() @ Linear(254, 784)))  # E: 256 is not 254
(Linear(10, 256) @ ReLU()) @ Linear(255, 784)  # E: 256 is not 255
Linear(10, 256) @ Bias(255)  # E: 256 is not 255
Gain(4) @ Bias(3)  # E: 4 is not 3
Linear(10, 256) @ Dropout(0.1) @ (2 * Linear(255, 784))  # E: 256 is not 255
Linear(10, WIDTH) @ Linear(65, HIDDEN)  # E: 64 is not 65
Linear(10, HIDDEN) @ Linear(WIDTH, 3)  # E: 256 is not 64
Linear(10, HIDDEN - 1) @ Linear(HIDDEN, 3)  # E: 255 is not 256
Linear(10, HIDDEN // 2) @ Linear(HIDDEN, 3)  # E: 128 is not 256
MLP(10, 64, width=32) @ Affine(32, 784)  # E: 64 is not 32
Linear(8, 4, codomain=Linf) @ Linear(5, 3)  # E: 4 is not 5
Linear(8, 4, domain=L2, codomain=L2) @ Linear(5, 3, domain=L2, codomain=L2)  # E: 4 is not 5
Linear(fan_in=4, fan_out=8) @ Linear(8, 3)  # E: 4 is not 8
Linear(8, 4) @ Embed(5, 100)  # E: 4 is not 5
Linear(8, 4) @ Embed(100, 4)  # E: an embedding has its width first
Linear(8, 4) @ LowRank(5, 7, rank=2)  # E: 4 is not 5
SwiGLU(4, 3, width=8) @ GEGLU(8, 5, width=3)  # E: 3 is not 8
Linear(8, 4) @ LSTM(5, 6)  # E: 4 is not 5
GRU(6, 3) @ LSTM(6, 3)  # E: 3 is not 6
Linear(8, 8) @ GPT(9, d_embed=8, num_heads=2, num_blocks=1)  # E: a GPT gives logits
Linear(8, 4) @ ResMLP(8, 4, width=4, num_blocks=1)  # E: 4 is not 8
MixtureOfExperts(8, num_experts=4, k=2, width=4) @ Linear(4, 3)  # E: 8 is not 4
Linear(8, 4).tare(2.0) @ Linear(5, 3)  # E: 4 is not 5
BatchNorm(4) @ Linear(5, 3)  # E: 4 is not 5
Linear(4, 3) ** 2  # E: 3 is not 4
(Linear(4, 3) @ Linear(3, 5)) ** 2  # E: 5 is not 4
Composition(Linear(4, 3)) @ Linear(4, 2)  # E: 3 is not 4

# Names that are bound once.
body = RMSNorm() @ Linear(256, 784)
head = Linear(10, 256) @ ReLU()
narrow = Linear(10, 255)
same = head
head @ body
same @ body
narrow @ body  # E: 255 is not 256
same @ narrow  # E: 256 is not 10
head @ (2 * narrow)  # E: 256 is not 10

# Sums and residuals.
Linear(4, 3) + Linear(4, 3)
Identity() + Linear(4, 4)
0.5 * Identity() + 0.5 * (Linear(4, 8) @ ReLU() @ Linear(8, 4))
(Identity() + Linear(4, 4)) @ Linear(4, 3)
Linear(4, 3) + Linear(4, 9) @ ReLU() @ Linear(9, 3)
Embed(8, 9) + Embed(8, 16) @ Enumerate()
Identity() + FeedForward(8)
ReLU() + Tanh()
Linear(4, 3) + Linear(5, 3)  # E: 4 is not 5
Linear(4, 3) + Linear(4, 5)  # E: 3 is not 5
Identity() + Linear(4, 3)  # E: a residual keeps the width
Linear(4, 3) + Identity()  # E: a residual keeps the width
0.5 * Identity() + 0.5 * (Linear(4, 8) @ ReLU() @ Linear(8, 3))  # E: a residual keeps the width
(Identity() + Linear(4, 4)) @ Linear(3, 3)  # E: 4 is not 3
Linear(4, 3) + Linear(4, 9) @ ReLU() @ Linear(9, 2)  # E: 3 is not 2
Embed(8, 9) + Embed(7, 16) @ Enumerate()  # E: 8 is not 7
Linear(4, 8) @ (Identity() + FeedForward(7))  # E: 8 is not 7
Linear(3, 5) @ (Linear(4, 3) + Linear(4, 3))  # E: 5 is not 4

# Tuples.
(Linear(4, 3), Linear(5, 3)) @ Linear(3, 2)
Add() @ (Linear(4, 3), Linear(4, 3))
Concat() @ (Linear(4, 3), Linear(5, 3))
Linear(2, 9) @ Concat() @ (Linear(4, 3), Linear(5, 3))
Linear(2, 9) @ Concat(4, 5) @ (Linear(4, 3), Linear(5, 3))
Concatenation(Linear(4, 3), Linear(5, 3))
Parallel(Linear(4, 3), Linear(5, 2)) @ (Linear(3, 8), Linear(2, 8))
Gate() @ (Linear(4, 3), Tanh() @ Linear(4, 3))
(Linear(4, 3), Linear(5, 3)) @ Linear(4, 2)  # E: 3 is not 4
(Linear(4, 3), Linear(5, 4)) @ Linear(3, 2)  # E: 4 is not 3
Add() @ (Linear(4, 3), Linear(5, 3))  # E: 4 is not 5
Add() @ (Linear(4, 3), Identity())  # E: 4 is not 3
Concat() @ (Linear(4, 3), Linear(5, 4))  # E: 3 is not 4
Linear(2, 8) @ Concat() @ (Linear(4, 3), Linear(5, 3))  # E: 8 is not 9
Concat(4, 4) @ (Linear(4, 3), Linear(5, 3))  # E: 4 is not 5
Concatenation(Linear(4, 3), Linear(5, 4))  # E: 3 is not 4
Parallel(Linear(4, 3), Linear(5, 2)) @ (Linear(3, 8), Linear(3, 8))  # E: 2 is not 3
Parallel(Linear(4, 3), Linear(5, 2)) @ (Linear(3, 8), Linear(2, 7))  # E: 8 is not 7

# Heads.
SplitIntoHeads(2) @ Linear(8, 8)
Linear(8, 8) @ MergeHeads() @ SplitIntoHeads(2) @ Linear(8, 4)
Linear(3, 8) @ Attention(8, 2) @ RMSNorm() @ Embed(8, 100)
SplitIntoHeads(3) @ Linear(8, 8)  # E: 8 is no multiple of 3
SplitIntoHeads(3) @ RMSNorm() @ Linear(8, 8)  # E: 8 is no multiple of 3
SplitIntoHeads(16) @ Linear(8, 8)  # E: 8 is no multiple of 16
Linear(3, 8) @ Attention(16, 2)  # E: 8 is not 16
Attention(8, 2) @ Embed(16, 100)  # E: 8 is not 16
FeedForward(8) @ Attention(16, 2)  # E: 8 is not 16

# Images.
Conv2D(8, 4) @ ReLU() @ Conv2D(4, 3, 5)
Conv1D(8, 4) @ Conv1D(4, 3)
Linear(10, 8) @ AvgPool() @ ChannelBias(8) @ Conv2D(8, 3)
Conv2D(3, 8) @ AvgPool2D(2) @ ChannelRMSNorm() @ ConvTranspose2D(8, 3)
Conv2D(3, 8) @ UNet(8, 3, widths=(4, 8))
Linear(10, 72) @ Flatten() @ Conv2D(8, 3)
Identity() + Conv2D(4, 4)
Conv2D(8, 4) @ Conv2D(3, 4)  # E: 4 is not 3
Conv2D(8, 4) @ ReLU() @ Conv2D(5, 3)  # E: 4 is not 5
Conv1D(8, 4) @ Conv1D(3, 4)  # E: 4 is not 3
Linear(10, 8) @ AvgPool() @ Conv2D(4, 3)  # E: 8 is not 4
Conv2D(3, 8) @ AvgPool2D(2) @ ConvTranspose2D(4, 3)  # E: 8 is not 4
ChannelBias(8) @ Conv2D(4, 3)  # E: 8 is not 4
Conv2D(3, 8) @ UNet(4, 3, widths=(4, 8))  # E: 8 is not 4
Identity() + Conv2D(4, 3)  # E: a residual keeps the channels
Conv2D(4, 3) ** 2  # E: 3 is not 4


# Functions that are generic in a width. Inside of them names stand for any number.
def narrowing(n: int) -> Module[RMS, RMS]:
    return Linear(n, 4 * n) @ GELU() @ Linear(4 * n, n)


def residual(block: Module[RMS, RMS], depth: int) -> Module[RMS, RMS]:
    return (1 - 1 / depth) * Identity() + (1 / depth) * block


def between(n: int, m: int) -> Module[RMS, RMS]:
    return Linear(n, m) @ Linear(m, 2 * n - n)


def tokens(d: int, vocab: int) -> Module[OneHot, RMS]:
    hidden = 3 * d
    up = Linear(hidden, d)
    return Linear(d, hidden) @ up @ Embed(d, vocab)


narrowing(8) @ Linear(8, 3)
Linear(8, 4) @ narrowing(4) @ narrowing(4)
between(8, 4) @ Linear(8, 3)
between(m=8, n=4) @ Linear(4, 3)
residual(Linear(8, 8), 4) @ Linear(8, 3)
residual(narrowing(8), 4) @ narrowing(n=8)
Linear(3, 8) @ tokens(8, 100)
narrowing(8) @ Linear(9, 3)  # E: 8 is not 9
Linear(8, 5) @ narrowing(4)  # E: 5 is not 4
narrowing(8) @ narrowing(9)  # E: 8 is not 9
between(8, 4) @ Linear(4, 3)  # E: 8 is not 4
between(m=8, n=4) @ Linear(8, 3)  # E: 4 is not 8
residual(Linear(8, 8), 4) @ Linear(7, 3)  # E: 8 is not 7
residual(narrowing(8), 4) @ narrowing(n=9)  # E: 8 is not 9
Linear(3, 7) @ tokens(8, 100)  # E: 7 is not 8
narrowing(WIDTH) @ Linear(HIDDEN, 3)  # E: 64 is not 256
