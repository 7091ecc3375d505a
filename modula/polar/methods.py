"""The methods by name."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from modula.polar.inverse_root import InverseRoot
from modula.polar.method import Accuracy, Method
from modula.polar.newton_schulz import NewtonSchulz
from modula.polar.polar_express import PolarExpress
from modula.polar.sketch import Sketch
from modula.polar.svd import SVD

MethodName: TypeAlias = Literal["polar_express", "newton_schulz", "inverse_root", "sketch", "svd"]
"""The names of the methods, each with its default settings."""

MethodLike: TypeAlias = MethodName | Method
"""A method, or its name."""

DEFAULT: Method = PolarExpress()
METHODS: dict[str, Method] = {
    "polar_express": DEFAULT,
    "newton_schulz": NewtonSchulz(),
    "inverse_root": InverseRoot(),
    "sketch": Sketch(),
    "svd": SVD(),
}


def resolve(
    method: MethodLike | None, steps: int | None = None, accuracy: Accuracy | None = None
) -> Method:
    """Return the method of a name, with the given number of steps and the given accuracy.

    Raises:
        ValueError: `method` is neither a name nor a method, or the method cannot take `steps` or
            `accuracy`.
    """
    if method is None:
        found = DEFAULT
    elif isinstance(method, Method):
        found = method
    elif method in METHODS:
        found = METHODS[method]
    else:
        names = ", ".join(f'"{name}"' for name in get_args(MethodName))
        raise ValueError(
            f"no method {method!r} of orthogonalisation: pick one of {names}, or pass a "
            "modula.polar.Method"
        )
    found = found if steps is None else found.with_steps(steps)
    return found if accuracy is None else found.with_accuracy(accuracy)
