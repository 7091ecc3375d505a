"""Rescalings: how long each weight's part is after a rule has changed the lengths of its lines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from modula.optim.rules.base import Step
from modula.vector import Scalar, Update


class Rescaling(ABC):
    """What sets the length of each weight's part after the lengths of its lines were changed."""

    @abstractmethod
    def rate(self, step: Step) -> Scalar:
        """Return by what parts are multiplied that had norm cᵢ before their lines were changed.

        Args:
            step: the optimizer's.
        """

    @abstractmethod
    def __call__(self, step: Step, changed: Update) -> Update:
        """Return the changed update at its length.

        Args:
            step: the optimizer's.
            changed: the update after the change. Each weight's part has the Frobenius norm that it
                had before, times `rate(step)`.
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

    def rate(self, step: Step) -> Scalar:
        return 1.0

    def __call__(self, step: Step, changed: Update) -> Update:
        return step.plan.normalize(changed, step.lr, support=step.gradient)


@dataclass(frozen=True)
class KeepFrobenius(Rescaling):
    """Give each weight's part the Frobenius norm that it had before, times `lr`.

    Costs nothing beside the lengths of the lines. The norm of the step is another one than `lr`: a
    dualized matrix of rank r has r singular values that are equal, and with other rows it keeps
    their mean square, so that the largest is between 1 and √r times as large. So the norm of the
    step is at least `lr` and at most √r·`lr`, with r the largest rank.

    Example:
        >>> from modula.optim import KeepFrobenius, SecondMoments
        >>> rule = SecondMoments(rescaling=KeepFrobenius())

    Source: *NorMuon*, Li et al. 2025 (arXiv:2510.05491), algorithm 1.
    """

    def rate(self, step: Step) -> Scalar:
        return step.lr

    def __call__(self, step: Step, changed: Update) -> Update:
        return changed


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
