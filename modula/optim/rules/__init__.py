"""Rules of `SteepestDescent`: how gradients become an update, in parts that are combined."""

from modula.optim.rules.adam import Adam
from modula.optim.rules.base import Average, Buffer, Direction, Rule, State, Stateful, Step
from modula.optim.rules.cautious import Cautious
from modula.optim.rules.dualized import Dualized
from modula.optim.rules.momentum import Momentum
from modula.optim.rules.normalized import AsDirection, Normalized
from modula.optim.rules.rescaling import KeepFrobenius, Rescaling, ToNorm
from modula.optim.rules.second_moments import SecondMoments
from modula.optim.rules.steepest import Steepest
from modula.optim.rules.whitened import Whitened

__all__ = [
    "Adam",
    "AsDirection",
    "Average",
    "Buffer",
    "Cautious",
    "Direction",
    "Dualized",
    "KeepFrobenius",
    "Momentum",
    "Normalized",
    "Rescaling",
    "Rule",
    "SecondMoments",
    "State",
    "Stateful",
    "Steepest",
    "Step",
    "ToNorm",
    "Whitened",
]
