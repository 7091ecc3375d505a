"""Every exception of the library. Each is shown as `modula.X`, whatever file raises it."""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "CompositionError",
    "LayoutError",
    "MismatchError",
    "NormPairError",
    "ParameterError",
    "StateMismatchError",
]


class CheckpointError(Exception):
    """A checkpoint that cannot be written, read, or used with this model."""


class CompositionError(TypeError):
    """Modules that do not fit together: their types differ, or their widths."""


class LayoutError(ValueError):
    """Two lists of tensors that do not belong to the same model."""


class MismatchError(Exception):
    """Two spaces that cannot be the same. Caught where modules are composed."""


class NormPairError(TypeError):
    """A pair of norm types between which no linear map has a duality map in closed form."""


class ParameterError(ValueError):
    """A parameter that a network would not train, or would train in a way that nobody asked for."""


class StateMismatchError(ValueError):
    """A state dict that belongs to another model or another kind of optimizer."""


for _error in __all__:
    globals()[_error].__module__ = "modula"
