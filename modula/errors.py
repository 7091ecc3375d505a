"""Every exception of the library. Tracebacks show each as `modula.X`."""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "CompositionError",
    "LayoutError",
    "LiftError",
    "MismatchError",
    "NormPairError",
    "ParameterError",
    "StateMismatchError",
    "StepError",
]


class CheckpointError(Exception):
    """A checkpoint that cannot be written, read, or loaded into this model."""


class CompositionError(TypeError):
    """Modules that cannot be composed, since their types or their widths differ."""


class LayoutError(ValueError):
    """A vector with the names or shapes of another model."""


class LiftError(ValueError):
    """A torch module whose weights cannot all be given a norm from the run that was recorded."""


class MismatchError(Exception):
    """Two spaces that cannot be the same. Compositions catch it and raise a `CompositionError`."""


class NormPairError(TypeError):
    """A pair of norm types between which no linear map has a duality map in closed form."""


class ParameterError(ValueError):
    """A parameter that requires a gradient and for which there is no duality map."""


class StateMismatchError(ValueError):
    """A state dict of another model or of another kind of optimizer."""


class StepError(RuntimeError):
    """A step of the optimizer that another process could not take, so that none has taken it."""


for _error in __all__:
    globals()[_error].__module__ = "modula"
