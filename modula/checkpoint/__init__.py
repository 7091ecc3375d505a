"""Checkpoints: all that a run needs to go on, written completely or not at all."""

from modula.checkpoint.saving import load, save
from modula.errors import CheckpointError

__all__ = ["CheckpointError", "load", "save"]
