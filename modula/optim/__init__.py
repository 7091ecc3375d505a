"""Steepest descent under the modular norm, as a `torch.optim.Optimizer`."""

from modula.errors import StateMismatchError
from modula.optim.steepest_descent import SteepestDescent

__all__ = ["StateMismatchError", "SteepestDescent"]
