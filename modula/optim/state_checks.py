"""Which saved states an optimizer takes, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from modula.errors import StateMismatchError


def check_state_dict(
    state_dict: Mapping[str, object],
    names: Sequence[str],
    params: Sequence[Tensor],
    buffers: Sequence[str],
) -> None:
    """Refuse a state dict that does not fit.

    Args:
        state_dict: as `optimizer.state_dict()` returns it.
        names, params: the optimizer's own, in parameter order.
        buffers: what it keeps for each parameter, shaped like it.

    Raises:
        StateMismatchError: the first difference, and what was expected.
    """
    state, groups = state_dict.get("state"), state_dict.get("param_groups")
    if not isinstance(state, Mapping) or not isinstance(groups, Sequence):
        raise StateMismatchError(
            'an optimizer\'s state has the entries "state" and "param_groups", got '
            f"{sorted(map(str, state_dict))}: pass what "
            "optimizer.state_dict() returned"
        )
    if len(groups) != 1:
        raise StateMismatchError(
            f"SteepestDescent has one parameter group, the saved state has {len(groups)}: another "
            "optimizer wrote it"
        )
    indices = groups[0]["params"]
    _check_names(groups[0].get("param_names"), len(indices), names)
    for index, name, param in zip(indices, names, params, strict=True):
        _check_parameter(state.get(index, {}), name, param, buffers)


def _check_names(saved: Sequence[str] | None, count: int, names: Sequence[str]) -> None:
    if count != len(names):
        raise StateMismatchError(
            f"the saved state is of {count} parameters and this model has {len(names)}: it is of "
            "another model"
        )
    for place, (theirs, ours) in enumerate(zip(saved or names, names, strict=True)):
        if theirs != ours:
            raise StateMismatchError(
                f"parameter {place} is {theirs!r} in the saved state and {ours!r} here: it is of "
                "another model"
            )


def _check_parameter(
    saved: Mapping[str, object], name: str, param: Tensor, buffers: Sequence[str]
) -> None:
    if saved and not set(buffers) <= set(saved):
        raise StateMismatchError(
            f"the saved state of {name!r} holds {', '.join(map(str, saved))}, and this optimizer "
            f"keeps {', '.join(buffers)}: it was written by another optimizer, or with another base"
        )
    for buffer in buffers:
        value = saved.get(buffer)
        if value is not None and not isinstance(value, Tensor):
            raise StateMismatchError(
                f"{buffer} of {name!r} is a tensor, the saved state has {type(value).__name__}"
            )
        if isinstance(value, Tensor) and value.shape != param.shape:
            raise StateMismatchError(
                f"{buffer} of {name!r} is {list(value.shape)} in the saved state and its parameter "
                f"is {list(param.shape)}: it is of another model"
            )
