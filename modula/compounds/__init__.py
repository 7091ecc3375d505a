"""Compounds: networks composed of atoms and bonds."""

from modula.compounds.attention import Attention, ComposedAttention
from modula.compounds.cnn import ResCNN
from modula.compounds.gpt import GPT
from modula.compounds.mlp import GEGLU, MLP, GatedMLP, ResMLP, SwiGLU
from modula.compounds.residual import residual

__all__ = [
    "GEGLU",
    "GPT",
    "MLP",
    "Attention",
    "ComposedAttention",
    "GatedMLP",
    "ResCNN",
    "ResMLP",
    "SwiGLU",
    "residual",
]
