"""Atoms: modules that carry a weight, with a mass and a norm on it.

Each docstring states the atom's sensitivity and radius, for a weight of norm at most 1: the radius
bounds the norm of the output by the norm R of the input.
"""

from modula.atoms.bias import Bias, ChannelBias, ChannelGain, Gain
from modula.atoms.conv import Conv1D, Conv2D, Conv3D
from modula.atoms.conv_transpose import ConvTranspose1D, ConvTranspose2D, ConvTranspose3D
from modula.atoms.embed import Embed
from modula.atoms.experts import Experts
from modula.atoms.heads import HeadLinear
from modula.atoms.linear import Linear
from modula.atoms.positions import ClassToken, PositionTable
from modula.atoms.recurrent import GRUSteps, LSTMSteps
from modula.atoms.scalar import Scalar
from modula.atoms.stacked import StackedBias, StackedLinear
from modula.atoms.tied import TiedHead, tie

__all__ = [
    "Bias",
    "ChannelBias",
    "ChannelGain",
    "ClassToken",
    "Conv1D",
    "Conv2D",
    "Conv3D",
    "ConvTranspose1D",
    "ConvTranspose2D",
    "ConvTranspose3D",
    "Embed",
    "Experts",
    "GRUSteps",
    "Gain",
    "HeadLinear",
    "LSTMSteps",
    "Linear",
    "PositionTable",
    "Scalar",
    "StackedBias",
    "StackedLinear",
    "TiedHead",
    "tie",
]
