"""Compounds: networks composed of atoms and bonds."""

from modula.compounds.attention import Attention, ComposedAttention
from modula.compounds.cnn import ResCNN
from modula.compounds.gpt import GPT
from modula.compounds.mlp import MLP, ResMLP
from modula.compounds.residual import residual

__all__ = ["GPT", "MLP", "Attention", "ComposedAttention", "ResCNN", "ResMLP", "residual"]
