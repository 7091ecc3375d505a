"""Rules of `SteepestDescent`: how gradients become an update, in parts that are combined."""

from modula.optim.rules.adam import Adam
from modula.optim.rules.base import Average, Direction, Rule, State, Stateful, Step
from modula.optim.rules.dualized import Dualized
from modula.optim.rules.momentum import Momentum
from modula.optim.rules.normalized import AsDirection, Normalized

__all__ = [
    "Adam",
    "AsDirection",
    "Average",
    "Direction",
    "Dualized",
    "Momentum",
    "Normalized",
    "Rule",
    "State",
    "Stateful",
    "Step",
]
