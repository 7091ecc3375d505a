"""Rescalings: how long each weight's part is after a rule has changed the entries of an update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from modula.optim.rules.base import Step
from modula.sharding import all_to_local, dots, from_local_like
from modula.vector import Update


TINY = torch.finfo(torch.float32).tiny
"""The smallest norm by which is divided."""


class Rescaling(ABC):
    """What sets the length of each weight's part after its entries were changed."""

    @abstractmethod
    def __call__(self, step: Step, before: Update, changed: Update) -> Update:
        """Return the changed update at its length.

        Args:
            step: the optimizer's.
            before: the update before the change, each weight's part of norm 1 in its own norm.
            changed: the update after it, of any norm.
        """


@dataclass(frozen=True)
class ToNorm(Rescaling):
    """Give each weight's part its share of the step in the weight's own norm.

    The norm of the step is `lr`. Takes the norm of each weight, which for matrices is the largest
    singular value, from an eigendecomposition of the smaller Gram matrix.

    Example:
        >>> from modula.optim import SecondMoments, ToNorm
        >>> rule = SecondMoments(rescaling=ToNorm())

    Source: Large et al. 2024 (arXiv:2405.14813).
    """

    def __call__(self, step: Step, before: Update, changed: Update) -> Update:
        return step.plan.normalize(changed, step.lr, support=step.gradient)


@dataclass(frozen=True)
class KeepFrobenius(Rescaling):
    """Give each weight's part the Frobenius norm that it had before, times `lr`.

    Costs two sums of squares. The norm of the step is another one than `lr`: a dualized matrix of
    rank r has r singular values that are equal, and with other rows it keeps their mean square, so
    that the largest is between 1 and √r times as large. So the norm of the step is at least `lr`
    and at most √r·`lr`, with r the largest rank.

    Example:
        >>> from modula.optim import KeepFrobenius, SecondMoments
        >>> rule = SecondMoments(rescaling=KeepFrobenius())

    Source: *NorMuon*, Li et al. 2025 (arXiv:2510.05491), algorithm 1.
    """

    def __call__(self, step: Step, before: Update, changed: Update) -> Update:
        sizes, others = (
            torch._foreach_sqrt(dots(update.tensors, update.tensors, _sum_of_products))
            for update in (before, changed)
        )
        torch._foreach_clamp_min_(others, TINY)  # of zeros
        torch._foreach_div_(sizes, others)
        torch._foreach_mul_(sizes, list(step.plan.coefficients))
        torch._foreach_mul_(sizes, step.lr)
        scaled = torch._foreach_mul(all_to_local(changed.tensors), sizes)
        return Update.from_tensors(changed.names, from_local_like(scaled, changed.tensors))


def _sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.flatten(), b.flatten())


def check_rescaling(owner: str, rescaling: object) -> None:
    """Raise if what a rule holds is not a rescaling.

    Args:
        owner: the class of the rule that holds it.
        rescaling: what it holds.

    Raises:
        TypeError: it is not a rescaling.
    """
    if not isinstance(rescaling, Rescaling):
        raise TypeError(
            f"{owner} takes a rescaling of modula.optim's, such as KeepFrobenius(), got "
            f"{type(rescaling).__name__}"
        )
