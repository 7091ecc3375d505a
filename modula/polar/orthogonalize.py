"""The orthogonal factors of matrices of one shape."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.masked import MaskedTensor

from modula.arithmetic import as_written
from modula.polar.batching import orthogonalize_all
from modula.polar.method import Accuracy
from modula.polar.methods import MethodLike, resolve


@as_written
def orthogonalize(
    G: Tensor,
    method: MethodLike | None = None,
    steps: int | None = None,
    accuracy: Accuracy | None = None,
) -> Tensor:
    """Return the orthogonal factor UVᵀ of every matrix G = UΣVᵀ of a batch.

    Args:
        G: floating-point matrices, [..., m, n], of any scale.
        method: "polar_express" (the default), "newton_schulz", "inverse_root", "sketch", "svd", or
            a configured one such as `modula.polar.NewtonSchulz(degree=3)`. The documentation of
            each method says what it costs and when to pick it.
        steps: the number of steps of an iterative method; None leaves the method's own.
        accuracy: "high" makes Polar Express bring every singular value above 1/1000 of the largest
            to within 1/1000 of 1, at about four times the cost; None leaves the method's own.

    Returns:
        [..., m, n], in the dtype of `G`, without a gradient, whether `G` requires one or not. Zero
        matrices stay zero; a matrix with a non-finite entry becomes NaN and affects no other matrix
        of the batch.

    Raises:
        TypeError: `G` is not a dense tensor of floating-point dtype, of 16 bits at least.
        ValueError: `G` has fewer than two axes, there is no such method, or the method cannot take
            `steps` or `accuracy`.

    Example:
        >>> import torch
        >>> from modula.polar import orthogonalize
        >>> orthogonalize(torch.diag(torch.tensor([3.0, 0.5])), method="svd")
        tensor([[1., 0.],
                [0., 1.]])
    """
    _refuse_unknown_formats(G)
    if G.dim() < 2:
        raise ValueError(f"orthogonalize takes matrices [..., m, n], got the shape {list(G.shape)}")
    run = resolve(method, steps, accuracy)
    if G.numel() == 0:
        return G.clone()
    flat = G.reshape(-1, *G.shape[-2:])
    return orthogonalize_all([flat], run)[0].view(G.shape)


def _refuse_unknown_formats(G: object) -> None:
    if not isinstance(G, Tensor):
        raise TypeError(f"orthogonalize takes a tensor of matrices, got {type(G).__name__}")
    if G.is_nested or G.layout is not torch.strided or isinstance(G, MaskedTensor):
        layout = f"a tensor of layout {G.layout}"
        if G.is_nested or isinstance(G, MaskedTensor):
            layout = "a nested tensor" if G.is_nested else "a MaskedTensor"
        raise TypeError(f"orthogonalize takes a dense tensor of matrices, got {layout}")
    if not G.is_floating_point() or G.dtype.itemsize < 2:
        raise TypeError(
            f"orthogonalize takes floating-point matrices of 16 bits or more, got {G.dtype}"
        )
