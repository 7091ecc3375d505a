"""The operations of attention: heads, positions, masks, scores, one fused call, and their caches.

Scores are scaled by 1/d_head and not by 1/√d_head, so that queries and keys of RMS 1 give scores of
magnitude at most 1 at every width (Large et al. 2024, arXiv:2405.14813, appendix B.3; Yang et al.
2022, arXiv:2203.03466).
"""

from modula.bonds.attention.fused import FunctionalAttention, MaskedFunctionalAttention
from modula.bonds.attention.heads import MergeHeads, QKNorm, SplitIntoHeads, SplitQKV, Ungroup
from modula.bonds.attention.masks import ApplyMask, CausalMask, PaddingMask
from modula.bonds.attention.positions import ROPE_BASE, Rope, Sinusoid
from modula.bonds.attention.scores import ApplyAttentionScores, AttentionQK, Softmax

__all__ = [
    "ROPE_BASE",
    "ApplyAttentionScores",
    "ApplyMask",
    "AttentionQK",
    "CausalMask",
    "FunctionalAttention",
    "MaskedFunctionalAttention",
    "MergeHeads",
    "PaddingMask",
    "QKNorm",
    "Rope",
    "Sinusoid",
    "Softmax",
    "SplitIntoHeads",
    "SplitQKV",
    "Ungroup",
]
