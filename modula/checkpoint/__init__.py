"""Checkpoints: weights, the optimizer's state and whatever else a run needs to go on, written whole
or not at all.
"""

from modula.checkpoint.saving import load, save
from modula.errors import CheckpointError

__all__ = ["CheckpointError", "load", "save"]
