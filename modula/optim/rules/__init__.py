"""Rules of `SteepestDescent`: how gradients become an update, in parts that are combined."""

from modula.optim.rules.adam import Adam
from modula.optim.rules.base import Average, Direction, Rule, State, Stateful, Step
from modula.optim.rules.cautious import Cautious
from modula.optim.rules.dualized import Dualized
from modula.optim.rules.momentum import Momentum
from modula.optim.rules.normalized import AsDirection, Normalized
from modula.optim.rules.second_moments import SecondMoments
from modula.optim.rules.steepest import Steepest

__all__ = [
    "Adam",
    "AsDirection",
    "Average",
    "Cautious",
    "Direction",
    "Dualized",
    "Momentum",
    "Normalized",
    "Rule",
    "SecondMoments",
    "State",
    "Stateful",
    "Steepest",
    "Step",
]
