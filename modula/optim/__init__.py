"""Steepest descent under the modular norm, as a `torch.optim.Optimizer`, and its rules."""

from modula.errors import StateMismatchError, StepError
from modula.optim.rules import (
    Adam,
    AsDirection,
    Average,
    Direction,
    Dualized,
    Momentum,
    Normalized,
    Rule,
    Stateful,
    Step,
)
from modula.optim.steepest_descent import SteepestDescent

__all__ = [
    "Adam",
    "AsDirection",
    "Average",
    "Direction",
    "Dualized",
    "Momentum",
    "Normalized",
    "Rule",
    "StateMismatchError",
    "Stateful",
    "SteepestDescent",
    "Step",
    "StepError",
]
