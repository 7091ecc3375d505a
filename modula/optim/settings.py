"""The settings of `SteepestDescent`: its parameter group, and checks of its values."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TypedDict

from torch import Tensor

from modula.checks import LARGEST, is_number


class Settings(TypedDict):
    """The one parameter group, less the settings of the rule.

    Schedulers write `lr` (and `momentum` or `betas`, where the rule has them); a step reads all of
    it anew.
    """

    params: list[Tensor]
    param_names: list[str]
    lr: float | Tensor
    weight_decay: float
    adapt_masses: float
    skipped: Tensor


SETTINGS = ("lr", "weight_decay", "adapt_masses", "skipped")
"""What every rule's parameter group has."""


def check_lr(lr: object) -> None:
    """Raise if `lr` is not a valid step size. The value of a tensor is not read.

    Raises:
        TypeError: neither a number nor a floating-point tensor.
        ValueError: negative, not finite, or a tensor of several numbers.
    """
    _check_number_or_tensor("lr", lr)


def check_weight_decay(weight_decay: object) -> None:
    """Raise if this is not a rate of decay, as `check_lr` does."""
    _check_number("weight_decay", weight_decay)


def check_adapt_masses(adapt_masses: object) -> None:
    """Raise if this is not a rate of drift, as `check_lr` does."""
    _check_number("adapt_masses", adapt_masses)


def check_settings(settings: Settings, names: Collection[str], *, adapts: bool) -> None:
    """Raise if the parameter group has been given a value that is none, by a schedule say.

    Args:
        settings: the parameter group. Values that are tensors are not read.
        names: of the settings that it must have.
        adapts: whether the optimizer keeps what drifting masses need.

    Raises:
        TypeError: a setting is of the wrong kind.
        ValueError: a setting is missing or out of range.
    """
    missing = [name for name in names if name not in settings]
    if missing:
        raise ValueError(
            f"the parameter group lacks {', '.join(map(repr, missing))}, which a step reads: "
            "someone has removed it since the optimizer was made"
        )
    check_lr(settings["lr"])
    rate: object = settings["adapt_masses"]
    _check_number_or_tensor("weight_decay", settings["weight_decay"])
    _check_number_or_tensor("adapt_masses", rate)
    if not adapts and not isinstance(rate, Tensor) and rate:
        raise ValueError(
            f"adapt_masses was 0 when the optimizer was made and is {rate} now: make a new one, "
            "SteepestDescent(model, lr=…, adapt_masses=…)"
        )


def check_momentum(momentum: object) -> None:
    """Raise if `momentum` is not a number in [0, 1). The value of a tensor is not read."""
    if isinstance(momentum, Tensor):
        _check_number_or_tensor("momentum", momentum)
    else:
        check_share("momentum", momentum)


def check_nesterov(nesterov: object) -> None:
    """Raise if `nesterov` is neither True nor False."""
    if not isinstance(nesterov, bool):
        raise TypeError(f"nesterov is True or False, got {nesterov!r}")


def check_adam(betas: object, eps: object) -> None:
    """Raise if these are not two numbers in [0, 1) and a number of at least 0."""
    if not (isinstance(betas, (tuple, list)) and len(betas) == 2):
        raise TypeError(f"betas are two numbers, got {betas!r}")
    for beta in betas:
        check_share("each of betas", beta)
    _check_number("eps", eps)


def _check_number(name: str, value: object) -> None:
    if not is_number(value):
        raise TypeError(f"{name} is a number, got {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is finite and at least 0, got {value}")
    if value > LARGEST:
        raise ValueError(f"{name} is at most {LARGEST:.1e}, got {value!s:.40}")


def _check_number_or_tensor(name: str, value: object) -> None:
    """Raise if this is no number. The value of a tensor is not read: that would wait for it."""
    if not isinstance(value, Tensor):
        _check_number(name, value)
        return
    if not value.is_floating_point():
        raise TypeError(f"{name} as a tensor is of floating-point dtype, got {value.dtype}")
    if value.dim() != 0:
        raise ValueError(
            f"{name} as a tensor has no axes, got the shape {list(value.shape)}: write "
            "torch.tensor(0.1)"
        )


def check_share(name: str, value: object) -> None:
    """Raise if a setting is not a number in [0, 1).

    Args:
        name: of the setting.
        value: of the setting.

    Raises:
        TypeError: it is not a number.
        ValueError: it is out of range.
    """
    _check_number(name, value)
    if is_number(value) and value >= 1:
        raise ValueError(
            f"{name} is below 1, got {value}: it is the share of the average that a step keeps"
        )
