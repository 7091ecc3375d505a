"""Steepest descent under the modular norm, as a `torch.optim.Optimizer`, and its rules."""

from modula.errors import StateMismatchError, StepError
from modula.optim.constraints import Ball, Constraint, Projected, Sphere
from modula.optim.decay import CautiousDecay, Decay
from modula.optim.rules import (
    Adam,
    AsDirection,
    Average,
    Buffer,
    Cautious,
    Direction,
    Dualized,
    KeepFrobenius,
    Momentum,
    Normalized,
    Rescaling,
    Rule,
    SecondMoments,
    Stateful,
    Steepest,
    Step,
    ToNorm,
    Whitened,
)
from modula.optim.steepest_descent import SteepestDescent

__all__ = [
    "Adam",
    "AsDirection",
    "Average",
    "Ball",
    "Buffer",
    "Cautious",
    "CautiousDecay",
    "Constraint",
    "Decay",
    "Direction",
    "Dualized",
    "KeepFrobenius",
    "Momentum",
    "Normalized",
    "Projected",
    "Rescaling",
    "Rule",
    "SecondMoments",
    "Sphere",
    "StateMismatchError",
    "Stateful",
    "Steepest",
    "SteepestDescent",
    "Step",
    "StepError",
    "ToNorm",
    "Whitened",
]
