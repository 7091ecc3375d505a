"""From gradients to the update: which average is kept, and how it becomes a step of the length
asked for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from modula.optim.nonfinite import Verdict
from modula.optim.settings import Settings
from modula.plan import Plan
from modula.polar import MethodLike
from modula.scaling import working_dtype
from modula.sharding import all_to_local, all_to_local_like, from_local_like
from modula.vector import Gradient, LinearVector, Scalar, Update, Weights

Base: TypeAlias = Literal["sgd", "adam"]
State: TypeAlias = dict[str, Tensor]
"""What is kept for one parameter, by name."""


class Rule(ABC):
    """One way to turn gradients into an update."""

    buffers: ClassVar[tuple[str, ...]]
    """What is kept for each parameter, shaped like it, beside the number of its steps."""

    def kept_in(self, p: Tensor) -> torch.dtype:
        """The dtype in which the buffers of a parameter are kept."""
        return p.dtype

    @abstractmethod
    def __call__(
        self,
        plan: Plan,
        gradient: Gradient,
        states: list[State],
        settings: Settings,
        verdict: Verdict,
    ) -> Update:
        """Take the gradient into the averages and return the update of norm lr, to be
        subtracted.
        """


@dataclass(frozen=True)
class DualizedMomentum(Rule):
    """The duality map of an average of gradients."""

    method: MethodLike | None
    buffers: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def __call__(
        self,
        plan: Plan,
        gradient: Gradient,
        states: list[State],
        settings: Settings,
        verdict: Verdict,
    ) -> Update:
        average = accumulate(gradient, states, settings, verdict)
        return plan.dualize(average, target_norm=length(settings, verdict), method=self.method)


@dataclass(frozen=True)
class NormalizedMomentum(Rule):
    """An average of gradients, taken for a direction as it is and normalised atom by atom.

    Source: Large et al. 2024 (arXiv:2405.14813), algorithm 1, over SGD.
    """

    buffers: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    def __call__(
        self,
        plan: Plan,
        gradient: Gradient,
        states: list[State],
        settings: Settings,
        verdict: Verdict,
    ) -> Update:
        average = accumulate(gradient, states, settings, verdict)
        return plan.normalize(
            Update.from_tensors(average.names, average.tensors),
            target_norm=length(settings, verdict),
        )


@dataclass(frozen=True)
class NormalizedAdam(Rule):
    """Adam's direction, normalised atom by atom.

    Source: Large et al. 2024 (arXiv:2405.14813), algorithm 1, over Adam (Kingma & Ba 2015,
    arXiv:1412.6980, algorithm 1).
    """

    buffers: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def kept_in(self, p: Tensor) -> torch.dtype:
        """At least float32: 16 bits lose squares of small gradients, and what is 1 − β2 of an
        average.
        """
        return working_dtype(p.dtype)

    def __call__(
        self,
        plan: Plan,
        gradient: Gradient,
        states: list[State],
        settings: Settings,
        verdict: Verdict,
    ) -> Update:
        steps, averages, squares = (
            [state[name] for state in states] for name in ("step", *self.buffers)
        )
        m, v = all_to_local(averages), all_to_local(squares)
        g = [
            t.to(average.dtype)
            for t, average in zip(all_to_local_like(gradient.tensors, averages), m, strict=True)
        ]
        beta1, beta2 = settings["betas"]
        torch._foreach_mul_(m, verdict.choose(beta1, 1.0))
        torch._foreach_add_(m, g, alpha=1 - beta1)
        torch._foreach_mul_(v, verdict.choose(beta2, 1.0))
        torch._foreach_addcmul_(v, g, g, value=1 - beta2)

        t = torch._foreach_maximum(steps, 1.0)  # still 0 if the first step is rejected
        root = torch._foreach_sqrt(torch._foreach_div(v, _remaining(beta2, t)))
        torch._foreach_add_(root, settings["eps"])
        direction = from_local_like(
            torch._foreach_div(torch._foreach_div(m, _remaining(beta1, t)), root), averages
        )
        return plan.normalize(
            Update.from_tensors(gradient.names, direction), target_norm=length(settings, verdict)
        )


def accumulate(
    gradient: Gradient, states: list[State], settings: Settings, verdict: Verdict
) -> Gradient:
    """m ← momentum·m + g, in place; returns m, or momentum·m + g for Nesterov's look-ahead."""
    momentum = settings["momentum"]
    average = Gradient.from_tensors(gradient.names, [state["momentum_buffer"] for state in states])
    multiply(average, verdict.choose(momentum, 1.0))
    average += gradient
    return momentum * average + gradient if settings["nesterov"] else average


def decayed(
    weights: Weights, coefficients: Sequence[float], settings: Settings, verdict: Verdict
) -> Update:
    """lr·λ·coefficient_i·w_i for each weight."""
    shares = torch._foreach_mul(all_to_local(weights.tensors), coefficients)
    decay = Update.from_tensors(weights.names, from_local_like(shares, weights.tensors))
    multiply(decay, settings["weight_decay"] * length(settings, verdict))
    return decay


def length(settings: Settings, verdict: Verdict) -> Scalar:
    """The norm of the step: the learning rate, or 0 if the step is not taken."""
    return verdict.choose(settings["lr"], 0.0)


def multiply(vector: LinearVector, factor: Scalar) -> None:
    """vector *= factor, in a form that torch.compile (2.13) can follow when the factor is a
    tensor.
    """
    torch._foreach_mul_(all_to_local(vector.tensors), factor)


def _remaining(beta: float, steps: tuple[Tensor, ...] | list[Tensor]) -> list[Tensor]:
    """1 − βᵗ for each parameter: how much of its average its gradients make up. By expm1, which
    loses no digits where βᵗ is near 1.
    """
    log_beta = math.log(beta) if beta else -math.inf
    return [-torch.expm1(t * log_beta) for t in steps]
