"""Which saved states an optimizer takes, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from modula.checks import is_finite, is_number
from modula.errors import StateMismatchError
from modula.optim.adaptive_masses import LAST_UPDATE, LOG_MASS
from modula.optim.master_weights import MASTER
from modula.optim.rules import Buffer
from modula.optim.settings import check_adapt_masses, check_lr, check_weight_decay
from modula.vector import is_trainable, kind_of

FLOAT32 = torch.float32.itemsize

FOREIGN = "it was written by another optimizer, or with another base or rule"


def check_state_dict(
    state_dict: Mapping[str, object],
    names: Sequence[str],
    params: Sequence[Tensor],
    buffers: Sequence[Mapping[str, Buffer]],
    check_rule_settings: Callable[[Mapping[str, object]], None],
) -> None:
    """Raise if a state dict does not fit.

    Args:
        state_dict: as `optimizer.state_dict()` returns it.
        names, params: the optimizer's own, in parameter order.
        buffers: what it keeps for each parameter, by name.
        check_rule_settings: raises a TypeError or a ValueError for a parameter group with a setting
            that the optimizer's rule cannot use.

    Raises:
        StateMismatchError: the first difference, and what was expected.
    """
    state, groups = state_dict.get("state"), state_dict.get("param_groups")
    if not isinstance(state, Mapping) or not isinstance(groups, Sequence):
        raise StateMismatchError(
            'an optimizer\'s state has the entries "state" and "param_groups", got '
            f"{sorted(map(str, state_dict))}: pass the result of optimizer.state_dict()"
        )
    if len(groups) != 1 or not isinstance(groups[0], Mapping):
        raise StateMismatchError(
            f"SteepestDescent has one parameter group, the saved state has {len(groups)}: another "
            "optimizer wrote it"
        )
    group = groups[0]
    indices = group.get("params")
    if not isinstance(indices, list) or not all(isinstance(i, int | str) for i in indices):
        raise StateMismatchError("the saved state does not list its parameters: it is damaged")
    _check_names(group.get("param_names"), len(indices), names)
    for index, name, param, own in zip(indices, names, params, buffers, strict=True):
        saved = state.get(index, {})
        if not isinstance(saved, Mapping):
            raise StateMismatchError(
                f"the saved state of {name!r} is a dict, got {type(saved).__name__}"
            )
        _check_parameter(saved, name, param, own)
    _check_settings(group, check_rule_settings)


def check_state(
    state: Mapping[str, object],
    param: Tensor,
    kept: Mapping[str, Buffer],
    numbers: Sequence[str],
) -> None:
    """Raise if what an optimizer keeps for a parameter has been changed from outside.

    Args:
        state: of the parameter.
        param: the parameter.
        kept: the buffers that a step needs, by name. A buffer may have another dtype than theirs,
            as after `model.double()`, but not 16 bits in place of 32.
        numbers: the names of the single numbers that a step needs.

    Raises:
        StateMismatchError: an entry is missing, or of another shape, kind or device.
    """
    owner = f"a parameter of shape {list(param.shape)}"
    if MASTER in state:
        kept = {**kept, MASTER: Buffer(tuple(param.shape), torch.float32)}
    missing = [name for name in (*kept, *numbers) if name not in state]
    if missing:
        raise StateMismatchError(
            f"the state of {owner} lacks {missing[0]!r}, which a step needs: to begin anew remove "
            "the whole state, optimizer.state.clear()"
        )
    for name in numbers:
        number = state[name]
        if not isinstance(number, Tensor) or number.dim() or not _is_real(number):
            raise StateMismatchError(
                f"{name!r} of {owner} is a tensor of a real number without axes, got "
                f"{number!s:.60}: someone has replaced it"
            )
    for name, expected in kept.items():
        _check_buffer(f"{name!r} of {owner}", state[name], param, expected)


def _is_real(number: Tensor) -> bool:
    return not number.is_complex() and number.dtype != torch.bool


def _check_buffer(buffer: str, value: object, param: Tensor, expected: Buffer) -> None:
    """Raise if this value cannot be what is kept for a parameter."""
    if not isinstance(value, Tensor) or not is_trainable(value):
        raise StateMismatchError(
            f"{buffer} is {kind_of(value)[0]}, and a step needs a dense tensor of floating-point "
            "numbers: someone has replaced it"
        )
    if value.shape != expected.shape:
        raise StateMismatchError(
            f"{buffer} has the shape {list(value.shape)}, and a step needs "
            f"{list(expected.shape)}: someone has replaced it"
        )
    if value.device != param.device:
        raise StateMismatchError(
            f"{buffer} is on {value.device} and the parameter on {param.device}: after a move of "
            "the model load the state that was saved before it"
        )
    if value.dtype.itemsize < min(FLOAT32, expected.dtype.itemsize):
        raise StateMismatchError(
            f"{buffer} is {value.dtype}, and 16 bits lose a small gradient beside a large average: "
            f"leave it in {expected.dtype}"
        )


def _check_settings(
    group: Mapping[str, object], check_rule_settings: Callable[[Mapping[str, object]], None]
) -> None:
    if "skipped" not in group:
        raise StateMismatchError(
            "the saved state does not count skipped steps, as a SteepestDescent's does: another "
            "optimizer wrote it"
        )
    skipped = group["skipped"]
    if not (isinstance(skipped, Tensor) and skipped.dim() == 0) and not is_number(skipped):
        raise StateMismatchError(
            f"skipped is a number, the saved state has {type(skipped).__name__}: it is damaged"
        )
    checks: tuple[tuple[str, Callable[[object], None]], ...] = (
        ("lr", check_lr),
        ("weight_decay", check_weight_decay),
        ("adapt_masses", check_adapt_masses),
    )
    try:
        for name, check in checks:
            if name in group:
                check(group[name])
        check_rule_settings(group)
    except (TypeError, ValueError) as error:
        raise StateMismatchError(f"the saved state is damaged: {error}") from None


def _check_names(saved: object, count: int, names: Sequence[str]) -> None:
    if count != len(names):
        raise StateMismatchError(
            f"the saved state is of {count} parameters and this model has {len(names)}: it is of "
            "another model"
        )
    if saved is not None and not isinstance(saved, list | tuple):
        raise StateMismatchError(
            f"param_names of the saved state are a list, got {type(saved).__name__}: it is damaged"
        )
    given = cast("Sequence[str]", saved or names)
    if len(given) != len(names):
        raise StateMismatchError(
            f"the saved state names {len(given)} of its {count} parameters: it is damaged"
        )
    for i, (theirs, ours) in enumerate(zip(given, names, strict=True)):
        if theirs != ours:
            raise StateMismatchError(
                f"parameter {i} is {theirs!r} in the saved state and {ours!r} here: it is of "
                "another model"
            )


def _check_parameter(
    saved: Mapping[str, object], name: str, param: Tensor, buffers: Mapping[str, Buffer]
) -> None:
    if not saved:
        return
    numbers = ("step", LOG_MASS) if LAST_UPDATE in buffers else ("step",)
    if not {*numbers, *buffers} <= set(saved):
        raise StateMismatchError(
            f"the saved state of {name!r} has {', '.join(map(str, saved))}, and this optimizer "
            f"keeps {', '.join((*numbers, *buffers))}: {FOREIGN}"
        )
    count = saved["step"]
    if not (isinstance(count, Tensor) and count.dim() == 0) and not is_number(count):
        raise StateMismatchError(
            f"the number of steps of {name!r} is a number, the saved state has "
            f"{type(count).__name__}: it is damaged"
        )
    for scalar in sorted({"step", LOG_MASS} & set(saved)):
        number = saved[scalar]
        finite = is_finite(number)
        if isinstance(number, Tensor):
            finite = number.is_meta or (number.dim() == 0 and bool(number.isfinite()))
        if not finite:
            raise StateMismatchError(
                f"{scalar} of {name!r} is a finite number, the saved state has {number!r}: it is "
                "damaged"
            )
    shapes = {buffer: list(one.shape) for buffer, one in buffers.items()}
    if MASTER in saved:
        shapes[MASTER] = list(param.shape)
    for buffer, shape in shapes.items():
        value = saved[buffer]
        if not isinstance(value, Tensor) or not is_trainable(value):
            got = type(value).__name__
            if isinstance(value, Tensor):
                got = kind_of(value)[0]
            raise StateMismatchError(
                f"{buffer} of {name!r} is a floating-point tensor, the saved state has {got}"
            )
        if list(value.shape) != shape:
            here = "its parameter is" if shape == list(param.shape) else "this optimizer keeps"
            raise StateMismatchError(
                f"{buffer} of {name!r} is {list(value.shape)} in the saved state and {here} "
                f"{shape}: it is of another model"
            )
