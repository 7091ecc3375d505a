"""Policies for gradients that contain a NaN or an infinity, or whose running sums would.

A policy looks at the gradients and returns a verdict. A rejected step still runs, as a no-op: zero
gradient, learning rate 0, momentum 1. So the verdict stays on the device, and nothing waits for it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from modula.checks import listed
from modula.scaling import working_dtype
from modula.sharding import all_to_local, dot, from_local_like, to_full
from modula.vector import Gradient, Scalar

NonFinite: TypeAlias = Literal["propagate", "skip", "raise"]


HEADROOM = 2.0**14
"""How much larger than a gradient the sums of many like it may be, as momentum makes them."""


class Verdict(ABC):
    """Whether a step is taken."""

    @abstractmethod
    def choose(self, accepted: Scalar, rejected: float) -> Scalar:
        """Return one number if the step is taken, another if it is not."""

    @abstractmethod
    def clean(self, gradient: Gradient) -> Gradient:
        """Return the gradient itself if the step is taken, zero if it is not."""

    @abstractmethod
    def count(self, steps: list[Tensor], skipped: Tensor) -> None:
        """Add one to each of `steps` if the step is taken, to `skipped` if it is not."""


class Taken(Verdict):
    """The verdict of a policy that does not look: the step is taken."""

    def choose(self, accepted: Scalar, rejected: float) -> Scalar:
        return accepted

    def clean(self, gradient: Gradient) -> Gradient:
        return gradient

    def count(self, steps: list[Tensor], skipped: Tensor) -> None:
        torch._foreach_add_(steps, 1)


@dataclass(frozen=True)
class TakenIf(Verdict):
    """The step is taken if a boolean scalar tensor is true, whose value stays on its device.

    Args:
        finite: the tensor.
        dtype: of the numbers that are chosen.
    """

    finite: Tensor
    dtype: torch.dtype

    def choose(self, accepted: Scalar, rejected: float) -> Tensor:
        return torch.where(self.finite, self._number(accepted), self._number(rejected))

    def clean(self, gradient: Gradient) -> Gradient:
        cleaned = [
            torch.where(self.finite.to(g.device), g, 0) for g in all_to_local(gradient.tensors)
        ]
        return Gradient.from_tensors(gradient.names, from_local_like(cleaned, gradient.tensors))

    def count(self, steps: list[Tensor], skipped: Tensor) -> None:
        torch._foreach_add_(steps, [self.finite.to(step) for step in steps])
        skipped += self.finite.logical_not().to(skipped.device)

    def _number(self, value: Scalar) -> Tensor:
        if isinstance(value, Tensor):
            return value.to(self.finite.device, self.dtype, non_blocking=True)
        return torch.full_like(self.finite, value, dtype=self.dtype)


Policy: TypeAlias = Callable[[Gradient], Verdict]
"""From a gradient to the verdict on its step."""


def propagate(gradient: Gradient) -> Verdict:
    """Take the step without looking: a NaN reaches the weights, as in a plain loop."""
    return Taken()


def skip(gradient: Gradient) -> Verdict:
    """Take the step only if every gradient is finite, and as many like it have a finite sum."""
    return TakenIf(all_finite(gradient), working_dtype(gradient.tensors[0].dtype))


def refuse(gradient: Gradient) -> Verdict:
    """Raise if an entry is not finite or too large, naming the parameters. Waits for the device.

    Raises:
        FloatingPointError: some gradient is not finite, or sums of such gradients would not be.
    """
    if not all_finite(gradient):
        bad = [name for name, g in gradient.items() if _has_nonfinite(to_full(g), g)]
        raise FloatingPointError(
            f"NaN or infinity in the gradient of {listed(bad, 8)}, or an entry so large that a sum "
            "of such gradients would overflow; nothing was changed. Look for "
            "an overflow in the loss, lower the rate, or "
            'pass nonfinite="skip" to leave such steps out'
        )
    return Taken()


POLICIES: dict[str, Policy] = {"propagate": propagate, "skip": skip, "raise": refuse}


def all_finite(gradient: Gradient) -> Tensor:
    """Return whether every entry on every process is finite, as a boolean scalar tensor.

    A finite entry counts as infinite if `HEADROOM` times it is, in the dtype of averages.
    """
    counts = dot(gradient.tensors, gradient.tensors, _has_nonfinite)
    return torch.stack([count.to(counts[0].device) for count in counts]).sum() == 0


def _has_nonfinite(g: Tensor, _: Tensor) -> Tensor:
    if not g.numel():
        return torch.zeros((), dtype=torch.bool, device=g.device)
    largest: Tensor = torch.linalg.vector_norm(g, math.inf).to(working_dtype(g.dtype))
    return (largest * HEADROOM).isfinite().logical_not()
