"""Atoms: the modules that carry weights."""

from modula.atoms.bias import Bias, Gain
from modula.atoms.conv import Conv2D
from modula.atoms.embed import Embed
from modula.atoms.linear import Linear

__all__ = ["Bias", "Conv2D", "Embed", "Gain", "Linear"]
