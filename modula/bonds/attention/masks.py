"""Masks: which keys a query attends to.

A mask is a boolean tensor that broadcasts against scores [batch, head, query, key]; True lets the
query attend to the key. Attention gives a query that may attend to no key the output 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modula.algebra.core import Bond
from modula.bonds.base import SameSpace
from modula.bonds.incremental import Positions
from modula.checks import Claim
from modula.graph import Radius
from modula.norms import Linf, Mask
from modula.spaces import AnySpace, Product, Signature, meet


class CausalMask(SameSpace[Linf, Linf]):
    """Scores with −∞ wherever a key comes after its query: [..., query, key] -> the same.

    Where there are fewer queries than keys, they are at the last of the keys' positions.

    Sensitivity 1, radius R: proved, since the mask keeps a score or makes it constant. The radius
    is that of the scores that are kept; `Softmax` takes a score of −∞ to 0.

    Args:
        window: the number of keys that a query attends to, its own and the last ones before it;
            None for all of them.

    Raises:
        ValueError: a window below 1.
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        check_window("CausalMask", window)
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        queries, keys = x.shape[-2:]
        seen = visible(queries, keys, causal=True, window=self.window, device=x.device)
        return x.masked_fill(~seen, -torch.inf)

    def extra_repr(self) -> str:
        return "" if self.window is None else f"window={self.window}"


class ApplyMask(Bond[tuple[Linf, Mask], Linf]):
    """(scores, mask) ↦ scores with −∞ wherever the mask is False.

    Scores are [batch, head, query, key], and the mask broadcasts to them.

    Sensitivity 1, radius R, of the scores that are kept: proved, as for `CausalMask`.

    Example:
        >>> import torch
        >>> from modula import ApplyMask
        >>> ApplyMask()((torch.ones(1, 1, 1, 2), torch.tensor([[[[True, False]]]])))
        tensor([[[[1., -inf]]]])
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def unify(self, domain: AnySpace, codomain: AnySpace) -> Signature:
        pair, masked = super().unify(domain, codomain)
        if isinstance(pair, Product):
            scores, mask = pair.parts
            masked = meet(scores, masked)
            pair = Product((masked, mask))
        return pair, masked

    def radius(self, *inputs: Radius) -> Radius:
        return inputs[0][0] if isinstance(inputs[0], tuple) else inputs[0]

    def forward(self, x: tuple[Tensor, Tensor]) -> Tensor:
        scores, mask = x
        check_mask(self, mask, scores.shape)
        return scores.masked_fill(~mask, -torch.inf)


class PaddingMask(Bond[Mask, Mask]):
    """Which positions are real, [batch, position] ↦ a mask [batch, 1, 1, key].

    The input is True at real positions and False at padding, as the attention mask of a tokenizer.
    No query then attends to padding.

    Sensitivity 1, radius R: proved, since a mask has norm 0.

    Raises:
        ValueError: when called, the input is not boolean or has another number of axes.

    Example:
        >>> import torch
        >>> from modula import PaddingMask
        >>> PaddingMask()(torch.tensor([[True, True, False]]))
        tensor([[[[ True,  True, False]]]])
    """

    sensitivity: float = 1.0
    claim: Claim = "proved"

    def forward(self, real: Tensor) -> Tensor:
        if real.dtype != torch.bool or real.dim() != 2:
            raise ValueError(
                f"{self!r} takes a boolean tensor [batch, position], True at real positions; got "
                f"one of shape {list(real.shape)} and {real.dtype}"
            )
        return real[:, None, None, :]

    def start(self) -> Positions:
        return Positions()

    def resume(self, x: Tensor, state: Positions) -> tuple[Tensor, Positions]:
        return self(state.append(x.unsqueeze(-1)).squeeze(-1)), state


def visible(
    queries: int, keys: int, *, causal: bool, window: int | None, device: torch.device
) -> Tensor:
    """Return which keys each query attends to, as booleans [query, key].

    Args:
        queries, keys: their numbers; the queries are at the last of the keys' positions.
        causal: whether keys after the query are left out.
        window: keys at this distance from the query, or farther, are left out; None for none.
        device: of the result.
    """
    at = torch.arange(keys - queries, keys, device=device)[:, None]
    distance = at - torch.arange(keys, device=device)
    nearest = 0 if causal else -math.inf
    farthest = math.inf if window is None else window - 1
    return (distance >= max(nearest, -farthest)) & (distance <= farthest)


def check_window(name: str, window: int | None) -> None:
    """Raise if a window has no place for the query's own key.

    Raises:
        ValueError: a window below 1.
    """
    if window is not None and window < 1:
        raise ValueError(
            f"{name} takes a window of at least 1 key, the query's own; got window={window}"
        )


def check_mask(owner: object, mask: Tensor, scores: tuple[int, ...]) -> None:
    """Raise if a tensor is no mask for scores of that shape.

    Raises:
        ValueError: it is not boolean, or its axes do not broadcast against the scores'.
    """
    fits = mask.dim() == len(scores) and all(
        own in (1, whole) for own, whole in zip(mask.shape, scores, strict=True)
    )
    if mask.dtype != torch.bool or not fits:
        raise ValueError(
            f"{owner!r} takes a boolean mask for scores {list(scores)}, with 1 for an axis along "
            f"which it does not vary; got one of shape {list(mask.shape)} and {mask.dtype}. "
            "PaddingMask() makes one of the real positions [batch, position]"
        )
