"""Which saved states an optimizer takes, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor

from modula.checks import is_number
from modula.errors import StateMismatchError
from modula.optim.settings import check_lr, check_weight_decay

FOREIGN = "it was written by another optimizer, or with another base or rule"


def check_state_dict(
    state_dict: Mapping[str, object],
    names: Sequence[str],
    params: Sequence[Tensor],
    buffers: Sequence[str],
) -> None:
    """Raise if a state dict does not fit.

    Args:
        state_dict: as `optimizer.state_dict()` returns it.
        names, params: the optimizer's own, in parameter order.
        buffers: the names of its buffers of each parameter, which are shaped like it.

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
    if not isinstance(indices, Sequence):
        raise StateMismatchError("the saved state does not list its parameters: it is damaged")
    _check_names(group.get("param_names"), len(indices), names)
    for index, name, param in zip(indices, names, params, strict=True):
        saved = state.get(index, {})
        if not isinstance(saved, Mapping):
            raise StateMismatchError(
                f"the saved state of {name!r} is a dict, got {type(saved).__name__}"
            )
        _check_parameter(saved, name, param, buffers)
    _check_settings(group)


def _check_settings(group: Mapping[str, object]) -> None:
    if "skipped" not in group:
        raise StateMismatchError(
            "the saved state does not count skipped steps, as a SteepestDescent's does: another "
            "optimizer wrote it"
        )
    for name, check in (("lr", check_lr), ("weight_decay", check_weight_decay)):
        try:
            check(group.get(name, 0.0))
        except (TypeError, ValueError) as error:
            raise StateMismatchError(f"the saved state is damaged: {error}") from None


def _check_names(saved: object, count: int, names: Sequence[str]) -> None:
    if count != len(names):
        raise StateMismatchError(
            f"the saved state is of {count} parameters and this model has {len(names)}: it is of "
            "another model"
        )
    given = cast("Sequence[str]", saved or names)
    for i, (theirs, ours) in enumerate(zip(given, names, strict=True)):
        if theirs != ours:
            raise StateMismatchError(
                f"parameter {i} is {theirs!r} in the saved state and {ours!r} here: it is of "
                "another model"
            )


def _check_parameter(
    saved: Mapping[str, object], name: str, param: Tensor, buffers: Sequence[str]
) -> None:
    if not saved:
        return
    if not {"step", *buffers} <= set(saved):
        raise StateMismatchError(
            f"the saved state of {name!r} has {', '.join(map(str, saved))}, and this optimizer "
            f"keeps {', '.join(('step', *buffers))}: {FOREIGN}"
        )
    count = saved["step"]
    if not (isinstance(count, Tensor) and count.dim() == 0) and not is_number(count):
        raise StateMismatchError(
            f"the number of steps of {name!r} is a number, the saved state has "
            f"{type(count).__name__}: it is damaged"
        )
    for buffer in buffers:
        value = saved[buffer]
        if not isinstance(value, Tensor) or not value.is_floating_point():
            got = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise StateMismatchError(
                f"{buffer} of {name!r} is a floating-point tensor, the saved state has {got}"
            )
        if value.shape != param.shape:
            raise StateMismatchError(
                f"{buffer} of {name!r} is {list(value.shape)} in the saved state and its parameter "
                f"is {list(param.shape)}: it is of another model"
            )
