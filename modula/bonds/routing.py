"""The bonds of a mixture of experts: choose experts, send vectors to them, combine what they give.

`Experts` reads a vector and the number of its expert. With k experts for each vector, an axis of
length k stands in front of the features.
"""

from __future__ import annotations

import torch
from einops import einsum, repeat
from torch import Tensor

from modula.algebra.core import Bond
from modula.checks import Claim
from modula.graph import Radius, total_radius
from modula.norms import L1, RMS, Linf, OneHot
from modula.spaces import AnySpace, Product, Signature, Space, meet


class TopK(Bond[Linf, tuple[OneHot, L1]]):
    """scores ↦ (ids of the k largest, softmax of these): [..., num] -> [..., k] twice.

    Sensitivity 1, radius 1 for each: conditional on scores whose k-th and (k + 1)-th largest
    differ. There the ids do not change, the k scores change by no more than all do, and softmax is
    1-Lipschitz from Linf to L1. Where two scores meet, the choice jumps.

    Args:
        k: how many are chosen.

    Raises:
        ValueError: k < 1; in the forward pass, fewer than k scores.

    Example:
        >>> import torch
        >>> from modula import TopK
        >>> ids, weights = TopK(2)(torch.tensor([1.0, 3.0, 3.0, 0.0]))
        >>> sorted(ids.tolist()), weights
        ([1, 2], tensor([0.5000, 0.5000]))

    Source: Shazeer et al. 2017 (arXiv:1701.06538), equation 3, without noise.
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    def __init__(self, k: int) -> None:
        super().__init__()
        if not isinstance(k, int) or k < 1:
            raise ValueError(f"TopK chooses at least 1 expert, got {k}")
        self.k: int = k
        self.declared_signature: Signature = (
            Space(Linf),
            Product((Space(OneHot), Space(L1, k))),
        )

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        scores, chosen = super().unify(domain, codomain)
        ids, weights = _parts(chosen)
        scores = meet(scores, Space(Linf, _width(ids)))
        return scores, Product((meet(ids, Space(OneHot, _width(scores))), weights))

    def radius(self, *inputs: Radius) -> Radius:
        return 1.0, 1.0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[-1] < self.k:
            raise ValueError(f"{self!r} takes at least {self.k} scores, got {x.shape[-1]}")
        largest, ids = x.topk(self.k, dim=-1)
        return ids, torch.softmax(largest, dim=-1)

    def extra_repr(self) -> str:
        return str(self.k)


class Dispatch(Bond[tuple[RMS, tuple[OneHot, L1]], tuple[tuple[RMS, OneHot], L1]]):
    """(x, (ids, weights)) ↦ ((x for each id, ids), weights).

    [..., d] and [..., k] twice -> [..., k, d] and [..., k] twice.

    Sensitivity 1, radius R for each entry: proved, since vectors are copied along a leading axis.

    Example:
        >>> import torch
        >>> from modula import Dispatch
        >>> ids, weights = torch.tensor([[0, 2]]), torch.tensor([[0.5, 0.5]])
        >>> (copies, _), _ = Dispatch()((torch.ones(1, 3), (ids, weights)))
        >>> copies.shape
        torch.Size([1, 2, 3])
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        given, taken = super().unify(domain, codomain)
        x, choice = _parts(given)
        pair, weights = _parts(taken)
        ids, own = _parts(choice)
        copies, own_ids = _parts(pair)
        x, ids, weights = meet(x, copies), meet(ids, own_ids), meet(own, weights)
        return Product((x, Product((ids, weights)))), Product((Product((x, ids)), weights))

    def radius(self, *inputs: Radius) -> Radius:
        (whole,) = inputs
        x, choice = whole if isinstance(whole, tuple) else (whole, whole)
        ids, weights = choice if isinstance(choice, tuple) else (choice, choice)
        return (x, ids), weights

    def forward(
        self, x: tuple[Tensor, tuple[Tensor, Tensor]]
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        features, (ids, weights) = x
        return (repeat(features, "... d -> ... k d", k=ids.shape[-1]), ids), weights


class Combine(Bond[tuple[RMS, L1], RMS]):
    """(vectors, weights) ↦ Σ weightᵢ·vectorᵢ: [..., k, d] and [..., k] -> [..., d].

    Sensitivity 1, radius R_vectors·R_weights: conditional on vectors of RMS at most 1 and weights
    of ℓ1 norm at most 1 (the radius holds for all), as a mean of vectors.

    Example:
        >>> import torch
        >>> from modula import Combine
        >>> Combine()((torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.25, 0.75])))
        tensor([0.2500, 0.7500])
    """

    sensitivity: float = 1.0
    claim: Claim = "conditional"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        pair, output = super().unify(domain, codomain)
        vectors, weights = _parts(pair)
        output = meet(vectors, output)
        return Product((output, weights)), output

    def radius(self, *inputs: Radius) -> Radius:
        (pair,) = inputs
        vectors, weights = pair if isinstance(pair, tuple) else (pair, pair)
        return total_radius(vectors) * total_radius(weights)

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        vectors, weights = x
        return einsum(vectors, weights, "... k d, ... k -> ... d")


def _parts(space: AnySpace) -> tuple[AnySpace, ...]:
    return space.parts if isinstance(space, Product) else ()


def _width(space: AnySpace) -> int | None:
    return space.width if isinstance(space, Space) else None
