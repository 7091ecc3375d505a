"""`Inputs`: the arguments of one call of a model, by which it is traced and calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modula.errors import LiftError


class Inputs:
    """Example inputs of a model, in full.

    `lift` takes one for a model some of whose keyword arguments are also options of `lift`, and
    several for a model that needs several calls to use all its weights.

    Args:
        args, kwargs: of the model's call.

    Example:
        >>> import torch, modula
        >>> from modula.lift import Inputs
        >>> class Probing(torch.nn.Linear):
        ...     def forward(self, x, *, probes):
        ...         return super().forward(x)[:probes]
        >>> inputs = Inputs(torch.randn(5, 4), probes=2)
        >>> len(modula.lift(Probing(4, 3), inputs).weights)
        2
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.args = args
        self.kwargs = kwargs


def examples_of(args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[Inputs, ...]:
    """Return the example inputs that the arguments of `lift` are: one call's, or several `Inputs`.

    Raises:
        LiftError: other arguments stand beside an `Inputs`.
    """
    given = [one for one in args if isinstance(one, Inputs)]
    if not given:
        return (Inputs(*args, **kwargs),)
    if len(given) < len(args) or kwargs:
        raise LiftError(
            "Inputs takes all arguments of the model's call: lift(model, Inputs(*args, **kwargs)), "
            "or lift(model, Inputs(…), Inputs(…)) for several calls"
        )
    return tuple(given)
