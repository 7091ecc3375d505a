"""Compounds: networks composed of atoms and bonds."""

from modula.compounds.affine import Affine
from modula.compounds.attention import (
    Attention,
    ComposedAttention,
    CrossAttention,
    MaskedAttention,
)
from modula.compounds.cnn import ResCNN
from modula.compounds.generation import KeyValueCache, generate
from modula.compounds.gpt import GPT
from modula.compounds.llama import Llama
from modula.compounds.low_rank import LoRA, LowRank
from modula.compounds.mlp import GEGLU, MLP, GatedMLP, ResMLP, SwiGLU
from modula.compounds.moe import MixtureOfExperts, routing
from modula.compounds.recurrent import GRU, LSTM
from modula.compounds.residual import residual
from modula.compounds.resnet import ResNet
from modula.compounds.transformer import FeedForward, MaskedTransformerBlock, TransformerBlock
from modula.compounds.unet import UNet
from modula.compounds.vit import ViT

__all__ = [
    "GEGLU",
    "GPT",
    "GRU",
    "LSTM",
    "MLP",
    "Affine",
    "Attention",
    "ComposedAttention",
    "CrossAttention",
    "FeedForward",
    "GatedMLP",
    "KeyValueCache",
    "Llama",
    "LoRA",
    "LowRank",
    "MaskedAttention",
    "MaskedTransformerBlock",
    "MixtureOfExperts",
    "ResCNN",
    "ResMLP",
    "ResNet",
    "SwiGLU",
    "TransformerBlock",
    "UNet",
    "ViT",
    "generate",
    "residual",
    "routing",
]
