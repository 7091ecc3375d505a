"""Attention: SplitIntoHeads and MergeHeads around the bonds on heads, in their order."""

from typing import assert_type

from modula import (
    L1,
    RMS,
    ApplyAttentionScores,
    ApplyMask,
    AttentionQK,
    AvgPool,
    CausalMask,
    Conv2D,
    Embed,
    FunctionalAttention,
    HeadLinear,
    HeadRMS,
    Identity,
    Linear,
    Linf,
    Mask,
    MaskedFunctionalAttention,
    MergeHeads,
    Module,
    OneHot,
    PaddingMask,
    QKNorm,
    ReLU,
    RMSNorm,
    Rope,
    Sinusoid,
    Softmax,
    SplitIntoHeads,
    SplitQKV,
    Ungroup,
)


def head() -> Module[RMS, HeadRMS]:
    return SplitIntoHeads(2) @ Linear(8, 8)


def scores() -> Module[RMS, L1]:
    return Softmax() @ CausalMask() @ AttentionQK() @ Rope(4) @ (head(), head())


assert_type(SplitIntoHeads(2), SplitIntoHeads)
assert_type(head(), Module[RMS, HeadRMS])
assert_type(SplitIntoHeads(2) @ Embed(8, 9), Module[OneHot, HeadRMS])
assert_type(MergeHeads() @ SplitIntoHeads(2), Module[RMS, RMS])
assert_type(Linear(8, 8) @ MergeHeads() @ head(), Module[RMS, RMS])
assert_type(MergeHeads() @ ReLU() @ head(), Module[RMS, RMS])
assert_type((head(), head()) @ Embed(8, 9), Module[OneHot, tuple[HeadRMS, HeadRMS]])
assert_type((head(), head(), head()) @ RMSNorm(), Module[RMS, tuple[HeadRMS, HeadRMS, HeadRMS]])

assert_type(Rope(4) @ (head(), head()), Module[RMS, tuple[HeadRMS, HeadRMS]])
assert_type(Rope(4) ** 2, Module[tuple[HeadRMS, HeadRMS], tuple[HeadRMS, HeadRMS]])
assert_type(AttentionQK() @ (head(), head()), Module[RMS, Linf])
assert_type(AttentionQK() @ Rope(4) @ (head(), head()), Module[RMS, Linf])
assert_type(AttentionQK() @ Rope(4), Module[tuple[HeadRMS, HeadRMS], Linf])
assert_type(CausalMask() @ AttentionQK(), Module[tuple[HeadRMS, HeadRMS], Linf])
assert_type(CausalMask() ** 2, Module[Linf, Linf])
assert_type(Softmax() @ CausalMask(), Module[Linf, L1])
assert_type(Softmax(scale=2.0) @ AttentionQK(), Module[tuple[HeadRMS, HeadRMS], L1])
assert_type(Softmax() @ Identity() @ AttentionQK(), Module[tuple[HeadRMS, HeadRMS], L1])
assert_type(scores(), Module[RMS, L1])
assert_type(ApplyAttentionScores() @ (head(), scores()), Module[RMS, HeadRMS])
assert_type(MergeHeads() @ ApplyAttentionScores() @ (head(), scores()), Module[RMS, RMS])
assert_type(
    Linear(8, 8) @ MergeHeads() @ ApplyAttentionScores() @ (head(), scores()) @ Embed(8, 9),
    Module[OneHot, RMS],
)

assert_type(FunctionalAttention() @ (head(), head(), head()), Module[RMS, HeadRMS])
assert_type(
    FunctionalAttention(causal=False, scale=0.5) @ (head(), head(), head()), Module[RMS, HeadRMS]
)
assert_type(
    Ungroup() @ (Rope(4) @ (head(), head()), head()), Module[RMS, tuple[HeadRMS, HeadRMS, HeadRMS]]
)
assert_type(
    FunctionalAttention() @ Ungroup() @ (Rope(4) @ (head(), head()), head()), Module[RMS, HeadRMS]
)
assert_type(FunctionalAttention() @ Ungroup() @ ((head(), head()), head()), Module[RMS, HeadRMS])
assert_type(
    MergeHeads() @ FunctionalAttention() @ (head(), head(), head()) @ Embed(8, 9),
    Module[OneHot, RMS],
)

# A matrix a head, fused queries, keys and values, positions.
assert_type(HeadLinear(2, 4, 8), HeadLinear)
assert_type(HeadLinear(2, 4, 8) @ Embed(8, 9), Module[OneHot, HeadRMS])
assert_type(MergeHeads() @ HeadLinear(2, 4, 8), Module[RMS, RMS])
assert_type(
    SplitQKV(2) @ HeadLinear(6, 4, 8, mass=3.0), Module[RMS, tuple[HeadRMS, HeadRMS, HeadRMS]]
)
assert_type(FunctionalAttention() @ SplitQKV(2, 1) @ HeadLinear(4, 4, 8), Module[RMS, HeadRMS])
assert_type(QKNorm() @ (head(), head()), Module[RMS, tuple[HeadRMS, HeadRMS]])
assert_type(Rope(4) @ QKNorm(), Module[tuple[HeadRMS, HeadRMS], tuple[HeadRMS, HeadRMS]])
assert_type(AttentionQK() @ QKNorm() @ (head(), HeadLinear(2, 4, 8)), Module[RMS, Linf])
assert_type(Sinusoid(8), Sinusoid)
assert_type(Embed(8, 9) + Sinusoid(8), Module[OneHot, RMS])
assert_type(0.5 * Embed(8, 9) + 0.5 * Sinusoid(8), Module[OneHot, RMS])

# Masks are inputs without a norm.
assert_type(PaddingMask(), PaddingMask)
assert_type(PaddingMask() ** 2, Module[Mask, Mask])
assert_type(ApplyMask() @ Identity(), Module[tuple[Linf, Mask], Linf])
assert_type(Softmax() @ ApplyMask(), Module[tuple[Linf, Mask], L1])
assert_type(
    MergeHeads() @ MaskedFunctionalAttention(),
    Module[tuple[tuple[HeadRMS, HeadRMS, HeadRMS], Mask], RMS],
)
SplitQKV(2) @ Linear(6, 8)  # E: features are not heads
SplitQKV(2) @ SplitQKV(2)  # E: a tuple is not heads
FunctionalAttention() @ HeadLinear(6, 4, 8)  # E: insert SplitQKV
MaskedFunctionalAttention() @ SplitQKV(2)  # E: the mask is missing
FunctionalAttention() @ MaskedFunctionalAttention()  # E: heads are not a triple of them
HeadLinear(2, 4, 8) @ HeadLinear(2, 4, 8)  # E: heads are not features
HeadLinear(2, 4, 8) + Linear(8, 8)  # E: heads are not features
HeadLinear(2, 4, 8) @ SplitIntoHeads(2)  # E: heads are not features
HeadLinear(2, 4, 8, domain=RMS)  # E: the spaces are those of the class
HeadLinear("2", 4, 8)  # E: how many heads is a number
QKNorm() @ head()  # E: a query and a key
QKNorm() @ (Linear(8, 8), Linear(8, 8))  # E: features are no heads
QKNorm() @ AttentionQK()  # E: normalisation comes before the scores
Sinusoid(8) @ Linear(8, 8)  # E: positions are those of ids
Sinusoid(8) + Linear(8, 8)  # E: ids are not features
Embed(8, 9) @ Sinusoid(8)  # E: positions are vectors already
PaddingMask() @ Embed(8, 9)  # E: a mask is no vector
Embed(8, 9) @ PaddingMask()  # E: a mask is no id
Linear(8, 8) @ PaddingMask()  # E: a mask is no vector
ReLU() @ PaddingMask()  # E: a mask has no entries
CausalMask() @ PaddingMask()  # E: a mask is no score
ApplyMask() @ AttentionQK()  # E: the mask is missing
ApplyMask() @ ApplyMask()  # E: scores alone are no pair
CausalMask(window="2")  # E: a window is a number

# Only SplitIntoHeads and HeadLinear give heads, and only MergeHeads takes them back to features.
MergeHeads() @ Linear(8, 8)  # E: insert SplitIntoHeads(num_heads)
Linear(8, 8) @ SplitIntoHeads(2)  # E: insert MergeHeads()
Linear(8, 8) @ head()  # E: insert MergeHeads()
SplitIntoHeads(2) @ SplitIntoHeads(2)  # E: heads do not split again
MergeHeads() @ MergeHeads()  # E: what is merged has no heads
SplitIntoHeads(2) @ Conv2D(8, 3)  # E: images have no heads
SplitIntoHeads(2) ** 2  # E: features are not heads
head() + Linear(8, 8)  # E: heads are not features
RMSNorm() @ head()  # E: RMSNorm takes features
AvgPool() @ head()  # E: AvgPool takes images
Rope(4) @ head()  # E: Rope takes a pair
Rope(4) @ (Linear(8, 8), Linear(8, 8))  # E: Rope takes heads
Rope(4) @ (head(), head(), head())  # E: Rope takes a pair
Rope(4) @ ((head(), head()), head())  # E: Rope takes a pair of heads

# The order of the bonds: scores of a pair, mask, softmax, application to the values.
AttentionQK() @ head()  # E: a query and a key
AttentionQK() @ (head(), Linear(8, 8))  # E: the key is no head
AttentionQK() @ (head(), head(), head())  # E: a query and a key
AttentionQK() @ CausalMask()  # E: the mask comes after the scores
AttentionQK() @ Softmax()  # E: the softmax comes after the scores
CausalMask() @ Softmax()  # E: the mask comes before the softmax
CausalMask() @ Rope(4)  # E: there are no scores yet
Rope(4) @ AttentionQK()  # E: the rotation comes before the scores
Softmax() @ Softmax()  # E: probabilities are no scores
Softmax() @ head()  # E: heads are no scores
Softmax() @ Linear(8, 8)  # E: features are no scores; Linear(…, codomain=Linf) gives some
ApplyAttentionScores() @ (scores(), head())  # E: the value comes first
ApplyAttentionScores() @ (  # E: the softmax is missing
    head(),
    CausalMask() @ AttentionQK() @ (head(), head()),
)
ApplyAttentionScores() @ (Linear(8, 8), scores())  # E: the value is no head
ApplyAttentionScores() @ scores()  # E: the value is missing
FunctionalAttention() @ (head(), head())  # E: the value is missing
FunctionalAttention() @ (Rope(4) @ (head(), head()), head())  # E: insert Ungroup()
FunctionalAttention() @ Rope(4) @ (head(), head())  # E: the value is missing
FunctionalAttention() @ (Linear(8, 8), Linear(8, 8), Linear(8, 8))  # E: features are no heads
FunctionalAttention(0.5) @ (head(), head())  # E: the value is missing
Ungroup() @ (head(), head(), head())  # E: nothing to ungroup
Ungroup() @ (head(), Rope(4) @ (head(), head()))  # E: the pair comes first
Linear(8, 8) @ FunctionalAttention() @ (head(), head(), head())  # E: insert MergeHeads()
SplitIntoHeads("2") @ Linear("8", 8)  # E: how many heads is a number
SplitIntoHeads(3) @ Linear(8, 8)  # E run: 8 does not split into 3
Rope(6) @ (head(), head())  # E run: a head of 6 is not one of 4
