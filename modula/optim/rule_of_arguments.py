"""The rule that the optimizer's arguments stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from modula.optim.rules import Adam, AsDirection, Dualized, Momentum, Normalized, Rule
from modula.polar import MethodLike
from modula.polar.methods import resolve

Base: TypeAlias = Literal["sgd", "adam"]


MOMENTUM, NESTEROV = 0.95, True
BETAS, EPS = (0.9, 0.999), 1e-8


def rule_of_arguments(
    rule: Rule | None,
    *,
    normalize: bool,
    base: Base,
    method: MethodLike | None,
    momentum: float,
    nesterov: bool,
    betas: tuple[float, float],
    eps: float,
) -> Rule:
    """Return the rule that is given, or the one that the other arguments describe.

    Args:
        rule: or None.
        normalize, base, method, momentum, nesterov, betas, eps: as `SteepestDescent` takes them.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of range, or two contradict each other.
    """
    resolve(method)
    average = Momentum(momentum, nesterov)
    adam = Adam(betas, eps)
    if base not in ("sgd", "adam"):
        raise ValueError(f'base is "sgd" or "adam", got {base!r}')
    of_momentum = (momentum, nesterov) != (MOMENTUM, NESTEROV)
    of_adam = (tuple(betas), eps) != (BETAS, EPS)
    if rule is not None:
        given = {
            "normalize": normalize,
            "base": base != "sgd",
            "method": method is not None,
            "momentum or nesterov": of_momentum,
            "betas or eps": of_adam,
        }
        _check_rule(rule, [name for name, is_given in given.items() if is_given])
        return rule
    if method is not None and normalize:
        raise ValueError(
            "method= says how matrices are orthogonalised, and normalize=True orthogonalises none: "
            "leave one of them out"
        )
    if base == "adam" and not normalize:
        raise ValueError(
            'base="adam" needs normalize=True: Adam\'s direction is a displacement already, and '
            "only gradients can be dualized"
        )
    if base == "adam" and of_momentum:
        raise ValueError(
            'base="adam" averages with betas: pass betas=(β1, β2) in place of momentum and nesterov'
        )
    if base == "sgd" and of_adam:
        raise ValueError(
            'betas and eps are Adam\'s: pass base="adam" and normalize=True too, or momentum in '
            "place of them"
        )
    if base == "adam":
        return Normalized(adam)
    return Normalized(AsDirection(average)) if normalize else Dualized(average, method)


def _check_rule(rule: Rule, beside: Sequence[str]) -> None:
    """Raise if this is not a rule, or stands beside arguments that it makes meaningless."""
    if not isinstance(rule, Rule):
        raise TypeError(
            "rule is one of modula.optim's, such as Dualized(Momentum(0.9)), got "
            f"{type(rule).__name__}"
        )
    if beside:
        raise ValueError(
            f"rule={rule!r} has its own settings, and {beside[0]}, given beside it, would have no "
            "effect: give it to the rule, as in rule=Dualized(Momentum(momentum=0.9), method=None)"
        )
