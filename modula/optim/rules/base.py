"""Rules: how gradients become an update. A rule is a class that a user can write.

A step asks three questions, and a class answers each: which average of gradients is kept (an
`Average`), which direction is taken (a `Direction`), and how it becomes a step of the length asked
for (a `Rule`). They are combined by holding one another, as in `Dualized(Momentum(0.9))` and
`Cautious(Dualized())`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar, cast

import torch
from torch import Tensor

from modula.geometry import Geometry
from modula.optim.nonfinite import Verdict
from modula.plan import Plan
from modula.scaling import working_dtype
from modula.sharding import is_sharded
from modula.vector import Gradient, Scalar, Update

State: TypeAlias = dict[str, Tensor]
"""What is kept for one parameter, by name."""


@dataclass(frozen=True)
class Buffer:
    """A tensor that is kept for a parameter, of zeros at first.

    Args:
        shape: its own, which need not be the parameter's.
        dtype: its own.
        replicated: every process that has a shard of the parameter keeps all of the buffer, and the
            rule makes it equal on each.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    replicated: bool = False


@dataclass(frozen=True)
class Step:
    """One step of the optimizer, as a rule sees it.

    Args:
        plan: the weights that have a gradient, with their norms and coefficients.
        gradient: of these weights.
        states: what is kept for each of them: the number of its steps under "step", and the rule's
            own buffers.
        settings: the parameter group, which schedulers write.
        verdict: whether the step is taken.
    """

    plan: Plan
    gradient: Gradient
    states: Sequence[State]
    settings: Mapping[str, object]
    verdict: Verdict

    @property
    def lr(self) -> Scalar:
        """The norm of the update: the learning rate, or 0 if the step is not taken."""
        return self.choose(self.number("lr"), 0.0)

    def at_rate(self, lr: Scalar) -> Step:
        """Return the same step at another learning rate, for a rule inside another one.

        Args:
            lr: in place of the parameter group's.
        """
        return replace(self, settings={**self.settings, "lr": lr})

    def number(self, name: str) -> Scalar:
        """Return a setting that is a number.

        Args:
            name: as in the rule's `defaults`.
        """
        return cast("Scalar", self.settings[name])

    def choose(self, taken: Scalar, skipped: float) -> Scalar:
        """Return one number if the step is taken and another if it is not.

        A step that is not taken (`nonfinite="skip"`) still runs, with a gradient of zero, so that
        no device has to be waited for. Numbers such as 1 for a momentum make it change nothing.

        Args:
            taken: a number or a scalar tensor.
            skipped: the number by which nothing is changed.
        """
        return self.verdict.choose(taken, skipped)

    def buffers(self, name: str) -> list[Tensor]:
        """Return one buffer of all weights, to be changed in place.

        Args:
            name: as in the rule's `buffers`.
        """
        return [state[name] for state in self.states]


class Stateful:
    """What averages, directions and rules have in common: buffers and settings."""

    @property
    def inner(self) -> Stateful | None:
        """The average, direction or rule that this one holds; None if it holds none."""
        return None

    def buffers(self, p: Tensor) -> Mapping[str, torch.dtype]:
        """Return what is kept for a parameter, shaped like it, by name, and in which dtype.

        Use at least `modula.scaling.working_dtype(p.dtype)`: 16 bits lose what is small beside an
        average, and overflow.

        Args:
            p: the parameter.

        Returns:
            By default the buffers of `inner`.
        """
        return {} if self.inner is None else self.inner.buffers(p)

    def factors(self, p: Tensor, geometry: Geometry) -> Mapping[str, Buffer]:
        """Return what is kept for a parameter in shapes of its own, by name.

        A step finds it in `step.states`, beside the buffers. Checkpoints hold it, and loaded states
        are checked against these shapes. Shards of them would have no meaning: an optimizer of
        sharded weights takes only a rule whose factors are `replicated`.

        Args:
            p: the parameter.
            geometry: its norm.

        Returns:
            By default the factors of `inner`.
        """
        return {} if self.inner is None else self.inner.factors(p, geometry)

    def defaults(self) -> Mapping[str, object]:
        """Return the settings of the parameter group, by name: by default those of `inner`.

        Schedulers may write them.
        """
        return {} if self.inner is None else self.inner.defaults()

    def check_settings(self, settings: Mapping[str, object]) -> None:
        """Raise if a setting has a value that is none, as a schedule or a checkpoint may bring.

        It is asked before anything changes, in a step and when a state is loaded.

        Args:
            settings: the parameter group, with all that `defaults` names.

        Raises:
            TypeError: a setting is of the wrong kind.
            ValueError: a setting is out of range.
        """
        if self.inner is not None:
            self.inner.check_settings(settings)

    @property
    def kind(self) -> str:
        """The class and those that it holds, by which checkpoints tell rules apart."""
        name = type(self).__name__
        return name if self.inner is None else f"{name}({self.inner.kind})"


class Average(Stateful, ABC):
    """An average of gradients, in the dual space."""

    @abstractmethod
    def __call__(self, step: Step) -> Gradient:
        """Take the step's gradient into the average and return it."""


class Direction(Stateful, ABC):
    """A displacement of the weights, of any length."""

    @abstractmethod
    def __call__(self, step: Step) -> Update:
        """Take the step's gradient in and return the direction."""


class Rule(Stateful, ABC):
    """One way to turn gradients into an update of norm `step.lr`.

    Example:
        >>> from dataclasses import dataclass
        >>> from modula import Linear, SteepestDescent, Update
        >>> from modula.optim import Rule, Step
        >>> @dataclass(frozen=True)
        ... class Plain(Rule):
        ...     def __call__(self, step: Step) -> Update:
        ...         return step.plan.dualize(step.gradient, step.lr)
        >>> optimizer = SteepestDescent(Linear(2, 2), lr=0.1, rule=Plain())
    """

    @abstractmethod
    def __call__(self, step: Step) -> Update:
        """Take the step's gradient in and return the update, which is subtracted."""


def check_rule(owner: str, rule: object) -> None:
    """Raise if what a rule holds is not a rule.

    Args:
        owner: the class of the rule that holds it.
        rule: what it holds.

    Raises:
        TypeError: it is not a rule.
    """
    if not isinstance(rule, Rule):
        raise TypeError(
            f"{owner} holds a rule of modula.optim's, such as Dualized(Momentum(0.9)), got "
            f"{type(rule).__name__}"
        )


def factors_of(rule: Rule, plan: Plan) -> dict[Tensor, Mapping[str, Buffer]]:
    """Return the factors that a rule keeps for each parameter.

    Args:
        rule: of an optimizer.
        plan: of its network.

    Raises:
        ValueError: a parameter that has factors is a DTensor, and they are not `replicated`.
    """
    found = {}
    for name, p, geometry in zip(plan.names, plan.weights, plan.geometries, strict=True):
        found[p] = rule.factors(p, geometry)
        if is_sharded(p) and not all(one.replicated for one in found[p].values()):
            raise ValueError(
                f"{rule.kind} keeps factors of whole matrices, and {name!r} is a DTensor, of which "
                "a process has a shard: leave the model unsharded, or take a rule whose buffers "
                "are shaped like the weights, such as SecondMoments()"
            )
    return found


V = TypeVar("V")


def merged(inner: Mapping[str, V], own: Mapping[str, V], owner: str) -> dict[str, V]:
    """Return the buffers or settings of a rule and of the one inside it.

    Args:
        inner: of the rule inside.
        own: of the rule itself.
        owner: the rule's class, for the error.

    Raises:
        ValueError: both have one of the same name.
    """
    twice = sorted(inner.keys() & own.keys())
    if twice:
        raise ValueError(
            f"{owner} holds a rule that has {twice[0]!r} as well, so that the two would write to "
            "one place: use each kind of rule once, or give one of them other settings"
        )
    return {**inner, **own}


def kept_like(p: Tensor, *names: str) -> dict[str, torch.dtype]:
    """Return buffers in at least float32, whatever the parameter's dtype.

    Args:
        p: the parameter.
        names: of the buffers.
    """
    return dict.fromkeys(names, working_dtype(p.dtype))
