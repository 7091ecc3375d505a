"""`MixtureOfExperts`: an MLP for each vector, chosen among many by a router."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor, nn

from modula.algebra.core import Composition, Elementwise, Identity
from modula.algebra.parallel import Parallel
from modula.atoms import Experts, Linear
from modula.bonds import GELU, Combine, Dispatch, Keep, Select, TopK
from modula.network import Network
from modula.norms import L1, RMS, Linf, OneHot
from modula.values import Value, leaves

Chosen: TypeAlias = tuple[Tensor, Tensor]


class MixtureOfExperts(Composition[RMS, RMS]):
    """x ↦ Σ pᵢ·MLPᵢ(x) over the k experts with the largest scores, scaled to sensitivity 1.

    The router is a Linear from RMS to Linf: a score changes by at most 1 for a step of norm 1. The
    weights p are the softmax of the k scores, of ℓ1 norm 1. All matrices of one layer of all
    experts are one tensor, dualized matrix by matrix. Since p sums to 1, every expert may move by
    a full step at once.

    No loss that balances the experts is added. `routing` returns the scores and choices of a
    forward pass, from which to compute one.

    Sensitivity 1, radius R/2 for an activation with radius R: conditional, as `TopK` and `Combine`
    are, on scores without ties and inputs of RMS at most 1.

    Args:
        d: the width of input and output.
        num_experts: the number of experts.
        k: how many of them each vector is sent to.
        width: of the experts' hidden layers.
        activation: an elementwise bond; None takes GELU.

    Raises:
        ValueError: a number or width below 1, or k beyond num_experts.

    Example:
        >>> import torch
        >>> from modula import MixtureOfExperts
        >>> layer = MixtureOfExperts(16, num_experts=4, k=2, width=32)
        >>> layer(torch.randn(2, 5, 16)).shape, layer.mass
        (torch.Size([2, 5, 16]), 3.0)

    Source: Shazeer et al. 2017 (arXiv:1701.06538), section 2.
    """

    def __init__(
        self,
        d: int,
        *,
        num_experts: int,
        k: int,
        width: int,
        activation: Elementwise | None = None,
    ) -> None:
        if not 1 <= k <= num_experts:
            raise ValueError(
                f"MixtureOfExperts sends each vector to between 1 and num_experts={num_experts} "
                f"experts, got k={k}"
            )
        bond = GELU() if activation is None else activation
        hidden = (bond / bond.sensitivity) @ Experts(num_experts, width, d)
        mlp = Experts(num_experts, d, width) @ (hidden, Select(1, RMS, OneHot))
        router = TopK(k) @ Linear(num_experts, d, codomain=Linf)
        mixture = Combine() @ Parallel(mlp, Keep(L1)) @ Dispatch() @ (Identity(), router)
        super().__init__(0.5 * mixture)
        self.arguments: str = f"{d}, num_experts={num_experts}, k={k}, width={width}"

    def extra_repr(self) -> str:
        return self.arguments


@dataclass(frozen=True)
class Routing:
    """The routing of one layer in one forward pass.

    Args:
        path: of the layer's `TopK`, as in `model.get_submodule`.
        scores: of all experts, [..., num_experts], with their history for `backward`.
        chosen: the ids of the experts that each vector is sent to, [..., k].
        weights: of their outputs, [..., k].
    """

    path: str
    scores: Tensor
    chosen: Tensor
    weights: Tensor


@contextmanager
def routing(network: Network) -> Iterator[list[Routing]]:
    """Record the routing of all mixtures of experts in a network.

    Args:
        network: any network that contains `TopK`.

    Yields:
        A list to which each forward pass inside the block adds a `Routing` for each layer, in the
        order in which data meets them.

    Example:
        >>> import torch
        >>> import torch.nn.functional as F
        >>> from modula import Linear, MixtureOfExperts, routing
        >>> model = Linear(4, 16) @ MixtureOfExperts(16, num_experts=8, k=2, width=32)
        >>> with routing(model) as layers:
        ...     y = model(torch.randn(64, 16))
        >>> (layer,) = layers
        >>> load = F.one_hot(layer.chosen, 8).float().mean(dim=(0, 1))  # share of the vectors
        >>> balance = 8 * (load * layer.scores.softmax(-1).mean(dim=0)).sum()  # Switch, equation 4
        >>> grad = model.gradient(y.square().mean() + 0.01 * balance)

    Source: Fedus et al. 2021 (arXiv:2101.03961), equation 4, for the loss of the example.
    """
    found: list[Routing] = []
    modules = {path: network.torch_module.get_submodule(path) for path in network.describe()}
    hooks = [
        module.register_forward_hook(_noting(found, path))
        for path, module in modules.items()
        if isinstance(module, TopK)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _noting(found: list[Routing], path: str) -> Callable[[nn.Module, Value, Chosen], None]:
    """A forward hook that records what a `TopK` at this path reads and gives."""

    def note(module: nn.Module, arguments: Value, output: Chosen) -> None:
        (scores,) = leaves(arguments)
        found.append(Routing(path, scores, *output))

    return note
