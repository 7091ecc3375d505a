"""Steepest descent under the modular norm, as a `torch.optim.Optimizer`."""

from modula.optim.state_checks import StateMismatchError
from modula.optim.steepest_descent import SteepestDescent

__all__ = ["StateMismatchError", "SteepestDescent"]
