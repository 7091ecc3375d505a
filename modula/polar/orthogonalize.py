"""`orthogonalize`: prepare a batch of matrices, run a method, put everything back."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from torch import Tensor

from modula.polar.inverse_root import InverseRoot
from modula.polar.method import Accuracy, Method
from modula.polar.newton_schulz import NewtonSchulz
from modula.polar.polar_express import PolarExpress
from modula.polar.preparation import prepared, restored
from modula.polar.sketch import Sketch
from modula.polar.svd import SVD

MethodName: TypeAlias = Literal["polar_express", "newton_schulz", "inverse_root", "sketch", "svd"]
MethodLike: TypeAlias = MethodName | Method

DEFAULT: Method = PolarExpress()
METHODS: dict[str, Method] = {
    "polar_express": DEFAULT,
    "newton_schulz": NewtonSchulz(),
    "inverse_root": InverseRoot(),
    "sketch": Sketch(),
    "svd": SVD(),
}


def orthogonalize(G: Tensor, method: MethodLike | None = None, steps: int | None = None, accuracy: Accuracy | None = None) -> Tensor:
    """The orthogonal factor UVᵀ of every matrix G = UΣVᵀ of a batch.

    Args:
        G: floating-point matrices, [..., m, n], of any scale.
        method: "polar_express" (the default), "newton_schulz", "inverse_root", "sketch", "svd", or a configured one such as
            `modula.polar.NewtonSchulz(degree=3)`. Each method's own page says what it costs and when to pick it.
        steps: how many steps an iterative method takes; None leaves the method's own.
        accuracy: "high" has Polar Express bring every singular value above 1/1000 of the largest to within 1/1000 of 1, at about four
            times the cost; None leaves the method's own.

    Returns:
        [..., m, n], in the dtype of `G`. Zero matrices stay zero; a matrix with a non-finite entry becomes NaN and touches no
        other matrix of the batch.

    Raises:
        TypeError: `G` is not of floating-point dtype.
        ValueError: `G` has fewer than two axes, no such method, or `steps` or an `accuracy` that the method cannot take.

    Example:
        >>> import torch
        >>> from modula.polar import orthogonalize
        >>> orthogonalize(torch.diag(torch.tensor([3.0, 0.5])), method="svd")
        tensor([[1., 0.],
                [0., 1.]])
    """
    if not G.is_floating_point():
        raise TypeError(f"orthogonalize takes floating-point matrices, got {G.dtype}")
    if G.dim() < 2:
        raise ValueError(f"orthogonalize takes matrices [..., m, n], got the shape {list(G.shape)}")
    run = resolve(method, steps, accuracy)
    if G.numel() == 0:
        return G.clone()
    flat = G.reshape(-1, *G.shape[-2:])
    rows, columns = sorted(flat.shape[-2:])
    X = prepared([flat.mT if G.shape[-2] > G.shape[-1] else flat], rows, columns)
    return restored(run(X), flat).view(G.shape)


def resolve(method: MethodLike | None, steps: int | None = None, accuracy: Accuracy | None = None) -> Method:
    """The method that a name stands for, with its number of steps and its accuracy."""
    if method is None:
        found = DEFAULT
    elif isinstance(method, Method):
        found = method
    elif method in METHODS:
        found = METHODS[method]
    else:
        names = ", ".join(f'"{name}"' for name in get_args(MethodName))
        raise ValueError(f"no method {method!r} of orthogonalisation: pick one of {names}, or pass a modula.polar.Method")
    found = found if steps is None else found.with_steps(steps)
    return found if accuracy is None else found.with_accuracy(accuracy)
