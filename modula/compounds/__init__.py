"""Compounds: networks composed of atoms and bonds."""

from modula.compounds.attention import Attention, ComposedAttention
from modula.compounds.cnn import ResCNN
from modula.compounds.generation import KeyValueCache, generate
from modula.compounds.gpt import GPT
from modula.compounds.mlp import GEGLU, MLP, GatedMLP, ResMLP, SwiGLU
from modula.compounds.residual import residual
from modula.compounds.transformer import FeedForward, TransformerBlock

__all__ = [
    "GEGLU",
    "GPT",
    "MLP",
    "Attention",
    "ComposedAttention",
    "FeedForward",
    "GatedMLP",
    "KeyValueCache",
    "ResCNN",
    "ResMLP",
    "SwiGLU",
    "TransformerBlock",
    "generate",
    "residual",
]
