"""Whether a checkpoint belongs to a model and an optimizer, decided before either is touched."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose

import torch
from torch import Tensor, nn

from modula.checkpoint.contents import Contents, Description, State, describe
from modula.checks import listed
from modula.errors import CheckpointError


def check_match(
    contents: Contents, model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> None:
    """Refuse a checkpoint of another model, of another kind of optimizer, or of another division of
    steps.

    Raises:
        CheckpointError: the first difference.
    """
    own = describe(model, optimizer)
    _check_modules(contents.description["modules"], own["modules"])
    _check_weights(contents.model, model.state_dict())
    if optimizer is not None:
        _check_optimizer(contents, own)
        _check_shares(contents.description["shares"], own["shares"])


def _check_modules(saved: Mapping[str, str], own: Mapping[str, str]) -> None:
    for path in [*own, *saved]:
        theirs, ours = saved.get(path, "nothing"), own.get(path, "nothing")
        if theirs != ours:
            place = f"at {path!r} it has" if path else "it is"
            raise CheckpointError(
                f"the checkpoint is of another model: {place} {theirs} in the checkpoint and "
                f"{ours} here"
            )


def _check_weights(saved: State, own: State) -> None:
    missing, unknown = (
        [name for name in own if name not in saved],
        [name for name in saved if name not in own],
    )
    if missing or unknown:
        raise CheckpointError(
            f"the checkpoint is of another model: it lacks {listed(missing)}, and has "
            f"{listed(unknown)} that this one lacks"
        )
    for name, ours in own.items():
        theirs = saved[name]
        if isinstance(ours, Tensor) != isinstance(theirs, Tensor) or (
            isinstance(ours, Tensor) and ours.shape != theirs.shape
        ):
            raise CheckpointError(
                f"the checkpoint is of another model: {name!r} is {_shape(theirs)} in the "
                f"checkpoint and {_shape(ours)} here"
            )


def _check_optimizer(contents: Contents, own: Description) -> None:
    saved = contents.description
    if contents.optimizer is None:
        raise CheckpointError(
            "the checkpoint holds no state of an optimizer: it was saved without one, so load it "
            "without one"
        )
    if saved["optimizer"] != own["optimizer"]:
        raise CheckpointError(
            f"the checkpoint is of another optimizer: {saved['optimizer']} in the checkpoint and "
            f"{own['optimizer']} here"
        )
    if saved["parameters"] != own["parameters"]:
        raise CheckpointError(
            "the checkpoint is of an optimizer with other parameters, or with the same ones in "
            "another order or other groups"
        )


def _check_shares(saved: Mapping[str, float] | None, own: Mapping[str, float] | None) -> None:
    """Weights that are divided up otherwise would make the run go on in another direction than it
    had.
    """
    for name, ours in (own or {}).items():
        theirs = (saved or {}).get(name, ours)
        if not isclose(theirs, ours, rel_tol=1e-9):
            raise CheckpointError(
                f"the run that was saved gave {name!r} {theirs:.4g} of a step, this model gives it "
                f"{ours:.4g}: masses or sensitivities were changed. Set them as they were "
                "(model.tare), or load the weights alone: load(path, model)"
            )


def _shape(value: object) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"
